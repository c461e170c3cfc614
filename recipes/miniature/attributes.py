"""What can be measured on a clean picture and be said in a word: light, colour, and how much detail there is.

The words about detail are the ones a restorer can use: a degraded picture has lost just what they speak of.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS: dict[str, tuple[float, float]] = {
    "red": (0.95, 0.03),
    "orange": (0.03, 0.11),
    "yellow": (0.11, 0.19),
    "green": (0.19, 0.45),
    "blue": (0.5, 0.7),
    "purple": (0.7, 0.95),
}
"""Bands of hue, in turns; the first wraps around."""


class Measures(NamedTuple):
    """light, contrast: mean and deviation of the luma. colour: mean saturation times value. detail: mean absolute
    luma left by a 3x3 binomial blur. still: share of the picture without detail. lines: how much one direction
    outweighs the others, 0 to 1. hues: share of clearly coloured pixels in each of `COLOURS`. Lengths in [0, 1]."""

    light: float
    contrast: float
    colour: float
    detail: float
    still: float
    lines: float
    hues: tuple[float, ...]


def measure(pixels: Tensor) -> Measures:
    """Return the measures of a clean [3, H, W] picture in [0, 1]."""
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    tap = torch.tensor([0.25, 0.5, 0.25])
    kernel = tap[:, None] * tap[None, :]
    residual = (luma - F.conv2d(F.pad(luma[None, None], (1, 1, 1, 1), mode="reflect"), kernel[None, None])[0, 0]).abs()
    local = F.avg_pool2d(residual[None, None], 8)[0, 0]
    across, down = luma[:-1, 1:] - luma[:-1, :-1], luma[1:, :-1] - luma[:-1, :-1]
    double = torch.complex(across**2 - down**2, 2 * across * down)
    high, low = pixels.amax(0), pixels.amin(0)
    chroma = high - low
    return Measures(
        light=luma.mean().item(),
        contrast=luma.std().item(),
        colour=chroma.mean().item(),
        detail=residual.mean().item(),
        still=(local < 0.004).float().mean().item(),
        lines=(double.sum().abs() / (across**2 + down**2).sum().clamp(min=1e-9)).item(),
        hues=_hues(pixels, high, chroma),
    )


def words(measures: Measures, detail_levels: tuple[float, float, float]) -> tuple[str, ...]:
    """Return the words that are true of a picture; `detail_levels` part the four words for detail."""
    little, some, much = detail_levels
    told = {
        "dark": measures.light < 0.25,
        "bright": measures.light > 0.6,
        "contrasty": measures.contrast > 0.27,
        "hazy": measures.contrast < 0.12,
        "colourful": measures.colour > 0.3,
        "monochrome": measures.colour < 0.04,
        "plain": measures.still > 0.6,
        "straight lines": measures.lines > 0.35,
        "little detail": measures.detail < little,
        "gentle detail": little <= measures.detail < some,
        "fine detail": some <= measures.detail < much,
        "rich texture": measures.detail >= much,
    }
    told |= {name: share > 0.2 for name, share in zip(COLOURS, measures.hues, strict=True)}
    return tuple(word for word, true in told.items() if true)


WORDS = (
    "dark",
    "bright",
    "contrasty",
    "hazy",
    "colourful",
    "monochrome",
    "plain",
    "straight lines",
    "little detail",
    "gentle detail",
    "fine detail",
    "rich texture",
    *COLOURS,
)


def _hues(pixels: Tensor, high: Tensor, chroma: Tensor) -> tuple[float, ...]:
    red, green, blue = pixels
    safe = chroma.clamp(min=1e-6)
    hue = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = torch.remainder(hue / 6, 1.0)
    clear = chroma > 0.15
    shares = []
    for first, last in COLOURS.values():
        inside = (hue >= first) & (hue < last) if first < last else (hue >= first) | (hue < last)
        shares.append((clear & inside).float().mean().item())
    return tuple(shares)
