"""A large latent in overlapping tiles, each with its share of every pixel."""

from collections.abc import Sequence
from itertools import product
from math import ceil, exp, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..settings import MOST_TILE

VARIANCE = 0.01
"""Of the weights' gaussian, in units of the tile's side: the published value."""

ONE_PASS = 128
"""Side of the largest latent that may be one tile where nobody asked for it; beyond it tiles cost less."""


class Tile(NamedTuple):
    """A box of the latent, (top, left, bottom, right), and its share of each pixel in it, [bottom-top, right-left].

    The shares of all tiles sum to 1 at every pixel; a tile alone has share 1.
    """

    top: int
    left: int
    bottom: int
    right: int
    share: Tensor

    def crop(self, pixels: Tensor, factor: int = 1) -> Tensor:
        """Return the part of `pixels` [..., H, W] in this tile, of a picture `factor` times as large as the latent."""
        rows, columns = slice(self.top * factor, self.bottom * factor), slice(self.left * factor, self.right * factor)
        return pixels[..., rows, columns]


def cover(size: tuple[int, int], tile: int, overlap: int, device: torch.device | str = "cpu") -> tuple[Tile, ...]:
    """Return the tiles that cover a latent of `size` (height, width).

    tile: their side; overlap: of neighbours, below `tile`; both in latent pixels. A latent of at most tile × tile
    pixels is one tile, whatever its shape. Otherwise tiles are squares of min(tile, height, width), and the last of a
    row or column is moved back to end at the border. Shares follow the published gaussian, in float32, on `device`.
    """
    height, width = size
    if height * width <= tile * tile:
        return (Tile(0, 0, height, width, torch.ones(size, device=device)),)
    side = min(tile, height, width)
    # An overlap that leaves a smaller square no stride of its own would never reach the border.
    stride = max(1, side - overlap)
    boxes = [
        (top, left, top + side, left + side)
        for top, left in product(_starts(height, side, stride), _starts(width, side, stride))
    ]
    weight = gaussian(side)
    total = torch.zeros(size)
    for top, left, bottom, right in boxes:
        total[top:bottom, left:right] += weight
    shares = [(weight / total[top:bottom, left:right]).to(device) for top, left, bottom, right in boxes]
    return tuple(Tile(*box, share) for box, share in zip(boxes, shares, strict=True))


def portions(count: int, most: int) -> list[slice]:
    """Return the fewest portions of at most `most` that `count` things in a row make, as equal as can be."""
    number = -(-count // most)
    return [slice(place * count // number, (place + 1) * count // number) for place in range(number)]


def gaussian(side: int) -> Tensor:
    """Return the published weights of a square tile, [side, side], float32, up to a common factor.

    exp(-((i - centre)/side)² / (2·VARIANCE)) along each axis. Down the rows the centre is side/2, half a pixel off
    the true one, which is used across: recorded results depend on it.
    """
    across, down = (
        torch.tensor([exp(-(((i - centre) / side) ** 2) / (2 * VARIANCE)) for i in range(side)], dtype=torch.float64)
        for centre in ((side - 1) / 2, side / 2)
    )
    return torch.outer(down, across).float()


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Return where tiles start along one axis: every stride, the last moved back to end at `length`."""
    starts = list(range(0, max(1, length - side), stride))
    return starts if starts[-1] + side >= length else [*starts, length - side]


def tilings(size: tuple[int, int], known: Sequence[tuple[int, int]], most: int = MOST_TILE) -> list[tuple[int, int]]:
    """Return the ways to tile a latent of `size`, (side, overlap), that of the least work first: what "auto" means.

    They are the `known` ones and, up to ONE_PASS², one tile for all; of equal work the larger tile is first, which sees
    more. most: the largest side that memory allows; where all are larger, that side with the overlap of the smallest.
    """
    area, (side, overlap) = size[0] * size[1], known[0]
    one = [(ceil(sqrt(area)), overlap)] if side**2 < area <= ONE_PASS**2 else []
    found = [tiling for tiling in (*known, *one) if tiling[0] <= most]
    smallest = min(known)
    return sorted(found or [(most, min(smallest[1], most // 2))], key=lambda tiling: (work(size, *tiling), -tiling[0]))


def work(size: tuple[int, int], tile: int, overlap: int) -> float:
    """Return the GF of a guided step of the published networks on a latent of `size` in tiles, counted by operation."""
    height, width = size
    if height * width <= tile * tile:
        count, area = 1, height * width
    else:
        side = min(tile, height, width)
        stride = max(1, side - overlap)
        count, area = len(_starts(height, side, stride)) * len(_starts(width, side, stride)), side * side
    return count * (0.6254 * area + 4.09e-5 * area**2 + 22)
