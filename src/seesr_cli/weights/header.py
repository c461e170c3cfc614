"""The header of a safetensors file: read without trusting it, and without torch."""

import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import WeightsInvalid

LONGEST = 100 << 20
"""Bytes; the format's own limit of a header."""

SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of one number, by the format's name of its type."""


class Entry(NamedTuple):
    """One tensor: its type, its shape, and where its bytes are in the file."""

    dtype: str
    shape: list[int]
    start: int
    stop: int


class Header(NamedTuple):
    """All tensors, in the order of their bytes, and the free-form metadata."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def read(path: Path) -> Header:
    """Return the header of the file at `path`.

    Raises WeightsInvalid unless the file is exactly as long as its header says and the tensors fill it, each with the
    bytes that its type and shape ask for.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        _check(8 + length <= size and 2 <= length <= LONGEST, path, f"its header would be {length} bytes long")
        text = stream.read(length)
    try:
        content: dict[str, Any] = json.loads(text)
        metadata = content.pop("__metadata__", {})
        found = [
            (name, Entry(entry["dtype"], list(entry["shape"]), *(8 + length + end for end in entry["data_offsets"])))
            for name, entry in content.items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WeightsInvalid(
            f"{path}: not a safetensors file, its header is not readable; get the file anew."
        ) from None
    end = 8 + length
    entries = dict(sorted(found, key=lambda pair: (pair[1].start, pair[1].stop)))
    for name, entry in entries.items():
        _check(entry.dtype in SIZES, path, f"tensor '{name}' is of unknown type {entry.dtype}")
        _check(all(isinstance(side, int) and side >= 0 for side in entry.shape), path, f"tensor '{name}' has no shape")
        asked, given = prod(entry.shape) * SIZES[entry.dtype], entry.stop - entry.start
        _check(asked == given, path, f"tensor '{name}' needs {asked} bytes and its header gives it {given}")
        _check(entry.start == end, path, f"tensor '{name}' does not begin where the one before it ends")
        end = entry.stop
    _check(end == size, path, f"it is {size} bytes long and its header says {end}")
    return Header(entries, metadata)


def compare(path: Path, expected: dict[str, list[int]]) -> None:
    """Raise WeightsInvalid, naming the tensor, unless the file at `path` has the names and shapes of `expected`."""
    entries = read(path).entries
    for name, shape in expected.items():
        _check(name in entries, path, f"tensor '{name}' is missing")
        _check(entries[name].shape == shape, path, f"tensor '{name}' is {entries[name].shape} and not {shape}")
    for name in entries:
        _check(name in expected, path, f"tensor '{name}' is not part of the network")


def _check(holds: bool, path: Path, complaint: str) -> None:
    if not holds:
        raise WeightsInvalid(f"{path}: {complaint}; the file is damaged or another one, get it anew.")
