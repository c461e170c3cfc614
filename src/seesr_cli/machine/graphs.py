"""A computation of fixed shapes is recorded on CUDA once, and replayed: one launch in the place of two thousand.

A recording is trusted once it has given what the computation itself gives. Whatever goes wrong with one, the run goes
on without any, and says so: no picture fails for the sake of its speed.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .out_of_memory import ran_out, release

Compute = Callable[..., Tensor]
"""From tensors to a tensor, the same way each time: nothing in it may ask the device for a number."""

Run = Callable[[float, Compute, tuple[Tensor, ...]], Tensor]
"""Computes from tensors. Equal computations on tensors of equal shapes have equal numbers given first."""

Replay = Callable[[], Tensor]
"""Computes from the tensors that it was recorded with, as they are now."""

SHAPES = 4
"""Recordings that are kept: each holds the memory of a prediction. A picture needs four at most: its calls differ by
one tile, and there may be guidance on an interval."""

WARM_UPS = 3
"""Runs before a recording, in which libraries choose their kernels; as torch's documentation has it."""

WORTH = 4 * (WARM_UPS + 2)
"""Computations of one shape from which on recording pays: it takes as many as it warms up with, itself and a
comparison, and what others measured (1.6 to 2.2 times the speed) brings that in after 9 to 14 replays."""

LAST_BITS = 10
"""Of the precision that is computed in: how far a replay may be from the computation, relative to its norm."""

NO_MEMORY = "there is not the memory"

TF32_EPS = 2**-10
"""What float32 is computed in on a GPU, by its convolutions."""


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

    notes: what the person should know of them, a sentence each, until somebody has taken it from there.
    """

    def __init__(self, record: Callable[[Compute, list[Tensor]], Replay] = record) -> None:
        self.notes: list[str] = []
        self._record = record
        self._trusted = True
        self._known: dict[tuple[object, ...], Recorded] = {}
        self._asked: Counter[tuple[object, ...]] = Counter()

    def expecting(self, calls: int) -> Run:
        """Return the run of computations of which each shape is asked for `calls` times or more in one picture.

        A shape is recorded where that is WORTH it, or it was asked for so often in the pictures before. Tensors given
        must not be changed afterwards.
        """
        return partial(self._run, calls)

    def forget(self) -> None:
        """Free the memory of all recordings, as when it has become short."""
        self._known.clear()

    def _run(self, calls: int, number: float, compute: Compute, tensors: tuple[Tensor, ...]) -> Tensor:
        key = (number, *(tuple(tensor.shape) for tensor in tensors))
        if (known := self._known.pop(key, None)) is not None:
            self._known[key] = known  # the last one used is the last one forgotten
            return known.follow(tensors)
        result = compute(*tensors)
        self._asked[key] += 1
        # What is not finite compares with nothing.
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
        """Return a recording whose first replay is `result`, or what is wrong with it.

        It is made on zeros: one that had kept a number of its making, and not read it each time, would show.
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
        """Free all recordings; make no more, unless memory ran out and there were others that held it."""
        held = bool(self._known)
        self.forget()
        release()
        if not (held and why == NO_MEMORY):
            self._trusted = False
            self.notes.append(f"The networks are run without CUDA graphs from now on, which is slower: {why}.")
