"""Choose the parts that a window of the result depends on, so that it looks as in the whole run.

The window's tiles lie where those of the whole run lie, and see their part of the whole run's noise. The tiles around
them are not computed, so what these would have told over their overlaps is missing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..sampling.noise import Noise
from ..sampling.tiles import Box, Grid, Tiling, grid
from ..sizes import Size, Sizes

REACH = 8
"""Latent pixels around a window within which tiles count: colours are taken from 31 pixels around each (colour.REACH),
and the VAE looks as far. 16 brought the window no nearer to the whole run, and often cost another tile."""


class Window(NamedTuple):
    """A window of a result, with the parts that are computed for it.

    box: the window, in pixels of the result.
    latent: (height, width) of the whole picture's latent.
    tiling: of the whole latent.
    laid: the tiles that are computed, where they lie in the whole latent; their box is the region.
    """

    box: Box
    latent: Size
    tiling: Tiling
    laid: Grid

    @classmethod
    def of(cls, box: Box, sizes: Sizes, factor: int, tiling: Tiling) -> "Window":
        """Return the window `box` of the result of a picture with these sizes.

        factor: pixels of the frame to one of the latent.
        """
        latent = (sizes.padded[0] // factor, sizes.padded[1] // factor)
        down, across = sizes.frame[0] / sizes.whole[0] / factor, sizes.frame[1] / sizes.whole[1] / factor
        top, left, bottom, right = (side + sizes.box[place % 2] for place, side in enumerate(box))
        seen = (int(top * down), int(left * across), int(-(-bottom * down // 1)), int(-(-right * across // 1)))
        return cls(box, latent, tiling, grid(latent, *tiling).near(seen, REACH))

    @property
    def size(self) -> Size:
        """(height, width) of the region, in latent pixels."""
        top, left, bottom, right = self.laid.box
        return bottom - top, right - left

    @property
    def whole(self) -> bool:
        """Whether all of the picture is computed."""
        return self.size == self.latent

    @property
    def own_grid(self) -> Grid:
        """The tiles where they lie in the region."""
        return self.laid.moved(-self.laid.box[0], -self.laid.box[1])

    def cut(self, maps: Tensor, factor: int = 1) -> Tensor:
        """Return the region of `maps` [..., H, W], which are `factor` times as large as the whole latent.

        If they end before the latent does, as without padding, the region ends there too.
        """
        top, left, bottom, right = (side * factor for side in self.laid.box)
        return maps[..., top:bottom, left:right]

    def of_result(self, maps: Tensor) -> Tensor:
        """Return the window of the whole result's `maps` [C, H, W]."""
        top, left, bottom, right = self.box
        return maps[:, top:bottom, left:right].clone()

    def noise(self, whole: Noise) -> Noise:
        """Return the region's part of each draw for the whole latent."""
        return lambda shape: self.cut(whole(torch.Size((*shape[:-2], *self.latent))))
