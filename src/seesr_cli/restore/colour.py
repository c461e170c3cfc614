"""Give the result the colours of the input.

All functions take the result and its reference, both [1, 3, H, W], RGB in [0, 1], and return the same shape. Only
`align` clamps. They compute in float32, and sums over the whole picture in float64.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings import Colour

EPSILON = 1e-5
"""Added to the variance of a channel, as published."""

LEVELS = 5
"""Levels of the à-trous decomposition, as published: frequencies below about 1/32 per pixel are the reference's."""

REACH = 2**LEVELS - 1
"""Pixels that the blurs of all levels reach to each side: the sum of their dilations."""

BAND = 2**20
"""Pixels of the result that are computed at once."""

Moments = tuple[Tensor, Tensor]
"""Mean and deviation of each channel, [1, C, 1, 1], float32."""


@torch.inference_mode()
def align(
    result: Tensor,
    reference: Tensor,
    method: Colour,
    strength: float = 1.0,
    moments: tuple[Moments, Moments] | None = None,
) -> Tensor:
    """Return `result`, written over in place, with the colours of `reference`, clamped to [0, 1].

    Besides the two pictures it takes memory for a few bands of rows only, whatever their size.

    strength: share of the aligned picture in what is returned, 0 to 1; the rest is `result` as it was.
    moments: of result and reference for AdaIN; None: those of what is given.
    """
    height, width = result.shape[-2:]
    rows = max(REACH, BAND // width)
    if method == "adain" and moments is None:
        moments = _moments(result), _moments(reference)
    done: tuple[Tensor, Tensor] | None = None
    for top in range(0, height, rows):
        first, last = max(0, top - REACH), min(height, top + rows + REACH)
        seen = result[..., first:last, :]
        match method:
            case "adain":
                assert moments is not None
                band = _recoloured(seen, *moments)
            case "wavelet":
                band = wavelet(seen, reference[..., first:last, :].to(result.device))
            case "none":
                band = seen
        if strength < 1:
            band = torch.lerp(seen, band, strength)
        # The next band must see the last rows of this one unchanged, so a band is written one turn later.
        if done is not None:
            done[0].copy_(done[1])
        target = result[..., top : top + rows, :]
        done = target, band[..., top - first : top - first + target.shape[-2], :].clamp(0, 1)
    if done is not None:
        done[0].copy_(done[1])
    return result


def adain(result: Tensor, reference: Tensor) -> Tensor:
    """Return `result` with the mean and deviation of each channel of `reference` (AdaIN, arXiv 1703.06868)."""
    return _recoloured(result, _moments(result), _moments(reference))


def expected_moments(result: Tensor, reference: Tensor, whole: Tensor) -> tuple[Moments, Moments]:
    """Return the moments of a whole result, of which only a part is known, and those of its reference.

    Mean and variance of the rest are taken to change as they do in the known part.

    result, reference: of the known part. whole: the reference of all.
    """
    (mean, deviation), (part_mean, part_deviation), (whole_mean, whole_deviation) = map(
        _moments, (result, reference, whole)
    )
    variance = whole_deviation.square() + deviation.square() - part_deviation.square()
    expected = whole_mean + mean - part_mean, variance.clamp_min(EPSILON).sqrt()
    return expected, (whole_mean, whole_deviation)


def wavelet(result: Tensor, reference: Tensor) -> Tensor:
    """Return the high frequencies of `result` plus the low ones of `reference` (à-trous, arXiv 2305.07015)."""
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


def _recoloured(result: Tensor, moments: Moments, wanted: Moments) -> Tensor:
    (mean, deviation), (wanted_mean, wanted_deviation) = moments, (each.to(result.device) for each in wanted)
    return (result - mean) / deviation * wanted_deviation + wanted_mean


def _moments(pixels: Tensor) -> Moments:
    """Return the moments of `pixels`, summed band by band, which takes no copy of the picture."""
    count, rows = pixels.shape[-2] * pixels.shape[-1], max(1, BAND // pixels.shape[-1])
    bands = torch.split(pixels, rows, dim=-2)
    total = torch.stack([band.double().sum((-2, -1), keepdim=True) for band in bands]).sum(0)
    mean = total / count
    squares = torch.stack([(band.double() - mean).square().sum((-2, -1), keepdim=True) for band in bands]).sum(0)
    return mean.float(), (squares / max(1, count - 1) + EPSILON).sqrt().float()
