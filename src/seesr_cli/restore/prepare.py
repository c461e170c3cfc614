"""Enlarge the picture to the frame that the networks work on, and resize pixels to the size of the result."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ..sizes import Size, Sizes


class Frame(NamedTuple):
    """The enlarged picture: control picture, start of the latent, and colour reference.

    pixels: [1, 3, H, W], RGB in [0, 1], H and W multiples of what the networks divide.
    size: (height, width) without the padding at the bottom and the right.
    """

    pixels: Tensor
    size: Size

    def crop(self, pixels: Tensor) -> Tensor:
        """Return pixels [..., H, W] of the frame's size without the padding."""
        return pixels[..., : self.size[0], : self.size[1]]


def prepare(picture: Tensor, sizes: Sizes) -> Frame:
    """Return the frame of `picture`, [3, h, w], RGB in [0, 1].

    Edge pixels are repeated up to the padded size; the published code resamples down to a multiple instead.
    """
    frame = resize(resize(picture, sizes.least), sizes.frame)
    return Frame(pad(frame.unsqueeze(0), sizes.padded), sizes.frame)


def finish(pixels: Tensor, sizes: Sizes) -> Tensor:
    """Return pixels [C, h, w] in [0, 1] resized and cropped to the size of the result."""
    top, left, bottom, right = sizes.box
    return resize(pixels, sizes.whole)[:, top:bottom, left:right]


def resize(pixels: Tensor, size: Size) -> Tensor:
    """Return pixels [C, H, W] in [0, 1] resampled to `size`, (height, width), in [0, 1].

    Bicubic like Pillow's, without its rounding: a = -0.5, antialiased; across, clamped, then down, clamped.
    """
    for wanted in ((pixels.shape[-2], size[1]), size):
        if pixels.shape[-2:] != wanted:
            pixels = F.interpolate(pixels.unsqueeze(0), wanted, mode="bicubic", antialias=True)[0].clamp_(0, 1)
    return pixels


def pad(pixels: Tensor, size: Size) -> Tensor:
    """Return pixels [1, C, H, W] with their last row and column repeated up to `size`."""
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, size[1] - width, 0, size[0] - height), mode="replicate")
