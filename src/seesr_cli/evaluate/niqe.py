"""NIQE: how far a picture's statistics are from those of natural photographs (Mittal et al. 2013); less is better.

The parameters in niqe_pris_params.npz are BasicSR's (Apache-2.0, see NIQE-NOTICE.txt beside it). The measure is the
one that BasicSR and pyiqa agree on: Y rounded, blocks of 96, and a second scale of half the size.
"""

import math
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fidelity import Plane, luma
from .pixels import Pixels

BLOCK = 96
"""Side of a block in pixels; a picture must have two, because NIQE is about their covariance."""

# Bicubic (a = -0.5) stretched over 8 pixels, as MATLAB's imresize reduces by half; the weights are symmetric.
_HALF = np.array([-1.5, -4.5, 14.5, 55.5]) / 128
_HALVING = np.concatenate([_HALF, _HALF[::-1]])

_SHAPES = np.arange(200, 10001) / 1000
"""Shapes of the generalised gaussian that are tried."""


class _Prior(NamedTuple):
    """Statistics of natural photographs, and the gaussian window, 7 x 7, σ 7/6, that they were taken with."""

    mean: Plane
    covariance: Plane
    window: Plane


@cache
def _prior() -> _Prior:
    with (files(__package__) / "niqe_pris_params.npz").open("rb") as file, np.load(file) as content:
        # pyiqa has the window in single precision: its sum is not quite 1, and that decides the sign of flat areas.
        window = content["gaussian_window"].astype(np.float32).astype(np.float64)
        return _Prior(content["mu_pris_param"][0], content["cov_pris_param"], window)


@cache
def _ratios() -> Plane:
    """Return Γ(2/a)² / (Γ(1/a) Γ(3/a)) for every shape a that is tried."""
    return np.array([math.exp(2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a)) for a in _SHAPES])


def niqe(pixels: Pixels) -> float | None:
    """Return NIQE of the picture; None for fewer than two blocks of 96 x 96 that have texture."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    if rows * columns < 2:
        return None
    plane = np.rint(luma(pixels[: rows * BLOCK, : columns * BLOCK]))
    features = np.concatenate([_features(plane, BLOCK), _features(halved(plane), BLOCK // 2)], axis=1)
    prior = _prior()
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        return None
    difference = prior.mean - np.nanmean(features, axis=0)
    covariance = (prior.covariance + np.cov(whole, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


def halved(plane: Plane) -> Plane:
    """Return `plane`, of even sides, in half its size; beyond its edges it is mirrored."""
    for _ in range(2):  # down, then across
        padded = np.pad(plane, ((3, 3), (0, 0)), mode="symmetric")
        rows = len(plane) // 2
        reduced = np.zeros((rows, plane.shape[1]))
        for start, weight in enumerate(_HALVING):
            reduced += weight * padded[start : start + 2 * rows : 2]
        plane = reduced.T
    return plane


def _features(plane: Plane, side: int) -> Plane:
    """Return the 18 features of every block of `side` pixels, [blocks, 18]; one row of blocks at a time."""
    reach = len(_prior().window) // 2
    padded = np.pad(plane, reach, mode="edge")
    found = []
    for top in range(0, len(plane), side):
        band = padded[top : top + side + 2 * reach]
        mean = _blurred(band)
        deviation = np.sqrt(np.abs(_blurred(band * band) - mean * mean) + np.finfo(np.float64).eps)
        normalised = (plane[top : top + side] - mean) / (deviation + 1)
        blocks = normalised.reshape(side, -1, side).swapaxes(0, 1)
        found.append(_block_features(blocks))
    return np.concatenate(found)


def _blurred(band: Plane) -> Plane:
    """Return the mean under the window, wherever it lies inside `band`: the window is the same turned over."""
    window = _prior().window
    side = len(window)
    rows, columns = (size - side + 1 for size in band.shape)
    blurred = np.zeros((rows, columns))
    for down in range(side // 2 + 1):
        pair = band[down : down + rows]
        if down != side // 2:
            pair = pair + band[side - 1 - down : side - 1 - down + rows]
        for across in range(side // 2 + 1):
            both = pair[:, across : across + columns]
            if across != side // 2:
                both = both + pair[:, side - 1 - across : side - 1 - across + columns]
            blurred += window[down, across] * both
    return blurred


def _block_features(blocks: Plane) -> Plane:
    """Return the features of blocks [n, side, side]: of the values, and of their products with four neighbours."""
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = (right - left) * _gamma(2 / shape) / _gamma(1 / shape)
        features += [shape, mean, left, right]
    return np.stack(features, axis=1)


class _Fit(NamedTuple):
    """An asymmetric generalised gaussian for each block, [n]: its shape, and its scale on both sides of 0."""

    shape: Plane
    left: Plane
    right: Plane


def _fit(blocks: Plane) -> _Fit:
    """Return the distribution that fits each block's values by their moments (Lasmar et al. 2009)."""
    values = blocks.reshape(len(blocks), -1)
    squares = values * values
    below, above = values < 0, values > 0
    with np.errstate(divide="ignore", invalid="ignore"):  # a block without texture has no fit: NaN
        left = np.sqrt((squares * below).sum(1) / below.sum(1))
        right = np.sqrt((squares * above).sum(1) / above.sum(1))
        ratio = left / right
        flatness = np.square(np.abs(values).mean(1)) / squares.mean(1)
        wanted = flatness * (ratio**3 + 1) * (ratio + 1) / np.square(ratio**2 + 1)
    shape = _SHAPES[_nearest(wanted)]
    scale = np.sqrt(_gamma(1 / shape) / _gamma(3 / shape))
    return _Fit(shape, left * scale, right * scale)


def _nearest(wanted: Plane) -> NDArray[np.intp]:
    """Return for each number the place of the ratio nearest to it; 0 for what is not a number."""
    return np.argmin(np.abs(_ratios() - np.nan_to_num(wanted)[:, None]), axis=1)


def _gamma(values: Plane) -> Plane:
    return np.array([math.gamma(value) for value in values])
