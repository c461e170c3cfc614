"""How near a result is to its reference, on the brightness Y: PSNR and SSIM of the published protocol.

Libraries differ in the second digit of the decibel and in the third of SSIM; docs/evaluate.md says in what.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from .pixels import Pixels

Plane = NDArray[np.float64]

# ITU-R BT.601 in the range of video, as MATLAB's rgb2ycbcr, for RGB in [0, 1].
_RED, _GREEN, _BLUE, _BLACK = map(np.float32, (65.481, 128.553, 24.966, 16))
_WHITE = np.float32(255)

_LEAST_ERROR = 1e-8
"""What pyiqa adds to the mean squared error of values in [0, 1]: 0.004 dB at 50 dB."""

SSIM_WINDOW = 11
"""Pixels across SSIM's window (Wang et al. 2004); a picture must have as many."""

_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_BAND = 256
"""Rows that are measured at a time: memory does not grow with the picture."""


def luma(pixels: Pixels) -> Plane:
    """Return Y of YCbCr, [H, W], 16 to 235, not rounded.

    Computed in single precision and in this order, as pyiqa does: that decides how a value close to a half is rounded.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.float32) / _WHITE, 2, 0)
    y = (red * _RED + green * _GREEN + blue * _BLUE + _BLACK) / _WHITE * _WHITE
    return y.astype(np.float64)


def psnr(result: Pixels, reference: Pixels) -> float:
    """Return the PSNR of Y, not rounded, in dB; infinite for equal pictures. Raises PictureError for unequal sizes."""
    check_sizes(result, reference)
    total = 0.0
    for top in range(0, len(result), _BAND):
        difference = luma(result[top : top + _BAND]) - luma(reference[top : top + _BAND])
        total += float(np.square(difference).sum())
    error = total / (result.shape[0] * result.shape[1]) / 255**2
    return decibels(error + _LEAST_ERROR) if error else math.inf


def decibels(error: float) -> float:
    """Return the PSNR in dB of a mean squared error of values in [0, 1]; infinite for 0."""
    return -10 * math.log10(error) if error else math.inf


def ssim(result: Pixels, reference: Pixels) -> float:
    """Return the mean SSIM of Y, rounded to whole 255ths, with whole windows of 11 × 11 and σ 1.5.

    The contrast-structure term is cut off at 0, as pyiqa does. Raises PictureError, also for sides below 11.
    """
    check_sizes(result, reference)
    height, width = result.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        raise PictureError(f"SSIM needs {SSIM_WINDOW} pixels a side, and the picture has {width} x {height}.")
    total, overlap = 0.0, SSIM_WINDOW - 1
    for top in range(0, height - overlap, _BAND):
        rows = slice(top, top + _BAND + overlap)
        total += float(_ssim_map(np.rint(luma(result[rows])), np.rint(luma(reference[rows]))).sum())
    return total / ((height - overlap) * (width - overlap))


def _ssim_map(first: Plane, second: Plane) -> Plane:
    mean1, mean2 = _blurred(first), _blurred(second)
    squares1, squares2, product = mean1 * mean1, mean2 * mean2, mean1 * mean2
    covariance = _blurred(first * second) - product
    variances = _blurred(first * first) - squares1 + _blurred(second * second) - squares2
    structure = np.maximum((2 * covariance + _C2) / (variances + _C2), 0)
    return structure * (2 * product + _C1) / (squares1 + squares2 + _C1)


def _blurred(plane: Plane) -> Plane:
    """Return the gaussian mean of `plane` wherever the window lies inside."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-np.square(offsets) / (2 * _SIGMA**2))
    weights /= weights.sum()
    for _ in range(2):  # down, then across
        rows = len(plane) - SSIM_WINDOW + 1
        filtered = np.zeros((rows, plane.shape[1]))
        for start, weight in enumerate(weights):
            filtered += weight * plane[start : start + rows]
        plane = filtered.T
    return plane


def check_sizes(result: Pixels, reference: Pixels) -> None:
    """Raise PictureError unless both pictures have the same size."""
    if result.shape != reference.shape:
        (height, width), (rows, columns) = result.shape[:2], reference.shape[:2]
        raise PictureError(
            f"The result has {width} x {height} pixels and its reference {columns} x {rows}: they must be equal."
        )
