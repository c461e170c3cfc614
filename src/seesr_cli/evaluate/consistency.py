"""Consistency: does a result, made small again, give back the picture that it was made from?

It is no measure of truth. What a network invents below the resolution of the input leaves no trace in it.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..restore.prepare import resize
from ..sizes import Size
from .fidelity import decibels
from .pixels import Pixels

BLOCK = 8
"""Side of the blocks that are looked at one by one, in pixels of the input."""

FOREIGN = 15.0
"""dB below which a result is taken for one of another picture."""


class Box(NamedTuple):
    """Edges in pixels of the input; bottom and right are not part of the box."""

    top: int
    left: int
    bottom: int
    right: int


class Consistency(NamedTuple):
    """How a result departs from its input.

    psnr: of the reduced result against the input, RGB, dB, rounded to four digits; infinite where they are equal.
    worst: the root of the mean squared departure in the block of 8 x 8 pixels that departs most, in 255ths.
    box: that block.
    drift: the largest departure of a colour's mean, in 255ths.
    """

    psnr: float
    worst: float
    box: Box
    drift: float

    def as_record(self) -> dict[str, Any]:
        """Return the same for JSON: an infinite PSNR is None."""
        psnr = self.psnr if math.isfinite(self.psnr) else None
        return {"psnr": psnr, "worst_block": {**self.box._asdict(), "departure": self.worst}, "drift": self.drift}


def consistency(result: Pixels, source: Pixels) -> Consistency:
    """Return how `result` departs from `source`, the picture it was made from, as `departure` measures it."""
    difference, (top, left) = departure(result, source)
    squares = np.square(difference, dtype=np.float64).mean(axis=2)
    blocks = _block_means(squares)
    row, column = np.unravel_index(np.argmax(blocks), blocks.shape)
    y, x = int(row) * BLOCK, int(column) * BLOCK
    box = Box(top + y, left + x, top + min(y + BLOCK, len(squares)), left + min(x + BLOCK, squares.shape[1]))
    return Consistency(
        psnr=round(decibels(float(squares.mean()) / 255**2), 4),
        worst=round(float(np.sqrt(blocks.max())), 4),
        box=box,
        drift=round(float(np.abs(difference.mean(axis=(0, 1), dtype=np.float64)).max()), 4),
    )


def departure(result: Pixels, source: Pixels) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return the reduced result minus the source, [H, W, 3] in 255ths, and the place of its top left corner.

    The result is reduced to the source's size by the bicubic filter that the source is enlarged with. A result that is
    smaller than its source is met at its own size. A result of another shape is the middle of the enlarged source, as
    --width and --height together make it: what it does not show is left out.
    """
    rows, columns = source.shape[:2]
    height, width = result.shape[:2]
    if _same_shape((height, width), (rows, columns)):
        if height < rows:
            return result.astype(np.float32) - _resized(source, (height, width)), (0, 0)
        return _resized(result, (rows, columns)) - source, (0, 0)
    scale = max(height / rows, width / columns)
    whole = max(height, round(rows * scale)), max(width, round(columns * scale))
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    canvas = _resized(source, whole)
    canvas[top : top + height, left : left + width] = result
    if scale < 1:
        return (canvas - _resized(source, whole))[top : top + height, left : left + width], (top, left)
    difference = _resized(canvas, (rows, columns)) - source
    inside = Box(
        round(top * rows / whole[0]),
        round(left * columns / whole[1]),
        round((top + height) * rows / whole[0]),
        round((left + width) * columns / whole[1]),
    )
    return difference[inside.top : inside.bottom, inside.left : inside.right], (inside.top, inside.left)


def _same_shape(result: Size, source: Size) -> bool:
    """Return whether one scale makes `source` as large as `result`, give or take a pixel of the result a side."""
    least = max((side - 1) / of for side, of in zip(result, source, strict=True))
    most = min((side + 1) / of for side, of in zip(result, source, strict=True))
    return least <= most


def _resized(pixels: NDArray[Any], size: Size) -> NDArray[np.float32]:
    """Return the picture, in 255ths, resampled to (height, width), not rounded; a channel at a time, to save memory."""
    resized = np.empty((*size, 3), np.float32)
    for channel in range(3):
        values = torch.from_numpy(pixels[None, :, :, channel].astype(np.float32)).div_(255)
        resized[:, :, channel] = resize(values, size).mul_(255)[0].numpy()
    return resized


def _block_means(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of every block of 8 x 8; those at the right and bottom edge may be narrower."""
    starts = np.arange(0, squares.shape[0], BLOCK), np.arange(0, squares.shape[1], BLOCK)
    sums = np.add.reduceat(np.add.reduceat(squares, starts[0], axis=0), starts[1], axis=1)
    sides = [np.diff(np.append(start, size)) for start, size in zip(starts, squares.shape, strict=True)]
    return sums / np.outer(*sides)
