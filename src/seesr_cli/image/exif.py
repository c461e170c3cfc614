"""EXIF, changed in its place: writing it anew would break maker's notes, whose offsets count from the block's start.

A block is a small TIFF file (Exif 2.32, 4.5): a header, directories of 12-byte entries, and values at offsets.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEAD = b"Exif\0\0"
_ORIENTATION, _EXIF_DIRECTORY, _THUMBNAIL, _THUMBNAIL_LENGTH = 0x0112, 0x8769, 0x0201, 0x0202
_SHORT, _LONG = 3, 4


class _Entry(NamedTuple):
    place: int
    tag: int
    kind: int
    values: int


def tidy(exif: bytes) -> tuple[bytes | None, int]:
    """Return the EXIF to carry on, with its head, and the orientation it asked for, 1 to 8.

    Orientation is 1 then, and the thumbnail gone; every other byte is in its place. What is no EXIF is None.
    """
    block = bytearray(exif.removeprefix(HEAD))
    orientation = 1
    try:
        order, start = _header(block)
        for entry in _entries(block, order, start):
            if entry.tag == _ORIENTATION:
                orientation = _number(block, order, entry)
                struct.pack_into(f"{order}HIHH", block, entry.place + 2, _SHORT, 1, 1, 0)
        _drop_thumbnail(block, order, start)
    except (struct.error, ValueError):
        return None, 1
    return HEAD + bytes(block), orientation if 1 <= orientation <= 8 else 1


def sized(exif: bytes, height: int, width: int) -> bytes:
    """Return `exif` (from `tidy`) with the sizes that it states set to these, every other byte in its place."""
    block = bytearray(exif.removeprefix(HEAD))
    order, start = _header(block)
    sizes = {0x0100: width, 0x0101: height, 0xA002: width, 0xA003: height}
    try:
        for directory in (start, *_pointers(block, order, start)):
            for entry in _entries(block, order, directory):
                if entry.tag in sizes and entry.values == 1:
                    long = entry.kind == _LONG or sizes[entry.tag] > 0xFFFF
                    kind, layout = (_LONG, "I") if long else (_SHORT, "Hxx")
                    struct.pack_into(f"{order}HI{layout}", block, entry.place + 2, kind, 1, sizes[entry.tag])
    except struct.error:  # a directory that points out of the block: what could be set is set
        pass
    return HEAD + bytes(block)


def without_orientation(exif: bytes) -> bytes:
    """Return `exif` (from `tidy`) without the entry for the orientation; no offset changes."""
    block = bytearray(exif.removeprefix(HEAD))
    order, start = _header(block)
    entries = list(_entries(block, order, start))
    for entry in entries:
        if entry.tag == _ORIENTATION:
            end = entries[-1].place + 12 + 4
            block[entry.place : end] = block[entry.place + 12 : end] + bytes(12)
            struct.pack_into(f"{order}H", block, start, len(entries) - 1)
            break
    return HEAD + bytes(block)


def _header(block: bytearray) -> tuple[str, int]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        raise ValueError("not a TIFF header")
    return order, struct.unpack_from(f"{order}I", block, 4)[0]


def _entries(block: bytearray, order: str, start: int) -> Iterator[_Entry]:
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        yield _Entry(place, *struct.unpack_from(f"{order}HHI", block, place))


def _number(block: bytearray, order: str, entry: _Entry) -> int:
    return struct.unpack_from(f"{order}{'I' if entry.kind == _LONG else 'H'}", block, entry.place + 8)[0]


def _pointers(block: bytearray, order: str, start: int) -> list[int]:
    entries = _entries(block, order, start)
    return [_number(block, order, entry) for entry in entries if entry.tag == _EXIF_DIRECTORY and entry.kind == _LONG]


def _drop_thumbnail(block: bytearray, order: str, start: int) -> None:
    (count,) = struct.unpack_from(f"{order}H", block, start)
    link = start + 2 + 12 * count
    if link + 4 > len(block):
        return
    (second,) = struct.unpack_from(f"{order}I", block, link)
    struct.pack_into(f"{order}I", block, link, 0)
    try:
        numbers = {entry.tag: _number(block, order, entry) for entry in _entries(block, order, second) if second}
    except struct.error:
        return
    first = numbers.get(_THUMBNAIL, 0)
    last = first + numbers.get(_THUMBNAIL_LENGTH, 0)
    # Only what is a JPEG indeed: an offset that lies must not cost other bytes.
    if first and last <= len(block) and block[first : first + 2] == b"\xff\xd8":
        block[first:last] = bytes(last - first) if last < len(block) else b""
