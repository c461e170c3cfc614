"""JPEG's segments besides the picture, which Pillow hands over as they are: comments, APP1, APP2, APP11, APP13."""

import struct
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from . import iptc, tiff, xmp
from .picture import MOST_METADATA, Attached, Resolution

_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_MPF = b"MPF\0"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496"
_MP_ENTRIES = 0xB002
_MOST = 65533
# What the pictures behind the first are (CIPA DC-007, 5.2.3.3.1); smaller copies of the first one are nothing to tell.
_PICTURES = {
    0x010001: "",
    0x010002: "",
    0x020001: "other pictures of a panorama",
    0x020002: "the picture for the other eye",
    0x020003: "pictures from other angles",
    0x050000: xmp.GAIN_MAP,
}
_SECOND = "a second picture (MPO, such as stereo cameras make)"


class About(NamedTuple):
    """The metadata in a JPEG's segments.

    besides: what else the file holds, in words; lost: something in them is damaged.
    """

    comments: tuple[bytes, ...] = ()
    resources: iptc.Resources = iptc.Resources(None, None, (), False)
    resolution: Resolution | None = None
    extension: bytes | None = None
    besides: tuple[str, ...] = ()
    lost: bool = False


def about(image: Image.Image, content: bytes) -> About:
    """Return the metadata in the segments of `content`, a JPEG or MPO that Pillow has opened."""
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    photoshop = b"".join(
        content.removeprefix(iptc.HEAD)
        for name, content in segments
        if name == "APP13" and content.startswith(iptc.HEAD)
    )
    extension, lost = _extension([content for _, content in segments if content.startswith(_EXTENSION)])
    besides = dict[str, None]()
    for name, content in segments:
        if content.startswith(_MPF):
            besides |= dict.fromkeys(_pictures(content.removeprefix(_MPF)))
        elif name == "APP2" and content.startswith(_ISO_GAIN_MAP):
            besides[xmp.GAIN_MAP] = None
        elif name == "APP11" and b"c2pa" in content[:200]:
            besides[CREDENTIALS] = None
    # The second picture says what it is where its entry does not, as those of telephones do.
    if _SECOND in besides and (b"hdrgm:Version" in content or b"HDRGainMap" in content):
        del besides[_SECOND]
        besides[xmp.GAIN_MAP] = None
    if b"MotionPhoto_Data" in content:
        besides[xmp.VIDEO] = None
    return About(
        tuple(content for name, content in segments if name == "COM"),
        iptc.resources(photoshop),
        _density(image),
        extension,
        tuple(besides),
        lost,
    )


CREDENTIALS = "content credentials (C2PA)"


def _density(image: Image.Image) -> Resolution | None:
    """Return the density that JFIF states (ITU-T T.871, 10.1)."""
    density = image.info.get("jfif_density")
    unit = {1: 2, 2: 3}.get(image.info.get("jfif_unit", 0), 1)
    return Resolution.of(float(density[0]), float(density[1]), unit) if density else None


def put_density(content: memoryview, resolution: Resolution) -> None:
    """State the resolution in the JFIF segment that the JPEG `content` begins with, as its 16 bits allow."""
    sides, unit = list(resolution[:2]), int(resolution.absolute)
    if max(sides) > 0xFFFF or not resolution.absolute:  # a proportion, as fine as it goes
        sides = [side * (0xFFFF if max(sides) > 0xFFFF else min(1000, 0xFFFF // max(sides))) for side in sides]
    struct.pack_into(">B2H", content, 13, unit, *(max(1, min(round(side), 0xFFFF)) for side in sides))


def segments(attached: Attached) -> bytes:
    """Return the segments for IPTC and comments."""
    comments = [text.content.encode("utf-8", "replace") for text in attached.texts]
    made = iptc.segments(attached.iptc) if attached.iptc else b""
    for comment in comments:
        # One that is longer than a segment goes on in the next, as programs that read them put them together.
        for place in range(0, len(comment), _MOST):
            part = comment[place : place + _MOST]
            made += b"\xff\xfe" + struct.pack(">H", len(part) + 2) + part
    return made


def _extension(parts: list[bytes]) -> tuple[bytes | None, bool]:
    """Return what the segments of an extended packet (XMP, part 3, 1.1.3.1) are together; whether something misses."""
    if not parts:
        return None, False
    pieces: dict[int, bytes] = {}
    wanted = 0
    head = len(_EXTENSION)
    for part in parts:
        if len(part) < head + 40:
            return None, True
        wanted, place = struct.unpack_from(">2I", part, head + 32)
        pieces[place] = part[head + 40 :]
    whole = b"".join(content for _, content in sorted(pieces.items()))
    if len(whole) != wanted or wanted > MOST_METADATA:
        return None, True
    return whole, False


def _pictures(block: bytes) -> list[str]:
    """Return what the pictures are that a block of the Multi-Picture Format lists behind the first."""
    try:
        reading = tiff.TiffFile(BytesIO(block))
        entries, _ = reading.directory(reading.start)
    except (ValueError, struct.error):
        return []
    content = reading.raw(entries[_MP_ENTRIES]) if _MP_ENTRIES in entries else b""
    places = range(16, len(content) - 15, 16)
    kinds = [struct.unpack_from(f"{reading.order}I", content, place)[0] & 0xFFFFFF for place in places]
    return [words for kind in kinds if (words := _PICTURES.get(kind, _SECOND))]
