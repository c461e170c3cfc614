"""Describe the course of one map through the steps of a VAE: its sizes and its plan."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..sizes import Size
from .steps import Box, Layer, VAEStep


class Course(NamedTuple):
    """Steps and the sizes of their maps: steps[i] makes a map of sizes[i + 1] from one of sizes[i]."""

    steps: tuple[VAEStep, ...]
    sizes: tuple[Size, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, steps: Sequence[VAEStep], size: Size) -> "Course":
        """Return the course of `steps`, the first of which is a layer, over a map of `size`."""
        sizes = [size]
        for step in steps:
            sizes.append(step.size(sizes[-1]) if isinstance(step, Layer) else sizes[-1])
        course = cls(tuple(steps), tuple(sizes), torch.float32, torch.device("cpu"))
        weight = course.layer(0).conv.weight
        return course._replace(dtype=weight.dtype, device=weight.device)

    def reduced(self, index: int, size: Size) -> "Course":
        """Return the course in which steps[index] is given a map of `size`."""
        later = Course.of(self.steps[index:], size).sizes
        return self._replace(sizes=(*self.sizes[:index], *later))

    def layer(self, index: int) -> Layer:
        """Return steps[index], which is a layer."""
        step = self.steps[index]
        assert isinstance(step, Layer)
        return step

    def width(self, index: int) -> int:
        """Return the channels of the map that steps[index] is given."""
        step = self.steps[index]
        return step.conv.in_channels if isinstance(step, Layer) else step.width

    def bytes_of(self, index: int) -> int:
        """Return the bytes of the map that steps[index] is given."""
        return math.prod(self.sizes[index]) * self.width(index) * self.dtype.itemsize

    def path(self, span: tuple[int, int], box: Box) -> list[Box]:
        """Return the boxes that the layers span[0] to span[1] read, in order, to compute `box`."""
        boxes = [box]
        for index in reversed(range(*span)):
            boxes.insert(0, self.layer(index).reads(boxes[0], self.sizes[index]))
        return boxes


class Plan(NamedTuple):
    """How a map goes through the steps of a course.

    first, last: the steps from `first` up to `last` are joined; all are exact where the two are the same. piece: size
    of what is made of their output at once. reduction: their norms are measured on a map smaller by it. rows: of the
    output of each exact step, made at once. hosted: features rest in the host's memory and not on the device.
    memory: bytes in use on the device at most. overhead: operations of the joined convolutions over those without
    pieces, the reduced map's included.
    """

    first: int
    last: int
    piece: Size
    reduction: int
    rows: tuple[int, ...]
    hosted: bool
    memory: int
    overhead: float


def here(part: Tensor, course: Course) -> Tensor:
    """Return `part` as the networks of the course take it: on their device, in their precision, channels last."""
    return part.to(course.device, course.dtype).contiguous(memory_format=torch.channels_last)
