"""Content credentials (C2PA 2.1, annex A): where each format has them, to say that a result is without."""

import struct
from typing import BinaryIO

from . import jp2

_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def in_boxes(file: BinaryIO) -> bool:
    """Return whether an AVIF or HEIC has them, in a box of its own."""
    file.seek(0)
    for kind, start, _ in jp2.boxes(file, 0, file.seek(0, 2)):
        if kind == b"uuid":
            file.seek(start)
            if file.read(16) == _UUID:
                return True
    return False


def in_webp(file: BinaryIO) -> bool:
    """Return whether a WebP has them, in a chunk of its own (RFC 9649, 2.3)."""
    place, size = 12, file.seek(0, 2)
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"C2PA":
            return True
        place += 8 + length + length % 2
    return False
