"""TIFF 6.0 and BigTIFF: read directories, decode layouts that Pillow lacks, and write strip by strip.

An EXIF block is a TIFF file without a picture. So a written file starts with the block as it is, which keeps every
offset in it true, maker's notes' too; strips and a new first directory follow.
"""

import struct
import zlib
from collections.abc import Iterable
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import exif as exif_block
from .picture import MOST_METADATA, Attached, Resolution, Unsupported

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SHORT, _LONG, _RATIONAL, _BYTE, _UNDEFINED = 3, 4, 5, 1, 7
# zlib's level for strips, as for PNG (docs/decisions/0011).
_LEVEL = 4
_MOST_ENTRIES = 200_000
"""Of all directories together: what a file of directories that overlap or run in a ring may cost."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, PLANAR, EXTRA, SAMPLE_FORMAT = 274, 277, 284, 338, 339
_SUBFILE, _OLD_SUBFILE, _STRIPS, _ROWS, _STRIP_BYTES, _PREDICTOR = 254, 255, 273, 278, 279, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SUBDIRECTORIES = 322, 323, 324, 325, 330
XMP, ICC, DNG = 700, 34675, 50706
IPTC, PHOTOSHOP, CREDENTIALS = 33723, 34377, 52545
_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROP_DIRECTORY, _MAKER_NOTE = 34665, 34853, 40965, 37500
_ACROSS, _DOWN, _UNIT = 282, 283, 296
_SENSOR = (32803, 34892)  # PhotometricInterpretation (TIFF/EP 6.2.4, DNG): a mosaic of colours, or what one became
_RAW_MARKS = (b"CR\2\0", b"IIIITwaR", b"IIIICwaR", b"MMMMRawT", b"MMMMRawC")
# The types of resolution and its unit, which readers look at before they show a picture, and choke on others.
_KINDS = {_ACROSS: 5, _DOWN: 5, _UNIT: 3}

# What describes how this file is laid out, or belongs to one program, and not the photograph; all from 50706 on too.
# fmt: off
_LAYOUT = frozenset({
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 337, 338,
    339, 340, 341, 342, 343, 344, 345, 346, 347, 351, *range(512, 522), 529, 530, 531, 532, 559, 700, 34377, 34665,
    34675, 34853, 37724, 33723,
})
# fmt: on


class Entry(NamedTuple):
    """A directory's entry: its type, its count, and the file's bytes (b"" if their place is outside the file)."""

    kind: int
    values: int
    place: int


class TiffFile:
    """The directories of a TIFF file; nothing in it is trusted."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header. Raises ValueError or struct.error where it is none."""
        self.file, self.size = file, file.seek(0, 2)
        head = self.stored(0, 16)
        orders = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
        if head[:4] not in orders:
            raise ValueError("not a TIFF header")
        self.order, self.big = orders[head[:4]], b"+" in head[:4]
        self.start: int = struct.unpack_from(f"{self.order}{'Q' if self.big else 'I'}", head, 8 if self.big else 4)[0]

    def stored(self, place: int, count: int) -> bytes:
        """Return the bytes there, fewer where the file ends."""
        self.file.seek(place)
        return self.file.read(max(0, min(count, self.size - place)))

    def directory(self, start: int) -> tuple[dict[int, Entry], int]:
        """Return the entries of the directory at `start`, and the start of the next one (0 at the end)."""
        count_layout, entry_layout, next_layout, head = ("Q", "HHQ", "Q", 12) if self.big else ("H", "HHI", "I", 8)
        count_size, next_size = struct.calcsize(count_layout), struct.calcsize(next_layout)
        step = head + next_size
        (count,) = struct.unpack(self.order + count_layout, self.stored(start, count_size))
        content = self.stored(start + count_size, count * step + next_size)
        entries: dict[int, Entry] = {}
        for at in range(0, min(count * step, len(content) - step + 1), step):
            tag, kind, values = struct.unpack_from(self.order + entry_layout, content, at)
            length = _SIZES.get(kind, 0) * values
            place = start + count_size + at + head
            if length > next_size:
                (place,) = struct.unpack_from(self.order + next_layout, content, at + head)
            if length and place + length <= self.size:
                entries.setdefault(tag, Entry(kind, values, place))
        link = content[count * step :]
        return entries, struct.unpack(self.order + next_layout, link)[0] if len(link) == next_size else 0

    def raw(self, entry: Entry) -> bytes:
        """Return the values' bytes; b"" where they are too many to be metadata."""
        length = _SIZES[entry.kind] * entry.values
        return self.stored(entry.place, length) if length <= MOST_METADATA else b""

    def numbers(self, entries: dict[int, Entry], tag: int, default: int = 0) -> tuple[int, ...]:
        """Return the whole numbers of a tag, or (default,)."""
        entry = entries.get(tag)
        if entry is None or entry.kind not in _LETTERS:
            return (default,)
        content = self.raw(entry)
        return struct.unpack(f"{self.order}{entry.values}{_LETTERS[entry.kind]}", content) if content else (default,)

    def pages(self) -> list[tuple[int, dict[int, Entry]]]:
        """Return (number in the chain, entries) of every page that is neither a smaller copy nor a mask."""
        pages, seen, start, read = [], set[int](), self.start, 0
        while start and start not in seen and read < _MOST_ENTRIES:
            try:
                entries, following = self.directory(start)
            except struct.error:
                break
            # Bits of NewSubfileType: 1 a smaller version, 4 a mask; SubfileType 2: a smaller version.
            minor = self.numbers(entries, _SUBFILE)[0] & 5 or self.numbers(entries, _OLD_SUBFILE)[0] == 2
            if not minor and WIDTH in entries and HEIGHT in entries:
                pages.append((len(seen), entries))
            seen.add(start)
            read += 1 + len(entries)
            start = following
        return pages

    def is_raw(self, pages: list[tuple[int, dict[int, Entry]]]) -> bool:
        """Return whether the file holds a camera's sensor data, and besides it only smaller pictures.

        DNG says so, and Canon's and Phase One's behind the header; others by colours in a mosaic, or by directories
        below a first one that calls itself a smaller version.
        """
        first = self.directory(self.start)[0]
        for entries in [entries for _, entries in pages] or [first]:
            if DNG in entries or self.numbers(entries, PHOTOMETRIC)[0] in _SENSOR:
                return True
        return self.stored(8, 8).startswith(_RAW_MARKS) or (not pages and _SUBDIRECTORIES in first)

    def classic(self, entries: dict[int, Entry], pixels: bool) -> bytes:
        """Return a BigTIFF below 4 GB as a classic one whose only page is `entries`, without data unless `pixels`.

        Nothing moves: the longer header gives way to the shorter one, and the directory is written anew at the end.
        """
        body = self.stored(0, self.size if pixels else 8)
        values = {
            tag: (_LONG, entry.values, struct.pack(f"{self.order}{entry.values}I", *self.numbers(entries, tag)))
            if entry.kind in (16, 18)
            else (entry.kind, entry.values, self.raw(entry))
            for tag, entry in entries.items()
            if entry.kind != 17
        }
        start, directory = packed(values, self.order, len(body))
        return (
            (b"II*\0" if self.order == "<" else b"MM\0*") + struct.pack(f"{self.order}I", start) + body[8:] + directory
        )

    def is_sparse(self, entries: dict[int, Entry]) -> bool:
        """Return whether a strip or tile has no place in the file; decoders would take the header for it."""
        return any(0 in self.numbers(entries, tag) for tag in (_STRIPS, _TILES) if tag in entries)

    def exif(self, entries: dict[int, Entry], place: bool = True) -> bytes | None:
        """Return the tags of the photograph as an EXIF block with its head, every value byte for byte.

        place: with what says where on earth it was taken, and with the maker's note, which may say it too.
        """
        described = {tag: entry for tag, entry in entries.items() if tag not in _LAYOUT and tag < DNG}
        pointers_ = (_EXIF_DIRECTORY, _GPS_DIRECTORY) if place else (_EXIF_DIRECTORY,)
        inner = {tag: self._pointed(entries, tag) for tag in pointers_ if tag in entries}
        if not place:
            inner.get(_EXIF_DIRECTORY, {}).pop(_MAKER_NOTE, None)
        if not described and not any(inner.values()):
            return None
        block = bytearray((b"II*\0" if self.order == "<" else b"MM\0*") + bytes(4))
        pointers = {}
        for tag, directory in inner.items():
            within = {}
            if _INTEROP_DIRECTORY in directory:
                within[_INTEROP_DIRECTORY] = self._append(block, self._pointed(directory, _INTEROP_DIRECTORY), {})
            pointers[tag] = self._append(block, directory, within)
        struct.pack_into(f"{self.order}I", block, 4, self._append(block, described, pointers))
        return exif_block.HEAD + bytes(block)

    def resolution(self, entries: dict[int, Entry]) -> Resolution | None:
        """Return the page's resolution."""
        if _ACROSS not in entries or _DOWN not in entries:
            return None
        sides: list[float] = []
        for tag in (_ACROSS, _DOWN):
            if entries[tag].kind != _RATIONAL or len(content := self.raw(entries[tag])) < 8:
                return None
            above, below = struct.unpack_from(f"{self.order}2I", content)
            sides.append(above / below if below else 0.0)
        return Resolution.of(sides[0], sides[1], self.numbers(entries, _UNIT, 2)[0])

    def _pointed(self, entries: dict[int, Entry], tag: int) -> dict[int, Entry]:
        try:
            return self.directory(self.numbers(entries, tag)[0])[0]
        except struct.error:
            return {}

    def _append(self, block: bytearray, entries: dict[int, Entry], pointers: dict[int, int]) -> int:
        values = {tag: (entry.kind, entry.values, self.raw(entry)) for tag, entry in entries.items() if entry.kind < 14}
        values |= {tag: (_LONG, 1, struct.pack(f"{self.order}I", place)) for tag, place in pointers.items()}
        start, content = packed(values, self.order, len(block))
        block += content
        return start


