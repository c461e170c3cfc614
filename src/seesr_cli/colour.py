"""The result takes the colours of the input.

All functions take the result and its reference, [1, 3, H, W], RGB in [0, 1], of one size, and return that shape, not
clamped. Computed in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .settings import Colour

EPSILON = 1e-5
"""Added to a channel's variance, as published."""

LEVELS = 5
"""Of the à-trous decomposition, as published: frequencies below about 1/32 per pixel are the reference's."""


def align(result: Tensor, reference: Tensor, method: Colour) -> Tensor:
    """Return `result` with the colours of `reference`, in [0, 1]."""
    match method:
        case "adain":
            aligned = adain(result, reference)
        case "wavelet":
            aligned = wavelet(result, reference)
        case "none":
            aligned = result
    return aligned.clamp(0, 1)


def adain(result: Tensor, reference: Tensor) -> Tensor:
    """Return `result` with each channel's mean and deviation those of `reference` (arXiv 1703.06868)."""
    mean, deviation = _moments(result)
    wanted_mean, wanted_deviation = _moments(reference)
    return (result - mean) / deviation * wanted_deviation + wanted_mean


def wavelet(result: Tensor, reference: Tensor) -> Tensor:
    """Return the high frequencies of `result` on the low frequencies of `reference` (à-trous, arXiv 2305.07015)."""
    return result - low_frequencies(result) + low_frequencies(reference)


def low_frequencies(pixels: Tensor) -> Tensor:
    """Return [1, C, H, W] after LEVELS blurs by [1 2 1]⊗[1 2 1]/16, the i-th dilated by 2^i, borders repeated."""
    channels = pixels.shape[1]
    row = pixels.new_tensor([1, 2, 1]) / 4
    across = row.view(1, 1, 1, 3).expand(channels, 1, 1, 3)
    down = row.view(1, 1, 3, 1).expand(channels, 1, 3, 1)
    for level in range(LEVELS):
        reach = 2**level
        padded = F.pad(pixels, (reach,) * 4, mode="replicate")
        pixels = F.conv2d(
            F.conv2d(padded, across, groups=channels, dilation=reach), down, groups=channels, dilation=reach
        )
    return pixels


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(pixels, dim=(-2, -1), keepdim=True)
    return mean, (variance + EPSILON).sqrt()
