"""JPEG 2000's files (ISO 15444-1, annex I): profile and metadata in their boxes, where Pillow leaves them."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from .picture import MOST_METADATA

# The identifiers of uuid boxes: XMP's (XMP, part 3, 1.1.4), and those that are in use for EXIF and IPTC-IIM.
XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
EXIF = b"JpgTiffExif->JP2"
_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")


def described(file: BinaryIO) -> dict[str, bytes]:
    """Return the file's metadata under Pillow's names: `icc_profile`, `exif`, `xmp`, `iptc`."""
    found: dict[str, bytes] = {}
    for kind, start, length in boxes(file, 0, file.seek(0, 2)):
        if kind == b"jp2h":
            for inner, place, size in boxes(file, start, start + length):
                method = _content(file, place, min(size, 3))[:1]
                if inner == b"colr" and method in (b"\2", b"\3"):  # restricted, and any, ICC profile
                    found.setdefault("icc_profile", _content(file, place + 3, size - 3))
        elif kind == b"uuid":
            name = {XMP: "xmp", EXIF: "exif", _IPTC: "iptc"}.get(_content(file, start, 16))
            if name:
                found.setdefault(name, _content(file, start + 16, length - 16))
    return {name: content for name, content in found.items() if content}


def boxes(file: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the content, its length) of the boxes between two places, while they are whole."""
    while place + 8 <= end:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1 and place + 16 <= end:
            (length,) = struct.unpack(">Q", file.read(8))
            head = 16
        if length == 0:  # up to the end
            length = end - place
        if length < head or place + length > end:
            return
        yield kind, place + head, length - head
        place += length


def _content(file: BinaryIO, place: int, length: int) -> bytes:
    """Return the bytes there; b"" where they are too many to be metadata."""
    file.seek(place)
    return file.read(length) if 0 < length <= MOST_METADATA else b""
