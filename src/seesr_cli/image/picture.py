"""The picture in memory, between reading and writing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .geometry import Box, Size

if TYPE_CHECKING:
    from torch import Tensor


class Resolution(NamedTuple):
    """How many pixels are meant to stand on an inch, across and down.

    absolute: False where only the proportion of the two is known, which is the shape of a pixel.
    """

    across: float
    down: float
    absolute: bool = True

    @classmethod
    def of(cls, across: float, down: float, unit: int) -> "Resolution | None":
        """Return the resolution in a unit of TIFF's (1 unknown, 2 inch, 3 cm); None if the unit is unknown."""
        if not (0 < across < 2**31 and 0 < down < 2**31) or (unit not in (2, 3) and across == down):
            return None
        factor = 2.54 if unit == 3 else 1.0
        return cls(across * factor, down * factor, unit in (2, 3))

    @classmethod
    def per_metre(cls, across: float, down: float) -> "Resolution | None":
        """Return the resolution stated in pixels per metre, whole numbers, by which those per inch are found again."""
        # A metre has 39.37 inches: what is within the rounding of a whole number per inch was that.
        inches = [side * 0.0254 for side in (across, down)]
        whole = [float(round(side)) if abs(side - round(side)) <= 0.0127 else side for side in inches]
        return cls.of(whole[0], whole[1], 2)


class Text(NamedTuple):
    """A text beside the picture, under one of PNG's keywords (ISO 15948, 11.3.3.2) or another one."""

    keyword: str
    content: str
    language: str = ""


COMMENT = "Comment"
"""The keyword of texts that have none: of JPEG, GIF, JPEG 2000 and PPM."""


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen, and the metadata that must travel with it.

    pixels: [3, H, W] float32 RGB in [0, 1], in the picture's own profile, orientation applied; grey ones have three
    equal channels. alpha: [1, H, W] float32 in [0, 1] (not premultiplied), or None where the file has none; where it
    is 0, pixels continue what is visible nearby. grey: the picture has no colours, and is written without. icc: the
    profile of the pixels; None is sRGB, as everywhere. exif: with the `Exif\\0\\0` head, orientation 1, without
    thumbnail. xmp: the packet, orientation 1. iptc: the datasets of IPTC-IIM. texts: comments, and PNG's texts.
    resolution: as the file states it. bits: 16 where the file has more than 8 per channel. notes: what the person
    should know of the reading, a sentence each. described: the (height, width) that EXIF and XMP tell of, part: the
    part of that which pixels show, in its pixels; None: all of it, as large as pixels are.
    """

    pixels: "Tensor"
    alpha: "Tensor | None" = None
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    bits: int = 8
    notes: tuple[str, ...] = ()
    iptc: bytes | None = None
    texts: tuple[Text, ...] = ()
    resolution: Resolution | None = None
    described: Size | None = None
    part: Box | None = None


class Attached(NamedTuple):
    """The metadata that is written into a file beside the pixels, each part as in Picture."""

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    iptc: bytes | None
    texts: tuple[Text, ...]
    resolution: Resolution | None


class Header(NamedTuple):
    """The facts that a file tells of its picture before it is decoded.

    size: (height, width), upright; the rest as in Picture.
    """

    size: tuple[int, int]
    bits: int
    alpha: bool
    grey: bool


class Unsupported(Exception):
    """The file is sound, but of a kind that is not read; str() continues a sentence after its name."""


MOST_METADATA = 2**24
"""Longest profile, EXIF or XMP that is carried, in bytes: past every honest one, and a bound for a zip bomb."""
