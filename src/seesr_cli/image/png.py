"""PNG (ISO 15948, third edition): its chunks read without trusting their lengths, and rows written in bands."""

import re
import struct
import zlib
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import exif as exif_block
from . import iptc
from .picture import MOST_METADATA, Attached, Resolution, Text
from .profiles import Primaries

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp"
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC_PROFILES = (b"Raw profile type iptc", b"Raw profile type 8bim")
_RAW_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1", b"Raw profile type xmp", *_IPTC_PROFILES)
# Texts of thumbnails (freedesktop.org), which name the file that they are of.
_OF_ANOTHER_FILE = b"Thumb::"
# zlib's level for rows that went through a filter: 6 takes twice as long and gains nothing (docs/decisions/0011).
_LEVEL = 4


@dataclass
class About:
    """The metadata of a PNG. gamma: the exponent of gAMA; code: cICP's primaries and transfer."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    srgb: bool = False
    gamma: float | None = None
    primaries: Primaries | None = None
    code: tuple[int, int] | None = None
    iptc: bytes | None = None
    texts: list[Text] = field(default_factory=list)
    resolution: Resolution | None = None
    frames: int = 0  # of an animation
    hidden: bool = False  # the still picture is no frame of the animation
    credentials: bool = False
    broken: bool = False  # a checksum of what the picture is made of is wrong
    lost: bool = False  # a profile, EXIF, XMP or text is there that is too long or broken


def taken_apart(file: BinaryIO, pixels: bool = True) -> tuple[bytes, About]:
    """Return the file reduced to its still picture (without pixels, unless `pixels`), and its metadata.

    What a decoder need not know is not shown to it: texts of gigabytes, broken profiles, frames of an animation.
    """
    size = file.seek(0, 2)
    place = file.seek(len(SIGNATURE))
    kept, about, framed = [SIGNATURE], About(), False
    while place + 12 <= size:
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head)
        end = min(place + 12 + length, size)
        if kind == b"IDAT":
            about.hidden |= about.frames > 0 and not framed
        if kind[:1].isupper():  # critical
            if pixels or kind not in (b"IDAT", b"IEND"):
                rest = file.read(end - place - 8)
                kept.append(head + rest)
                whole = end == place + 12 + length
                about.broken |= whole and zlib.crc32(rest[:-4], zlib.crc32(kind)) != int.from_bytes(rest[-4:], "big")
        elif length <= 2 * MOST_METADATA and end == place + 12 + length:
            content = file.read(length)
            if kind == b"tRNS":
                kept.append(head + content + file.read(4))
            elif zlib.crc32(kind + content) == struct.unpack(">I", file.read(4))[0]:
                _note(about, kind, content)
                framed |= kind == b"fcTL"
        else:
            about.lost |= kind in (b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        place = file.seek(end)
        if kind == b"IEND" or (kind == b"IDAT" and not pixels and about.exif):
            break
    else:
        kept.append(file.read(size - place))
    if not pixels:
        kept.append(_chunk(b"IDAT", b""))
    return b"".join(kept), about


def _note(about: About, kind: bytes, content: bytes) -> None:
    """Put into `about` what a chunk (11.3) says; of chunks that come twice, and of broken ones, nothing."""
    try:
        match kind:
            case b"iCCP":
                about.icc = _inflated(content.partition(b"\0")[2][1:])
            case b"eXIf":
                about.exif = content
            case b"sRGB":
                about.srgb = True
            case b"gAMA":
                about.gamma = struct.unpack(">I", content)[0] / 100_000
            case b"cHRM":
                about.primaries = tuple(number / 100_000 for number in struct.unpack(">8I", content))
            case b"cICP":
                about.code = content[0], content[1]
            case b"acTL":
                about.frames = struct.unpack_from(">I", content)[0]
            case b"pHYs":
                across, down, unit = struct.unpack(">2IB", content)
                about.resolution = _resolution(across, down, unit)
            case b"caBX":
                about.credentials = True
            case b"tEXt" | b"zTXt" | b"iTXt":
                _note_text(about, kind, content)
    except (struct.error, zlib.error, ValueError, IndexError):
        about.lost = True


def _inflated(content: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    whole = decompressor.decompress(content, MOST_METADATA)
    if not decompressor.eof:
        raise ValueError("cut off, or too long")
    return whole


def _resolution(across: int, down: int, unit: int) -> Resolution | None:
    """Return what pHYs states: per metre, or a proportion."""
    if unit != 1:
        return Resolution.of(float(across), float(down), 1)
    return Resolution.per_metre(across, down)


def _note_text(about: About, kind: bytes, content: bytes) -> None:
    """Put into `about` the text, EXIF, XMP or IPTC that one of the three chunks for text (11.3.3) holds."""
    keyword, _, rest = content.partition(b"\0")
    language = b""
    match kind:
        case b"tEXt":
            text = rest
        case b"zTXt":
            text = _inflated(rest[1:])
        case _:
            language, _, words = rest[2:].split(b"\0", 2)
            text = _inflated(words) if rest[0] else words
    if keyword.startswith(_OF_ANOTHER_FILE):
        return
    if keyword != _XMP and keyword not in _RAW_PROFILES:
        if not 1 <= len(keyword) <= 79 or sum(len(one.content) for one in about.texts) + len(text) > MOST_METADATA:
            raise ValueError("no keyword, or texts that are too long together")
        decoded = text.decode("utf-8" if kind == b"iTXt" else "latin-1")
        about.texts.append(Text(keyword.decode("latin-1"), decoded, language.decode("ascii")))
        return
    if keyword == _XMP:
        about.xmp = text
        return
    # What ImageMagick writes, and wrote before PNG had a chunk for EXIF: a name, a length, hexadecimal digits.
    found = re.fullmatch(rb"\s*\w[\w ]{0,20}\s+\d+\s+([0-9a-fA-F\s]*)", text)
    raw = unhexlify(b"".join(found[1].split())) if found else b""
    if raw.startswith((exif_block.HEAD, b"II*\0", b"MM\0*")):
        about.exif = about.exif or raw
    elif raw.startswith(_XMP_HEAD) or keyword.endswith(b" xmp"):
        about.xmp = about.xmp or raw.removeprefix(_XMP_HEAD)
    elif keyword in _IPTC_PROFILES:
        stored = raw.removeprefix(iptc.HEAD)
        about.iptc = about.iptc or (iptc.resources(stored).iptc if stored[:4] == b"8BIM" else iptc.sound(stored))


def write(
    file: BinaryIO,
    bands: Iterable[NDArray[Any]],
    size: tuple[int, int],
    attached: Attached,
) -> None:
    """Write a PNG of `size`, (height, width), from `bands` of rows [rows, W, C], C 1 to 4, 8 or 16 bits.

    Holds no more than a few bands at a time.
    """
    compressor = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    above: NDArray[np.uint8] | None = None
    for band in bands:
        rows, width, channels = band.shape
        step = channels * band.itemsize
        raw = band.astype(f">u{band.itemsize}", order="C", copy=False).reshape(rows, -1).view(np.uint8)
        if above is None:
            above = np.zeros(width * step, np.uint8)
            colour_type = (0, 4, 2, 6)[channels - 1]
            file.write(SIGNATURE)
            file.write(_chunk(b"IHDR", struct.pack(">2I5B", size[1], size[0], 8 * band.itemsize, colour_type, 0, 0, 0)))
            for chunk in _attached(attached):
                file.write(chunk)
        if packed := compressor.compress(_filtered(raw, above, step).tobytes()):
            file.write(_chunk(b"IDAT", packed))
        above = raw[-1]
    file.write(_chunk(b"IDAT", compressor.flush()))
    file.write(_chunk(b"IEND", b""))


def _attached(attached: Attached) -> Iterator[bytes]:
    """Yield the chunks that stand before the pixels."""
    if attached.icc is not None:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(attached.icc, 9))
    if attached.resolution is not None:
        across, down, absolute = attached.resolution
        per_unit = 0.0254 if absolute else min(across, down) / 1000  # of pixels that are not square, the proportion
        yield _chunk(b"pHYs", struct.pack(">2IB", round(across / per_unit), round(down / per_unit), absolute))
    if attached.exif is not None:
        yield _chunk(b"eXIf", attached.exif.removeprefix(exif_block.HEAD))
    if attached.xmp is not None:
        yield _chunk(b"iTXt", _XMP + bytes(5) + attached.xmp)
    for text in attached.texts:
        keyword = text.keyword.encode("latin-1")
        try:
            if text.language:
                raise ValueError("tEXt has no language")
            yield _chunk(b"tEXt", keyword + b"\0" + text.content.encode("latin-1"))
        except ValueError:
            content = text.content.encode("utf-8", "replace")
            yield _chunk(b"iTXt", keyword + bytes(3) + text.language.encode() + bytes(2) + content)


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return `rows` [R, B], each filtered by what promises least (9.3 and 12.7), with the filter's number in front.

    Promises: the sum of the differences' sizes.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, step:], corner[:, step:] = rows[:, :-step], up[:, :-step]
    # In 16 bits: the Paeth predictor is the neighbour nearest to left + up - corner (9.4).
    a, b, c = left.astype(np.int16), up.astype(np.int16), corner.astype(np.int16)
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(to_up <= to_corner, up, corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)
    tried = (rows, rows - left, rows - up, rows - ((a + b) >> 1).astype(np.uint8), rows - paeth)
    costs = [np.abs(one.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for one in tried]
    best = np.argmin(costs, axis=0)
    result = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    result[:, 0] = best
    for number, one in enumerate(tried):
        result[best == number, 1:] = one[best == number]
    return result


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
