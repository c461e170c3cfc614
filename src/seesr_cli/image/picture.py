"""What a picture is, once it is read and before it is written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen, and what must travel with it.

    pixels: [3, H, W] float32 RGB in [0, 1], in the picture's own profile, orientation applied; grey ones have three
    equal channels. alpha: [1, H, W] float32 in [0, 1] (not premultiplied), or None where the file has none; where it
    is 0, pixels continue what is visible nearby. grey: the picture has no colours, and is written without. icc: the
    profile of the pixels; None is sRGB, as everywhere. exif: with the `Exif\\0\\0` head, orientation 1, without
    thumbnail. xmp: the packet, orientation 1. bits: 16 where the file has more than 8 per channel. notes: what the
    person should know of the reading, a sentence each.
    """

    pixels: "Tensor"
    alpha: "Tensor | None" = None
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    bits: int = 8
    notes: tuple[str, ...] = ()


class Header(NamedTuple):
    """What a file says of its picture before it is decoded. size: (height, width), upright; the rest as in Picture."""

    size: tuple[int, int]
    bits: int
    alpha: bool
    grey: bool


class Unsupported(Exception):
    """The file is sound, but it is of a kind that is not read; str() goes on where the file's name ended."""


MOST_METADATA = 2**24
"""Longest profile, EXIF or XMP that is carried, in bytes: past every honest one, and a bound for a zip bomb."""
