"""Pictures as the metrics take them: RGB of 8 bits, without transparency."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import PictureUnreadable
from ..settings import Format

Pixels = NDArray[np.uint8]
"""RGB, [H, W, 3]."""

_BAND_PIXELS = 2**20


def pixels_of(picture: image.Picture) -> Pixels:
    """Return the picture in 8 bits, rounded half to even, laid on white where it is transparent."""
    channels = [picture.pixels.numpy(), *(() if picture.alpha is None else (picture.alpha.numpy(),))]
    height, width = channels[0].shape[1:]
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = np.concatenate([part[:, top : top + rows] for part in channels]).transpose(1, 2, 0)
        pixels[top : top + rows] = _rounded(band)
    return pixels


def written(picture: image.Picture, kind: Format, quality: int | None) -> Pixels:
    """Return the pixels that `read` will find in the file which `image.encode` makes of `picture`.

    A lossy file is made for it, because nothing else knows what it loses.
    """
    height, width = picture.pixels.shape[-2:]
    if image.FORMATS[kind].quality is not None and height * width <= image.MOST_PIXELS:
        with BytesIO() as file:
            image.encode(file, picture, kind, quality)
            return pixels_of(image.decode(file.getvalue(), Path(f"result.{kind}")))
    pixels = np.empty((height, width, 3), np.uint8)
    top = 0
    for band in image.samples(picture, kind):
        pixels[top : top + len(band)] = _rounded(band)
        top += len(band)
    return pixels


def _rounded(band: NDArray[np.float32]) -> Pixels:
    """Return rows [H, W, C] in [0, 1], grey or RGB, with or without alpha, in 8 bits and on white."""
    colours = band[:, :, : 1 if band.shape[2] < 3 else 3]
    if band.shape[2] in (2, 4):
        alpha = band[:, :, -1:]
        colours = colours * alpha + (1 - alpha)
    return np.rint(np.clip(colours, 0, 1) * np.float32(255)).astype(np.uint8)


def remarks(picture: image.Picture) -> tuple[str, ...]:
    """Return a sentence for each thing that was changed so that the picture could be measured."""
    notes = []
    if picture.bits > 8:
        notes.append(f"Its {picture.bits} bits per channel were rounded to 8, as the protocol measures.")
    if picture.alpha is not None and (picture.alpha < 1).any():
        notes.append("It is transparent: it was laid on white.")
    return (*notes, *picture.notes)


def read(path: Path) -> tuple[Pixels, tuple[str, ...]]:
    """Return the pixels of the picture at `path`, and remarks on them. Raises PictureUnreadable."""
    try:
        picture = image.read(path)
    except PictureUnreadable as error:  # half a picture is not measured
        raise PictureUnreadable(str(error).replace(image.TAKEN_SO_FAR, "")) from error
    return pixels_of(picture), remarks(picture)
