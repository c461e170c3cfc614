"""Switches for speed: each makes a run faster and keeps its picture the same, up to rounding."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Switches:
    """The switches; each but `graphs` is on because it was measured to gain time (docs/decisions).

    memory: keep freed memory between the first step and the last, on a CPU under glibc.
    constants: compute the control picture's features and the cross-attentions' keys and values once, not in each step.
    prefix: compute the layers before the first text attention once for both prompts of guidance.
    channels_last: keep a pixel's channels together in memory, on a CPU in bf16, where convolutions are faster so.
    attention: prefer cuDNN's attention on Hopper GPUs.
    graphs: record a prediction once for each shape and replay it, on CUDA. Off until a GPU has run it: `--graphs`.
    """

    memory: bool = True
    constants: bool = True
    prefix: bool = True
    channels_last: bool = True
    attention: bool = True
    graphs: bool = False


ALL = Switches()
