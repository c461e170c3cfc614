"""Record a computation of fixed shapes as a CUDA graph and replay it: one launch instead of two thousand.

A recording is trusted once its replay equals the computation. If a recording goes wrong, the run goes on without graphs
and says so: no picture fails because of a graph.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .out_of_memory import ran_out, release

Compute = Callable[..., Tensor]
"""Computes a tensor from tensors, the same way each time, without reading a number back from the device."""

Run = Callable[[float, Compute, tuple[Tensor, ...]], Tensor]
"""Runs a computation on tensors. Its first argument, a number, tells different computations on equal shapes apart."""

Replay = Callable[[], Tensor]
"""Repeats a recorded computation on the present content of the tensors that it was recorded with."""

SHAPES = 4
"""Most recordings that are kept: each holds the memory of a prediction. One picture needs four at most, since its calls
differ by one tile, and guidance may be on an interval."""

WARM_UPS = 3
"""Runs before a recording, in which libraries choose their kernels. The number is that of torch's documentation."""

WORTH = 4 * (WARM_UPS + 2)
"""Computations of one shape from which on a recording pays. It costs its warm-ups, itself and a comparison. At 1.6 to
2.2 times the speed, which others measured, 9 to 14 replays bring that in."""

LAST_BITS = 10
"""Largest distance of a replay from the computation, relative to its norm, in units of the precision."""

NO_MEMORY = "there is not the memory"

TF32_EPS = 2**-10
"""Precision of float32 convolutions on a GPU."""


def straight(number: float, compute: Compute, tensors: tuple[Tensor, ...]) -> Tensor:
    """Return the result of `compute`, computed without a graph."""
    return compute(*tensors)


class Recorded(NamedTuple):
    """A recording, its input tensors, and the tensors that were last copied into them."""

    replay: Replay
    slots: list[Tensor]
    given: list[Tensor | None]

    def follow(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return the recording's result for `tensors`; inputs that are unchanged are not copied again."""
        for place, tensor in enumerate(tensors):
            if self.given[place] is not tensor:
                self.slots[place].copy_(tensor)
                self.given[place] = tensor
        return self.replay()


def record(compute: Compute, slots: list[Tensor]) -> Replay:
    """Return the replay of `compute` on `slots`, recorded on their CUDA device."""
    device = slots[0].device
    before, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    # The outer `stream` leads back even where a recording that fails does not.
    with torch.cuda.device(device), torch.cuda.stream(before):
        aside.wait_stream(before)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                compute(*slots)
        before.wait_stream(aside)
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            result = compute(*slots)

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


class Graphs:
    """The recordings of one pair of networks.

    notes: sentences for the person, until the caller takes them.
    """

    def __init__(self, record: Callable[[Compute, list[Tensor]], Replay] = record) -> None:
        self.notes: list[str] = []
        self._record = record
        self._trusted = True
        self._known: dict[tuple[object, ...], Recorded] = {}
        self._asked: Counter[tuple[object, ...]] = Counter()

    def expecting(self, calls: int) -> Run:
        """Return a Run for computations that occur at least `calls` times for each shape in one picture.

        A shape is recorded after WORTH computations, counted over all pictures, or at once if `calls` promises them.
        Tensors that are given must not be changed afterwards.
        """
        return partial(self._run, calls)

    def forget(self) -> None:
        """Free the memory of all recordings."""
        self._known.clear()

    def _run(self, calls: int, number: float, compute: Compute, tensors: tuple[Tensor, ...]) -> Tensor:
        key = (number, *(tuple(tensor.shape) for tensor in tensors))
        if (known := self._known.pop(key, None)) is not None:
            self._known[key] = known  # the last one used is the last one forgotten
            return known.follow(tensors)
        result = compute(*tensors)
        self._asked[key] += 1
        # A result that is not finite cannot be compared.
        if self._trusted and max(self._asked[key], calls) >= WORTH and result.isfinite().all():
            while len(self._known) >= SHAPES:
                del self._known[next(iter(self._known))]
            made = self._tried(compute, tensors, result)
            if isinstance(made, Recorded):
                self._known[key] = made
            else:
                self._give_up(made)
        return result

    def _tried(self, compute: Compute, tensors: tuple[Tensor, ...], result: Tensor) -> Recorded | str:
        """Return a recording whose first replay equals `result`, or the reason why there is no such recording.

        It is made on zeros. So a recording that kept a number, instead of reading it anew, shows in the comparison.
        """
        try:
            slots = [torch.zeros_like(tensor) for tensor in tensors]
            made = Recorded(self._record(compute, slots), slots, [None] * len(slots))
            distance = (made.follow(tensors).float() - result.float()).norm() / result.float().norm()
            if not distance <= LAST_BITS * max(torch.finfo(result.dtype).eps, TF32_EPS):
                return f"a replay was {float(distance):.1e} away from the computation"
        except Exception as error:  # of any kind: what was asked for is there without a recording
            return NO_MEMORY if ran_out(error) else str(error).partition("\n")[0] or type(error).__name__
        return made

    def _give_up(self, why: str) -> None:
        """Free all recordings and make no more, unless memory ran out and other recordings held it."""
        held = bool(self._known)
        self.forget()
        release()
        if not (held and why == NO_MEMORY):
            self._trusted = False
            self.notes.append(f"The networks are run without CUDA graphs from now on, which is slower: {why}.")