def packed(values: dict[int, tuple[int, int, bytes]], order: str, place: int) -> tuple[int, bytes]:
    """Return where a directory of (type, count, bytes) by tag starts, and its bytes, to stand at `place`."""
    content, entries = bytes(place % 2), b""
    for tag, (kind, count, value) in sorted(values.items()):
        if len(value) > 4:
            field = struct.pack(f"{order}I", place + len(content))
            content += value + bytes(len(value) % 2)
        else:
            field = value.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, count) + field
    start = place + len(content)
    return start, content + struct.pack(f"{order}H", len(entries) // 12) + entries + bytes(4)


def deep_samples(reading: TiffFile, entries: dict[int, Entry]) -> NDArray[np.uint16]:
    """Return the 16-bit samples [H, W, C] of a page, as stored, for layouts that Pillow has no name for.

    Raises Unsupported for compressions other than deflate, and ValueError where samples are missing.
    """

    def number(tag: int, default: int) -> int:
        return reading.numbers(entries, tag, default)[0]

    width, height, channels = number(WIDTH, 0), number(HEIGHT, 0), number(SAMPLES, 1)
    compression, predictor = number(COMPRESSION, 1), number(_PREDICTOR, 1)
    if compression not in (1, 8, 32946) or predictor not in (1, 2):
        raise Unsupported("stores 16-bit values in an unusual way: export it uncompressed, or as PNG")
    if _TILES in entries:
        across, down = number(_TILE_WIDTH, 0), number(_TILE_HEIGHT, 0)
        if not (16 <= across <= width + 4096 and 16 <= down <= height + 4096):
            raise ValueError(f"tiles of {across} x {down} pixels")
    else:
        across, down = width, min(number(_ROWS, height), height)
    places = reading.numbers(entries, _TILES if _TILES in entries else _STRIPS)
    lengths = reading.numbers(entries, _TILE_BYTES if _TILES in entries else _STRIP_BYTES)
    planes = [slice(plane, plane + 1) for plane in range(channels)] if number(PLANAR, 1) == 2 else [slice(0, channels)]
    boxes = [
        (plane, top, left) for plane in planes for top in range(0, height, down) for left in range(0, width, across)
    ]
    samples = np.empty((height, width, channels), np.uint16)
    for (plane, top, left), place, length in zip(boxes, places, lengths, strict=True):
        rows = down if _TILES in entries else min(down, height - top)
        wanted = 2 * rows * across * (plane.stop - plane.start)
        stored = reading.stored(place, length)
        if compression != 1:
            stored = zlib.decompressobj().decompress(stored, wanted)
        block = np.frombuffer(stored[:wanted], f"{reading.order}u2").reshape(rows, across, -1)
        if predictor == 2:
            block = np.cumsum(block, axis=1, dtype=np.uint16)
        samples[top : top + down, left : left + across, plane] = block[: height - top, : width - left]
    return samples


def write(
    file: BinaryIO,
    bands: Iterable[NDArray[Any]],
    size: tuple[int, int],
    attached: Attached,
) -> None:
    """Write a TIFF of `size`, (height, width), from `bands` of rows [rows, W, C], C 1 to 4, 8 or 16 bits.

    All bands but the last have as many rows. Holds one band at a time. Raises Unsupported where
    the file would pass 4 GB, which is as far as its offsets go.
    """
    icc, xmp, iptc = attached.icc, attached.xmp, attached.iptc
    block = _started(attached.exif)
    order = "<" if block[:2] == b"II" else ">"
    file.write(block + bytes(len(block) % 2))
    strips: list[int] = [file.tell()]
    rows = channels = bits = 0
    for band in bands:
        rows, channels, bits = rows or band.shape[0], band.shape[2], 8 * band.itemsize
        differences = band.copy()
        differences[:, 1:] -= band[:, :-1]
        packed_strip = zlib.compress(differences.astype(f"{order}u{band.itemsize}", copy=False).tobytes(), _LEVEL)
        file.write(packed_strip + bytes(len(packed_strip) % 2))
        strips.append(file.tell())

    def shorts(*numbers: int) -> tuple[int, int, bytes]:
        return _SHORT, len(numbers), struct.pack(f"{order}{len(numbers)}H", *numbers)

    def longs(*numbers: int) -> tuple[int, int, bytes]:
        return _LONG, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)

    described = sum(len(part or b"") for part in (icc, xmp, iptc, block))
    if strips[-1] + described + 16 * len(strips) > 2**32 - 2**16:
        raise Unsupported("is larger than the 4 GB that TIFF holds: choose PNG")
    values = _described(block) | {
        WIDTH: longs(size[1]),
        HEIGHT: longs(size[0]),
        BITS: shorts(*[bits] * channels),
        COMPRESSION: shorts(8),
        PHOTOMETRIC: shorts(1 if channels < 3 else 2),
        _STRIPS: longs(*strips[:-1]),
        ORIENTATION: shorts(1),
        SAMPLES: shorts(channels),
        _ROWS: longs(rows),
        _STRIP_BYTES: longs(*(end - start for start, end in pairwise(strips))),
        PLANAR: shorts(1),
        _PREDICTOR: shorts(2),
    }
    if channels in (2, 4):
        values[EXTRA] = shorts(2)  # alpha, not premultiplied
    if icc:
        values[ICC] = _UNDEFINED, len(icc), icc
    if xmp:
        values[XMP] = _BYTE, len(xmp), xmp
    if iptc:
        values[IPTC] = _UNDEFINED, len(iptc), iptc
    if attached.resolution:
        values |= _stated(attached.resolution, order)
    start, directory = packed(values, order, file.tell())
    file.write(directory)
    file.seek(4)
    file.write(struct.pack(f"{order}I", start))
    file.seek(0, 2)


