"""Cover a large latent with overlapping tiles, each with its share of every pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, exp, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..settings import MOST_TILE

VARIANCE = 0.01
"""Variance of the gaussian weights, in units of the tile's side: the published value."""

ONE_PASS = 128
"""Latent pixels: side of the largest square that "auto" takes as one tile. Beyond it several tiles cost less."""


Box = tuple[int, int, int, int]
"""(top, left, bottom, right)."""


class Tiling(NamedTuple):
    """How a latent is divided into tiles. side, overlap of neighbours: latent pixels."""

    side: int
    overlap: int


@dataclass(frozen=True)
class Grid:
    """Where the tiles of a latent lie.

    tile: (height, width) of every tile, latent pixels.
    tops, lefts: first row and first column of the tiles, in order.
    """

    tile: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of tiles."""
        return len(self.tops) * len(self.lefts)

    @property
    def area(self) -> int:
        """The latent pixels of one tile."""
        return self.tile[0] * self.tile[1]

    @property
    def box(self) -> Box:
        """The box that the tiles cover together."""
        return self.tops[0], self.lefts[0], self.tops[-1] + self.tile[0], self.lefts[-1] + self.tile[1]

    def near(self, box: Box, reach: int) -> "Grid":
        """Return the tiles alone that come within `reach` of `box`; both in latent pixels."""
        top, left, bottom, right = box
        return Grid(
            self.tile,
            tuple(start for start in self.tops if top - reach < start + self.tile[0] and start < bottom + reach),
            tuple(start for start in self.lefts if left - reach < start + self.tile[1] and start < right + reach),
        )

    def moved(self, down: int, across: int) -> "Grid":
        """Return the same tiles, so many latent pixels further down and to the right."""
        return Grid(self.tile, tuple(top + down for top in self.tops), tuple(left + across for left in self.lefts))


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
        """Return this tile's part of `pixels` [..., H, W], which are `factor` times as large as the latent."""
        rows, columns = slice(self.top * factor, self.bottom * factor), slice(self.left * factor, self.right * factor)
        return pixels[..., rows, columns]


def grid(size: tuple[int, int], tile: int, overlap: int) -> Grid:
    """Return where the tiles lie that cover a latent of `size`, (height, width).

    tile: side; overlap: of neighbours, below `tile`; both in latent pixels. A latent of at most tile × tile pixels is
    one tile, whatever its shape. Otherwise tiles are squares of min(tile, height, width), and the last tile of a row or
    column is moved back to end at the border.
    """
    height, width = size
    if height * width <= tile * tile:
        return Grid(size, (0,), (0,))
    side = min(tile, height, width)
    stride = max(1, side - overlap)  # if the overlap is as large as a smaller square, a stride of 0 would never end
    return Grid((side, side), _starts(height, side, stride), _starts(width, side, stride))


def cover(size: tuple[int, int], tile: int, overlap: int, device: torch.device | str = "cpu") -> tuple[Tile, ...]:
    """Return the tiles that cover a latent of `size`, laid out as by `grid`, with their shares."""
    return shared(grid(size, tile, overlap), size, device)


def shared(laid: Grid, size: tuple[int, int], device: torch.device | str = "cpu") -> tuple[Tile, ...]:
    """Return the tiles of `laid`, which cover a latent of `size`, row by row.

    Shares follow the published gaussian, in float32, on `device`.
    """
    if laid.count == 1:
        return (Tile(0, 0, *size, torch.ones(size, device=device)),)
    side = laid.tile[0]
    boxes = [(top, left, top + side, left + side) for top, left in product(laid.tops, laid.lefts)]
    weight = gaussian(side)
    total = torch.zeros(size)
    for top, left, bottom, right in boxes:
        total[top:bottom, left:right] += weight
    shares = [(weight / total[top:bottom, left:right]).to(device) for top, left, bottom, right in boxes]
    return tuple(Tile(*box, share) for box, share in zip(boxes, shares, strict=True))


def portions(count: int, most: int) -> list[slice]:
    """Return slices that divide `count` things in a row into the fewest parts of at most `most`, nearly equal."""
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


def tilings(size: tuple[int, int], known: Sequence[tuple[int, int]], most: int = MOST_TILE) -> list[Tiling]:
    """Return the tilings that --tile auto may choose for a latent of `size`, the one of least work first.

    They are the `known` ones and, up to ONE_PASS × ONE_PASS latent pixels, one tile for all. Of equal work the larger
    tile comes first, because it sees more.

    known: (side, overlap) of tilings that show no seams.
    most: largest side that memory allows; if all known sides are larger, this side is taken, with the overlap of the
        smallest.
    """
    area, (side, overlap) = size[0] * size[1], known[0]
    one = [(ceil(sqrt(area)), overlap)] if side**2 < area <= ONE_PASS**2 else []
    found = [Tiling(*tiling) for tiling in (*known, *one) if tiling[0] <= most]
    smallest = min(known)
    return sorted(
        found or [Tiling(most, min(smallest[1], most // 2))], key=lambda tiling: (work(size, *tiling), -tiling.side)
    )


def work(size: tuple[int, int], tile: int, overlap: int) -> float:
    """Return the work, in GF, of a guided step of the published networks, fitted to counts."""
    laid = grid(size, tile, overlap)
    return laid.count * (0.6254 * laid.area + 4.09e-5 * laid.area**2 + 22)


def _starts(length: int, side: int, stride: int) -> tuple[int, ...]:
    """Return where tiles start along one axis: every stride, and the last one so that it ends at `length`."""
    starts = tuple(range(0, max(1, length - side), stride))
    return starts if starts[-1] + side >= length else (*starts, length - side)
