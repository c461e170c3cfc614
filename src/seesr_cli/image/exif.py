"""EXIF, changed in its place: writing it anew would break maker's notes, whose offsets count from the block's start.

A block is a small TIFF file (Exif 2.32, 4.5): a header, directories of 12-byte entries, and values at offsets.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from .geometry import Move, Size, frame_of, subject
from .picture import Resolution

HEAD = b"Exif\0\0"
_ORIENTATION, _EXIF_DIRECTORY, _THUMBNAIL, _THUMBNAIL_LENGTH = 0x0112, 0x8769, 0x0201, 0x0202
_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128
_COLOUR_SPACE, _PIXELS_ACROSS, _PIXELS_DOWN, _INTEROP, _GAMMA = 0xA001, 0xA002, 0xA003, 0xA005, 0xA500
_FOCAL_ACROSS, _FOCAL_DOWN, _SUBJECT_AREA, _SUBJECT_PLACE = 0xA20E, 0xA20F, 0x9214, 0xA214
_ADOBE_RGB = b"R03\0"
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_LENGTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
# How the file that was read stores its pixels, which what is written says itself: bits, compression, kind of colours,
# channels, planes, curves and primaries of the coder; and in the second directory compressed bits per pixel.
_LAYOUT = {258, 259, 262, 277, 284, 301, 318, 319, 529, 530, 532, 0x9102}


class _Entry(NamedTuple):
    place: int
    tag: int
    kind: int
    values: int


class _Block:
    """A block that is being changed. directories: the first, and those with the photograph's data, as they start."""

    def __init__(self, exif: bytes) -> None:
        """Raises ValueError where it is no EXIF, or its first directory is not in it."""
        self.bytes = bytearray(exif.removeprefix(HEAD))
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(self.bytes[:4]))
        if order is None or len(self.bytes) < 8:
            raise ValueError("not a TIFF header")
        self.order = order
        (self.start,) = struct.unpack_from(f"{order}I", self.bytes, 4)
        if self.start + 2 > len(self.bytes):
            raise ValueError("its directory is not in it")
        pointers = (self.number(one) for one in self.entries(self.start) if one.tag == _EXIF_DIRECTORY)
        self.directories = (self.start, *(place for place in pointers if place != self.start))

    def whole(self) -> bytes:
        return HEAD + bytes(self.bytes)

    def is_whole(self, directory: int) -> bool:
        """Return whether the block holds all the entries that the directory promises."""
        (count,) = struct.unpack_from(f"{self.order}H", self.bytes, directory)
        return directory + 2 + 12 * count <= len(self.bytes)

    def entries(self, directory: int) -> Iterator[_Entry]:
        """Yield a directory's entries, as far as the block has them."""
        if directory + 2 > len(self.bytes):
            return
        (count,) = struct.unpack_from(f"{self.order}H", self.bytes, directory)
        for place in range(directory + 2, min(directory + 2 + 12 * count, len(self.bytes) - 11), 12):
            yield _Entry(place, *struct.unpack_from(f"{self.order}HHI", self.bytes, place))

    def all(self) -> dict[int, _Entry]:
        """Return the entries of all directories by tag."""
        return {entry.tag: entry for directory in self.directories for entry in self.entries(directory)}

    def number(self, entry: _Entry) -> int:
        """Return the first whole number of an entry."""
        layout = "I" if entry.kind == _LONG else "H"
        return int(struct.unpack_from(f"{self.order}{layout}", self.bytes, entry.place + 8)[0])

    def put(self, entry: _Entry, number: int) -> None:
        """Set an entry to one whole number."""
        long = entry.kind == _LONG or number > 0xFFFF
        kind, layout = (_LONG, "I") if long else (_SHORT, "Hxx")
        struct.pack_into(f"{self.order}HI{layout}", self.bytes, entry.place + 2, kind, 1, number)

    def place(self, entry: _Entry) -> int | None:
        """Return where an entry's values stand; None where that is not in the block."""
        length = _LENGTHS.get(entry.kind, 0) * entry.values
        place = entry.place + 8 if length <= 4 else struct.unpack_from(f"{self.order}I", self.bytes, entry.place + 8)[0]
        return place if length and place + length <= len(self.bytes) else None

    def ratio(self, entry: _Entry | None) -> Fraction | None:
        """Return an entry's value, where that is one positive ratio."""
        if entry is None or (entry.kind, entry.values) != (_RATIONAL, 1) or (place := self.place(entry)) is None:
            return None
        above, below = struct.unpack_from(f"{self.order}2I", self.bytes, place)
        return Fraction(above, below) if above and below else None

    def put_ratio(self, entry: _Entry, value: Fraction) -> None:
        """Set an entry that `ratio` has read."""
        place = self.place(entry)
        if place is not None and (exact := value.limit_denominator(2**16)) < 2**32 and exact.numerator < 2**32:
            struct.pack_into(f"{self.order}2I", self.bytes, place, exact.numerator, exact.denominator)

    def drop(self, tags: set[int]) -> None:
        """Take entries out of their directories; no offset changes."""
        for directory in self.directories:
            entries = list(self.entries(directory))
            kept = [bytes(self.bytes[one.place : one.place + 12]) for one in entries if one.tag not in tags]
            if len(kept) < len(entries):
                start, end = directory + 2, directory + 2 + 12 * len(entries)
                link = bytes(self.bytes[end : end + 4])
                rest = b"".join(kept) + link
                self.bytes[start : end + len(link)] = rest.ljust(end + len(link) - start, b"\0")
                struct.pack_into(f"{self.order}H", self.bytes, directory, len(kept))

    def drop_thumbnail(self) -> None:
        (count,) = struct.unpack_from(f"{self.order}H", self.bytes, self.start)
        link = self.start + 2 + 12 * count
        if link + 4 > len(self.bytes):
            return
        (second,) = struct.unpack_from(f"{self.order}I", self.bytes, link)
        struct.pack_into(f"{self.order}I", self.bytes, link, 0)
        numbers = {entry.tag: self.number(entry) for entry in self.entries(second)} if second else {}
        first = numbers.get(_THUMBNAIL, 0)
        last = first + numbers.get(_THUMBNAIL_LENGTH, 0)
        # Only what is a JPEG indeed: an offset that lies must not cost other bytes.
        if first and last <= len(self.bytes) and self.bytes[first : first + 2] == b"\xff\xd8":
            self.bytes[first:last] = bytes(last - first) if last < len(self.bytes) else b""