def _started(exif: bytes | None) -> bytes:
    """Return the block without its head, or an empty one."""
    return exif.removeprefix(exif_block.HEAD) if exif else b"II*\0" + bytes(4)


def _stated(resolution: Resolution, order: str) -> dict[int, tuple[int, int, bytes]]:
    """Return the three entries that state a resolution."""
    sides = [Fraction(side).limit_denominator(10_000) for side in resolution[:2]]
    across, down = (struct.pack(f"{order}2I", side.numerator, side.denominator) for side in sides)
    unit = struct.pack(f"{order}H", 2 if resolution.absolute else 1)
    return {_ACROSS: (_RATIONAL, 1, across), _DOWN: (_RATIONAL, 1, down), _UNIT: (_SHORT, 1, unit)}


def with_resolution(exif: bytes | None, resolution: Resolution) -> bytes:
    """Return the EXIF, with its head, with this resolution: its first directory anew, and all values in their place."""
    block = _started(exif)
    order = "<" if block[:2] == b"II" else ">"
    block += bytes(len(block) % 2)
    start, directory = packed(_described(block) | _stated(resolution, order), order, len(block))
    return exif_block.HEAD + block[:4] + struct.pack(f"{order}I", start) + block[8:] + directory


def without_location(exif: bytes) -> bytes | None:
    """Return the EXIF made anew without location and maker's notes."""
    reading = TiffFile(BytesIO(_started(exif)))
    return reading.exif(reading.directory(reading.start)[0], place=False) if reading.start else None


def _described(block: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Return the entries of an EXIF block's first directory that a new one takes over, pointers to the others too."""
    reading = TiffFile(BytesIO(block))
    if not reading.start:
        return {}
    entries, _ = reading.directory(reading.start)
    pointers = (_EXIF_DIRECTORY, _GPS_DIRECTORY)
    return {
        tag: (entry.kind, entry.values, reading.raw(entry))
        for tag, entry in entries.items()
        if entry.kind < 14
        and (tag in pointers or (tag not in _LAYOUT and tag < DNG))
        and entry.kind == _KINDS.get(tag, entry.kind)
    }
