"""Switches for speed: each makes a run faster and keeps its picture the same, up to rounding."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Switches:
    """The switches; each but `graphs` is on because it was measured to gain time (docs/decisions).

    memory: on a CPU under glibc memory that is freed between the first step and the last is kept for the next tensor.
    constants: what is equal at every step (the control picture's features, keys and values of what is read) is computed
        once, not each time.
    prefix: what both guidance halves compute alike, all that precedes the first text attention, is computed once.
    channels_last: on a CPU in bf16 a pixel's channels lie together in memory, as its convolutions like it.
    attention: on Hopper GPUs cuDNN's attention is preferred.
    graphs: on CUDA a prediction is recorded once for each shape and replayed, as far as that is seen to be right. Off
        until a GPU has run it: `--graphs` turns it on.
    """

    memory: bool = True
    constants: bool = True
    prefix: bool = True
    channels_last: bool = True
    attention: bool = True
    graphs: bool = False


ALL = Switches()