def orientation(exif: bytes) -> int:
    """Return the orientation that the block asks for, 1 to 8; 1 where it is damaged."""
    try:
        block = _Block(exif)
    except ValueError:
        return 1
    stated = next((block.number(entry) for entry in block.entries(block.start) if entry.tag == _ORIENTATION), 1)
    return stated if 1 <= stated <= 8 and block.is_whole(block.start) else 1


def tidy(exif: bytes) -> bytes | None:
    """Return the EXIF to carry on, with its head; None where it is damaged.

    Orientation is 1, and thumbnail and what tells of the file's layout are gone; every other byte is in its place.
    """
    try:
        block = _Block(exif)
    except ValueError:
        return None
    if not block.is_whole(block.start):
        return None
    for entry in block.entries(block.start):
        if entry.tag == _ORIENTATION:
            block.put(entry._replace(kind=_SHORT), 1)
    block.drop_thumbnail()
    block.drop(_LAYOUT)
    return block.whole()


def moved(exif: bytes, move: Move) -> tuple[bytes, tuple[str, ...]]:
    """Return `exif` (from `tidy`) corrected for the move, with a sentence for each part that had to be left out.

    Sizes, the subject's place and the pixels on the sensor's plane change, all else is in its place.
    """
    block = _Block(exif)
    notes = _move_subject(block, move)
    down, across = move.scale
    pairs = ((_ACROSS, _DOWN, 1.0, 1.0), (_FOCAL_ACROSS, _FOCAL_DOWN, across, down))
    for first, second, grows_across, grows_down in pairs:
        entries = block.all()
        values = [block.ratio(entries.get(tag)) for tag in (first, second)]
        if move.orientation > 4:
            values.reverse()
        for tag, value, grows in zip((first, second), values, (grows_across, grows_down), strict=True):
            if (
                value is not None
                and tag in entries
                and block.ratio(entries[tag]) not in (None, value * Fraction(grows))
            ):
                block.put_ratio(entries[tag], value * Fraction(grows))
    sizes = {0x0100: move.after[1], 0x0101: move.after[0]}
    sizes |= {_PIXELS_ACROSS: move.after[1], _PIXELS_DOWN: move.after[0]}
    for tag, entry in block.all().items():
        if tag in sizes and entry.values == 1:
            block.put(entry, sizes[tag])
    return block.whole(), notes


