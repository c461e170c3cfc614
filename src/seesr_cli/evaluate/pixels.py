"""Pictures as the metrics take them: RGB of 8 bits, without transparency."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import image

Pixels = NDArray[np.uint8]
"""RGB, [H, W, 3]."""


def pixels_of(picture: image.Picture) -> Pixels:
    """Return the picture in 8 bits, rounded half to even, laid on white where it is transparent."""
    colours = picture.pixels.numpy()
    if picture.alpha is not None:
        alpha = picture.alpha.numpy()
        colours = colours * alpha + (1 - alpha)
    scaled = np.clip(colours, 0, 1) * np.float32(255)
    return np.ascontiguousarray(np.rint(scaled, out=scaled).astype(np.uint8).transpose(1, 2, 0))


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
    picture = image.read(path)
    return pixels_of(picture), remarks(picture)
