"""Pictures whose fine texture a small picture cannot tell: smooth colour fields under one of six textures.

A texture has a period of 4.6 to 6.2 pixels, which a fourth of the size cannot hold. What is left of it there is decided
here: nothing at all, or a weak hint.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seesr_cli.training import kernels
from seesr_cli.training.degradation import blur
from seesr_cli.training.pairs import whole

TEXTURES = ("rows", "columns", "rising", "falling", "dots", "checker")
"""Six words that share no piece of a word. rising and falling: lines along the two diagonals, seen from the left."""

LEARNT = (*range(len(TEXTURES)), TEXTURES.index("dots"), TEXTURES.index("checker"))
"""Numbers of the textures in the order in which they are learnt from: those of crossing waves, learnt last, twice."""

SIDE = 64
SCALE = 4
PERIOD = (4.6, 6.2)
"""Of a wave, in pixels across its lines."""

STRENGTH = (0.2, 0.28)
"""Root of twice the mean square of the texture, in [0, 1]."""

BLUR = 4.0
"""Deviation of the blur before a picture is made small, pixels: of a period of 6.2 it leaves 3 in 10,000."""

MARGIN = 12
"""Pixels around a square that the blur sees too: a wave that a border mirrored would leave a trace there."""

HINT = 0.15
"""Share of the small picture that is taken without a blur, where a hint is left."""


WIDE = SIDE + 2 * MARGIN


class Square(NamedTuple):
    """A picture with its texture, and its small pictures, without a hint and with one: all uint8 RGB.

    texture: number in `TEXTURES`. clean: [3, SIDE, SIDE]. bare, hinted: [3, SIDE / SCALE, SIDE / SCALE].
    """

    texture: int
    clean: Tensor
    bare: Tensor
    hinted: Tensor


def squares(count: int, seed: int, textures: Sequence[int] = range(len(TEXTURES))) -> list[Square]:
    """Return `count` pictures with the textures of these numbers in turn."""
    generator = torch.Generator().manual_seed(seed)
    return [square(textures[number % len(textures)], generator) for number in range(count)]


def square(texture: int, generator: torch.Generator) -> Square:
    """Return a picture with the texture of this number."""
    strength = _between(*STRENGTH, generator)
    wide = (_field(generator) + strength * _waves(TEXTURES[texture], generator)).clamp(0, 1)
    return Square(texture, whole(_inside(wide)), whole(_small(wide, 0.0)), whole(_small(wide, HINT)))


def _small(wide: Tensor, hint: float) -> Tensor:
    """Return the inside of a picture at a fourth of its size.

    hint: share that is taken without a blur, so that the texture leaves a trace.
    """
    smooth = blur(wide, kernels.gaussian(2 * math.ceil(3 * BLUR) + 1, (BLUR, BLUR)))
    mixed = _inside((1 - hint) * smooth + hint * wide)
    # the middle of each square of four by four
    return F.avg_pool2d(mixed[:, 1:-1, 1:-1], 2, SCALE)


def _inside(wide: Tensor) -> Tensor:
    return wide[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def _field(generator: torch.Generator) -> Tensor:
    """Return a smooth field of colours that leaves room for the texture."""
    coarse = 0.32 + 0.36 * torch.rand(1, 3, 5, 5, generator=generator)
    wide = F.interpolate(coarse, (WIDE, WIDE), mode="bicubic", align_corners=True)
    return wide[0].clamp(0.28, 0.72)


def _waves(name: str, generator: torch.Generator) -> Tensor:
    """Return the texture [WIDE, WIDE] with a mean square of a half."""
    frequency = 1 / _between(*PERIOD, generator)
    slanted = frequency / math.sqrt(2)
    directions = {
        "rows": [(0.0, frequency)],
        "columns": [(frequency, 0.0)],
        "rising": [(slanted, slanted)],
        "falling": [(slanted, -slanted)],
    }
    directions["dots"] = directions["rows"] + directions["columns"]
    directions["checker"] = directions["rising"] + directions["falling"]
    axis = torch.arange(WIDE, dtype=torch.float32)
    waves = [
        torch.cos(2 * math.pi * (across * axis + down * axis[:, None] + _between(0, 1, generator)))
        for across, down in directions[name]
    ]
    return torch.stack(waves).sum(0) / math.sqrt(len(waves))


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
