"""The picture becomes the frame: enlarged to the size of the result, padded to what the networks divide."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .errors import PictureError
from .settings import MAX_FRAME_PIXELS


class Frame(NamedTuple):
    """The enlarged picture: control picture, start of the latent, and colour reference.

    pixels: [1, 3, H, W], RGB in [0, 1], H and W multiples of what was asked for.
    size: (height, width) of the picture without the padding at its bottom and right.
    """

    pixels: Tensor
    size: tuple[int, int]

    def crop(self, pixels: Tensor) -> Tensor:
        """Return pixels [..., H, W] of the frame's size without its padding."""
        return pixels[..., : self.size[0], : self.size[1]]


def prepare(picture: Tensor, scale: float, process_size: int, multiple: int) -> Frame:
    """Return the frame of `picture`.

    picture: [3, h, w], RGB in [0, 1]. The published sizes: a picture with a side below `process_size // scale` is first
    enlarged until its shorter side has that many pixels; then it is enlarged by `scale`. Edge pixels are repeated up to
    the next `multiple`; the published code resamples down to it instead. Raises PictureError when the frame would have
    more than MAX_FRAME_PIXELS pixels.
    """
    least = _enlarged((picture.shape[-2], picture.shape[-1]), int(process_size // scale))
    size = scaled(least, scale)
    if (pixels := size[0] * size[1]) > MAX_FRAME_PIXELS:
        raise PictureError(
            f"The picture would be worked on at {size[1]}x{size[0]}, {pixels / 1e6:.0f} megapixels and more than the "
            f"{MAX_FRAME_PIXELS / 1e6:.0f} that fit: use a smaller --scale or --process-size, or cut it into parts."
        )
    return Frame(pad(resize(resize(picture, least), size).unsqueeze(0), multiple), size)


def _enlarged(size: tuple[int, int], least: int) -> tuple[int, int]:
    shorter = min(size)
    return size if shorter >= least else (int(size[0] * least / shorter), int(size[1] * least / shorter))


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (height, width) times `scale`, rounded to whole pixels."""
    return round(size[0] * scale), round(size[1] * scale)


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return pixels [C, H, W] in [0, 1] resampled to `size`, (height, width), in [0, 1].

    Bicubic as Pillow's (a = -0.5, averaging where it shrinks; across, clamp, then down, clamp) without its rounding.
    """
    for wanted in ((pixels.shape[-2], size[1]), size):
        if pixels.shape[-2:] != wanted:
            pixels = F.interpolate(pixels.unsqueeze(0), wanted, mode="bicubic", antialias=True)[0].clamp(0, 1)
    return pixels


def pad(pixels: Tensor, multiple: int) -> Tensor:
    """Return pixels [1, C, H, W] with their last row and column repeated until both sides are multiples."""
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % multiple, 0, -height % multiple), mode="replicate")
