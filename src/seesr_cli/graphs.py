"""A computation of fixed shapes is recorded on CUDA once, and replayed: one launch in the place of two thousand."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Compute = Callable[..., Tensor]
"""From tensors to a tensor, the same way each time: nothing in it may ask the device for a number."""

Run = Callable[[float, Compute, tuple[Tensor, ...]], Tensor]
"""Computes from tensors. Equal computations on tensors of equal shapes have equal numbers given first."""

Replay = Callable[[], Tensor]
"""Computes from the tensors that it was recorded with, as they are now."""

SHAPES = 4
"""Recordings that are kept: each holds the memory of a prediction. A picture needs two at most."""

WARM_UPS = 3
"""Runs before a recording, in which libraries choose their kernels; as torch's documentation has it."""


def straight(number: float, compute: Compute, tensors: tuple[Tensor, ...]) -> Tensor:
    """Return what `compute` gives, computed as usual."""
    return compute(*tensors)


class Recorded(NamedTuple):
    """A recording, the tensors that it reads, and what was last put into them."""

    replay: Replay
    slots: list[Tensor]
    given: list[Tensor]


def record(compute: Compute, slots: list[Tensor]) -> Replay:
    """Return the replay of `compute` on `slots`, recorded on their CUDA device."""
    aside = torch.cuda.Stream(slots[0].device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(slots[0].device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            compute(*slots)
    torch.cuda.current_stream(slots[0].device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute(*slots)

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


class Graphs:
    """The recordings of one pair of networks; called, it is a `Run`."""

    def __init__(self, record: Callable[[Compute, list[Tensor]], Replay] = record) -> None:
        self._record = record
        self._known: dict[tuple[object, ...], Recorded] = {}

    def __call__(self, number: float, compute: Compute, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return what `compute` gives, replayed where it was recorded with this number and these shapes.

        What is put into the recording's own tensors is only what is not there yet: of a picture's constants nothing,
        from its second step on. Tensors given must not be changed afterwards.
        """
        key = (number, *(tuple(tensor.shape) for tensor in tensors))
        known = self._known.pop(key, None)
        if known is None:
            while len(self._known) >= SHAPES:
                del self._known[next(iter(self._known))]
            slots = [tensor.clone() for tensor in tensors]
            known = Recorded(self._record(compute, slots), slots, list(tensors))
        self._known[key] = known  # the last one used is the last one forgotten
        for place, tensor in enumerate(tensors):
            if known.given[place] is not tensor:
                known.slots[place].copy_(tensor)
                known.given[place] = tensor
        return known.replay()

    def forget(self) -> None:
        """Free the memory of all recordings, as when it has become short."""
        self._known.clear()
