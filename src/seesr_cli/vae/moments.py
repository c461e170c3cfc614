"""Take the statistics of a map over its parts, and normalise by them: one group norm for the whole map."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sizes import Size
from .steps import Box

CHUNK = 2**18
"""Numbers of which moments are taken at once on a CPU: they stay in its cache."""


class Norm(NamedTuple):
    """A group norm with given statistics: `mean` and `variance` of the group of each channel, float32."""

    module: nn.GroupNorm
    mean: Tensor
    variance: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return `features` [1, C, H, W] normalised."""
        # With statistics from outside a group norm is what a batch norm is at inference.
        weight, bias = self.module.weight.float(), self.module.bias.float()
        return F.batch_norm(features, self.mean, self.variance, weight, bias, False, 0.0, self.module.eps)


class Moments:
    """Sum and sum of squares of every channel over the parts of a map that were added."""

    def __init__(self) -> None:
        self._count = 0
        self._pivot = self._sum = self._squares = torch.zeros(0)

    def add(self, part: Tensor) -> None:
        """Count `part`, [1, C, h, w], channels last."""
        positions = part.permute(0, 2, 3, 1).flatten(0, 2)
        if not self._count:
            # Sums of squares lose no digits where they are taken around something near the mean.
            self._pivot = positions[:256].float().mean(0)
            self._sum = self._squares = torch.zeros(part.shape[1], dtype=torch.float64)
        self._count += len(positions)
        at_once = max(1, (CHUNK if part.device.type == "cpu" else 256 * CHUNK) // part.shape[1])
        for chunk in torch.split(positions, at_once):
            offsets = chunk.float() - self._pivot
            ones = offsets.new_ones(1, len(offsets))
            self._sum = self._sum + (ones @ offsets)[0].cpu().double()
            self._squares = self._squares + (ones @ offsets.square_())[0].cpu().double()

    def norm(self, module: nn.GroupNorm) -> Norm:
        """Return `module` with the statistics of all maps that were added."""
        offset = self._sum / self._count
        mean = (self._pivot.cpu().double() + offset).view(module.num_groups, -1)
        variance = (self._squares / self._count - offset.square()).view(module.num_groups, -1)
        # Law of total variance: within the channels of a group, and between them.
        variance = variance.mean(1) + mean.var(1, correction=0)
        repeats, device = mean.shape[1], self._pivot.device
        return Norm(
            module,
            mean.mean(1).repeat_interleave(repeats).float().to(device),
            variance.clamp(min=0).repeat_interleave(repeats).float().to(device),
        )


class Rest:
    """A map that rests whole on the device `home` between two steps, and its moments so far."""

    def __init__(self, width: int, size: Size, dtype: torch.dtype, home: torch.device) -> None:
        shape = (1, width, *size)
        self.features = torch.empty(shape, dtype=dtype, device=home, memory_format=torch.channels_last)
        self.moments = Moments()

    def anew(self) -> "Rest":
        """Return this map, to be written over: its moments are to be counted from nothing."""
        self.moments = Moments()
        return self

    def read(self, box: Box) -> Tensor:
        """Return `box` of the map, where it rests."""
        return box.cut(self.features)

    def write(self, box: Box, part: Tensor) -> None:
        """Let `part` be `box` of the map from now on, and count it."""
        self.moments.add(part)
        box.put(self.features, part)
