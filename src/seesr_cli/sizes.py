"""How large a picture is at every station, known before the first pixel is touched."""

from math import sqrt
from typing import NamedTuple

from .errors import PictureError
from .settings import MAX_SCALE, Settings

Size = tuple[int, int]
"""(height, width), in pixels."""

MOST_ENLARGED = 2**22
"""Pixels of a frame up to which small inputs are enlarged more than was asked; very elongated ones would go beyond."""

LEAST_SIDE = 64
"""Of what the networks see: the UNet halves the latent three times."""


class Sizes(NamedTuple):
    """Every size one picture passes through, in this order.

    picture: as it comes. least: enlarged, where it was too small. frame: enlarged to what is worked on. padded: what
    the networks see. whole: resized once more, where `frame` is not what was asked for. box: (top, left, bottom,
    right), the part of `whole` that is the result.
    """

    picture: Size
    least: Size
    frame: Size
    padded: Size
    whole: Size
    box: tuple[int, int, int, int]

    @property
    def result(self) -> Size:
        """The size that was asked for."""
        top, left, bottom, right = self.box
        return bottom - top, right - left

    @property
    def cut(self) -> Size:
        """How many rows and columns of `whole` the result does without."""
        return self.whole[0] - self.result[0], self.whole[1] - self.result[1]

    @property
    def part(self) -> tuple[float, float, float, float]:
        """The part of the input that the result shows, (top, left, bottom, right) in the input's pixels."""
        down, across = self.picture[0] / self.whole[0], self.picture[1] / self.whole[1]
        top, left, bottom, right = self.box
        return top * down, left * across, bottom * down, right * across


def result_size(picture: Size, settings: Settings) -> Size:
    """Return the size of the result, which needs no network to be known. Raises PictureError as `sizes` does."""
    top, left, bottom, right = _wanted(picture, settings)[1]
    return bottom - top, right - left


def sizes(picture: Size, settings: Settings, multiple: int = 8) -> Sizes:
    """Return the sizes of a picture at each stage under `settings`; the networks need sides of multiples of `multiple`.

    The published sizes where a scale is asked for: a picture with a side below `process_size // scale` is first
    enlarged until its shorter side has that many pixels; then it is enlarged by the scale. A frame that would be padded
    instead of resampled down, as published, is resized at the end only where it was enlarged first. A result that is to
    be smaller than the picture is made at the picture's own size and reduced at the end. Raises PictureError where the
    result would be more than 16 times as large as the picture.
    """
    whole, box = _wanted(picture, settings)
    scale = _scale(picture, whole, settings)
    least = _enlarged(picture, int(settings.process_size // scale), scale)
    frame = scaled(least, scale) if least != picture or whole[0] < picture[0] else whole
    padded = (padded_to(frame[0], multiple), padded_to(frame[1], multiple))
    return Sizes(picture, least, frame, padded, whole, box)


def scaled(size: Size, scale: float) -> Size:
    """Return `size` times `scale`, in whole pixels, at least one."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def padded_to(side: int, multiple: int) -> int:
    """Return the side that a frame is padded to: the next multiple, and no less than the networks need."""
    return max(side + -side % multiple, LEAST_SIDE)


def _exact(settings: Settings) -> bool:
    return (settings.width, settings.height, settings.long_edge, settings.megapixels) != (None,) * 4


def _scale(picture: Size, whole: Size, settings: Settings) -> float:
    """Return how many times the frame is as large as the picture."""
    return max(whole[0] / picture[0], whole[1] / picture[1], 1.0) if _exact(settings) else settings.scale


def _wanted(picture: Size, settings: Settings) -> tuple[Size, tuple[int, int, int, int]]:
    """Return as `_whole_and_box`. Raises PictureError if the result would be more than 16 times as large."""
    whole, box = _whole_and_box(picture, settings)
    if whole[0] > MAX_SCALE * picture[0] and whole[1] > MAX_SCALE * picture[1]:
        scale = _scale(picture, whole, settings)
        raise PictureError(
            f"The result would be {scale:.1f} times as large as the picture of {picture[1]} x {picture[0]} pixels, and "
            f"{MAX_SCALE} times is the most: ask for less."
        )
    return whole, box


def _whole_and_box(picture: Size, settings: Settings) -> tuple[Size, tuple[int, int, int, int]]:
    """Return the size before cropping, and the box (top, left, bottom, right) of the result in it."""
    height, width = picture
    if settings.width is not None and settings.height is not None:
        scale = max(settings.width / width, settings.height / height)
        whole = (max(settings.height, round(height * scale)), max(settings.width, round(width * scale)))
        top, left = (whole[0] - settings.height) // 2, (whole[1] - settings.width) // 2
        return whole, (top, left, top + settings.height, left + settings.width)
    if settings.width is not None:
        whole = (max(1, round(height * settings.width / width)), settings.width)
    elif settings.height is not None:
        whole = (settings.height, max(1, round(width * settings.height / height)))
    elif settings.long_edge is not None:
        scale = settings.long_edge / max(picture)
        whole = scaled(picture, scale)
    elif settings.megapixels is not None:
        whole = scaled(picture, sqrt(settings.megapixels * 1e6 / (height * width)))
    else:
        whole = scaled(picture, settings.scale)
    return whole, (0, 0, *whole)


def _enlarged(picture: Size, least: int, scale: float) -> Size:
    shorter = min(picture)
    if shorter >= least:
        return picture
    height, width = picture
    if (ratio := sqrt(MOST_ENLARGED / (height * width)) / scale) < least / shorter:
        return scaled(picture, max(1.0, ratio))
    return int(height * least / shorter), int(width * least / shorter)
