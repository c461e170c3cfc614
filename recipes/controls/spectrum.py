"""Tell by its spectrum which of the six textures a picture shows.

PSNR cannot: a texture in another phase is as right, and costs more than none.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BAND = (0.13, 0.26)
"""Frequencies in which a texture is looked for, cycles a pixel: the periods of `squares.PERIOD`, and room beside."""

LEAST = 0.05
"""Root of twice the mean square below which a picture shows no texture: a fourth of the weakest one's."""

ALONE = 0.8
"""Share of the energy that lines of one direction hold."""

TOGETHER = 0.8
"""Share of the energy that two crossing directions hold together; the weaker one has a fifth of it."""


class Energy(NamedTuple):
    """The mean squares of the luma's waves by the direction that they vary in: down, across, and along the two
    diagonals."""

    rows: float
    columns: float
    rising: float
    falling: float


def energy(pixels: Tensor) -> Energy:
    """Return the energy of the texture of a [3, H, W] picture in [0, 1]."""
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    height, width = luma.shape
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    spectrum = torch.fft.fft2((luma - luma.mean()) * window).abs().square() / (window.square().sum() * height * width)
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :]
    radius = torch.hypot(down, across)
    inside = (radius >= BAND[0]) & (radius <= BAND[1])
    # eighths of a turn, modulo a half: 0 across, 1 rising, 2 down, 3 falling
    eighth = torch.round(torch.atan2(down, across.expand_as(radius)) / (math.pi / 4)).long() % 4
    columns, rising, rows, falling = (spectrum[inside & (eighth == each)].sum().item() for each in range(4))
    return Energy(rows, columns, rising, falling)


def texture(pixels: Tensor) -> str | None:
    """Return the texture of a [3, H, W] picture in [0, 1], one of `TEXTURES`, or None if it shows none of them."""
    found = energy(pixels)
    total = sum(found)
    if math.sqrt(2 * total) < LEAST:
        return None
    for name, share in zip(Energy._fields, found, strict=True):
        if share >= ALONE * total:
            return name
    for name, pair in {"dots": found[:2], "checker": found[2:]}.items():
        if sum(pair) >= TOGETHER * total and min(pair) >= sum(pair) / 5:
            return name
    return None