def _move_subject(block: _Block, move: Move) -> tuple[str, ...]:
    entries = block.all()
    stated = _stated(block, entries, move.before)
    wrong = set()
    for tag in (_SUBJECT_AREA, _SUBJECT_PLACE):
        if (entry := entries.get(tag)) is None:
            continue
        place, true = block.place(entry), None
        layout = f"{block.order}{entry.values}H"
        if entry.kind == _SHORT and 2 <= entry.values <= 4 and place is not None and stated is not None:
            true = subject(list(struct.unpack_from(layout, block.bytes, place)), move, stated)
        if true is None or place is None or max(true) > 0xFFFF:
            wrong.add(tag)
        else:
            struct.pack_into(layout, block.bytes, place, *true)
    if not wrong:
        return ()
    block.drop(wrong)
    return ("What it says of the subject's place does not fit the picture: it was left out.",)


def _stated(block: _Block, entries: dict[int, _Entry], before: Size) -> Size | None:
    numbers = [block.number(entries[tag]) if tag in entries else None for tag in (_PIXELS_DOWN, _PIXELS_ACROSS)]
    return frame_of(before, *numbers)


def without_orientation(exif: bytes) -> bytes:
    """Return `exif` (from `tidy`) without the entry for the orientation; no offset changes."""
    block = _Block(exif)
    block.drop({_ORIENTATION})
    return block.whole()


def resolution(exif: bytes) -> Resolution | None:
    """Return the resolution that the block states, if it is a real one."""
    try:
        block = _Block(exif)
    except ValueError:
        return None
    entries = {entry.tag: entry for entry in block.entries(block.start)}
    across, down = (block.ratio(entries.get(tag)) for tag in (_ACROSS, _DOWN))
    unit = block.number(entries[_UNIT]) if _UNIT in entries else 2
    if across is None or down is None:
        return None
    return Resolution.of(float(across), float(down), unit)


# --- colours -----------------------------------------------------------------------------------------------------


def is_adobe_rgb(exif: bytes) -> bool:
    """Return whether the block declares Adobe RGB, in the way of DCF 2.0 or by its own number."""
    try:
        block = _Block(exif)
    except ValueError:
        return False
    space = block.all().get(_COLOUR_SPACE)
    if space is not None and space.values == 1 and block.number(space) == 2:
        return True
    index = _interop_index(block)
    return index is not None and block.bytes[index : index + 4] == _ADOBE_RGB


def _interop_index(block: _Block) -> int | None:
    """Return where the four letters stand that name the interoperability rules (Exif 2.32, 4.6.7)."""
    pointer = block.all().get(_INTEROP)
    if pointer is None:
        return None
    found = (entry for entry in block.entries(block.number(pointer)) if (entry.tag, entry.values) == (1, 4))
    return next((entry.place + 8 for entry in found), None)


def recoloured(exif: bytes) -> bytes:
    """Return `exif` (from `tidy`) for pixels that were converted to sRGB."""
    block = _Block(exif)
    if space := block.all().get(_COLOUR_SPACE):
        block.put(space, 1)
    if (index := _interop_index(block)) is not None and block.bytes[index : index + 4] == _ADOBE_RGB:
        block.bytes[index : index + 4] = b"R98\0"
    block.drop({_GAMMA})
    return block.whole()
