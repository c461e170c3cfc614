"""Read the captions and keywords of the press (IPTC-IIM 4.2), and translate them to XMP."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from . import xmp, xmp_packet
from .picture import Resolution

_MARK = 0x1C
_LOCATION = {26, 27, 90, 92, 95, 100, 101}
# Dataset of record 2: the property that says the same (IPTC Photo Metadata, IIM to XMP mapping), and its kind.
_PROPERTIES: dict[int, tuple[xmp_packet.Name, str]] = {
    5: ((xmp_packet.DC, "title"), "Alt"),
    4: ((xmp_packet.IPTC_CORE, "IntellectualGenre"), ""),
    10: ((xmp_packet.PHOTOSHOP, "Urgency"), ""),
    12: ((xmp_packet.IPTC_CORE, "SubjectCode"), "Bag"),
    15: ((xmp_packet.PHOTOSHOP, "Category"), ""),
    20: ((xmp_packet.PHOTOSHOP, "SupplementalCategories"), "Bag"),
    25: ((xmp_packet.DC, "subject"), "Bag"),
    40: ((xmp_packet.PHOTOSHOP, "Instructions"), ""),
    55: ((xmp_packet.PHOTOSHOP, "DateCreated"), ""),
    62: ((xmp_packet.XAP, "CreateDate"), ""),
    65: ((xmp_packet.XAP, "CreatorTool"), ""),
    80: ((xmp_packet.DC, "creator"), "Seq"),
    85: ((xmp_packet.PHOTOSHOP, "AuthorsPosition"), ""),
    90: ((xmp_packet.PHOTOSHOP, "City"), ""),
    92: ((xmp_packet.IPTC_CORE, "Location"), ""),
    95: ((xmp_packet.PHOTOSHOP, "State"), ""),
    100: ((xmp_packet.IPTC_CORE, "CountryCode"), ""),
    101: ((xmp_packet.PHOTOSHOP, "Country"), ""),
    103: ((xmp_packet.PHOTOSHOP, "TransmissionReference"), ""),
    105: ((xmp_packet.PHOTOSHOP, "Headline"), ""),
    110: ((xmp_packet.PHOTOSHOP, "Credit"), ""),
    115: ((xmp_packet.PHOTOSHOP, "Source"), ""),
    116: ((xmp_packet.DC, "rights"), "Alt"),
    120: ((xmp_packet.DC, "description"), "Alt"),
    122: ((xmp_packet.PHOTOSHOP, "CaptionWriter"), ""),
}
_TIMES = {55: 60, 62: 63}
# How the others are written, and times, which are taken with their dates.
_SILENT = {0, 60, 63, 70}


class _Dataset(NamedTuple):
    record: int
    number: int
    content: bytes
    whole: bytes


def sound(block: bytes) -> bytes | None:
    """Return the whole datasets at the beginning of `block`; None if there are no datasets."""
    if block[:1] != b"\x1c" and block[3:4] == b"\x1c":  # 32-bit numbers of the other byte order, as TIFFs have them
        block = b"".join(block[place : place + 4][::-1] for place in range(0, len(block), 4))
    return b"".join(dataset.whole for dataset in _datasets(block)) or None


def _datasets(block: bytes) -> Iterator[_Dataset]:
    """Yield the datasets (1.5) while they are whole."""
    place = 0
    while place + 5 <= len(block) and block[place] == _MARK:
        record, number, length = struct.unpack_from(">BBH", block, place + 1)
        start = place + 5
        if length & 0x8000:  # an extended dataset: so many bytes hold the length
            start += length & 0x7FFF
            length = int.from_bytes(block[place + 5 : start], "big") if start - place <= 9 else len(block)
        if start + length > len(block):
            return
        yield _Dataset(record, number, block[start : start + length], block[place : start + length])
        place = start + length


def _text(content: bytes) -> str:
    """Return the text; few programs say in which letters they write (1:90), and what is UTF-8 shows it."""
    try:
        return content.decode().rstrip("\0 ")
    except UnicodeError:
        return content.decode("cp1252", "replace").rstrip("\0 ")


def as_xmp(block: bytes) -> tuple[list[xmp.Property], list[str]]:
    """Return the datasets as XMP properties, and the numbers of datasets without such a property."""
    found: dict[int, list[str]] = {}
    homeless: dict[str, None] = {}
    for one in _datasets(block):
        if one.record == 2 and (one.number in _PROPERTIES or one.number in _TIMES.values()):
            found.setdefault(one.number, []).append(_text(one.content))
        elif one.record != 1 and not (one.record == 2 and one.number in _SILENT):
            homeless[f"{one.record}:{one.number:03}"] = None
    properties = []
    for number, (name, kind) in _PROPERTIES.items():
        values = [value for value in found.get(number, ()) if value]
        if number in _TIMES and values:
            values = [_date(values[0], found.get(_TIMES[number], [""])[0])]
        if values:
            properties.append(xmp.Property(name, kind, tuple(values) if kind in ("Bag", "Seq") else (values[0],)))
    return properties, list(homeless)


def _date(date: str, time: str) -> str:
    """Return CCYYMMDD and HHMMSS±HHMM (2:55, 2:60) as ISO 8601 writes them."""
    made = "-".join(part for part in (date[:4], date[4:6], date[6:8]) if part.strip("0"))
    if len(made) == 10 and len(time) >= 6:
        made += f"T{time[:2]}:{time[2:4]}:{time[4:6]}"
        if len(time) >= 11:
            made += f"{time[6:9]}:{time[9:11]}"
    return made


def without_location(block: bytes) -> bytes | None:
    """Return the datasets except the names of places on earth."""
    return b"".join(one.whole for one in _datasets(block) if not (one.record == 2 and one.number in _LOCATION)) or None


# --- among Photoshop's image resources ---------------------------------------------------------------------------

HEAD = b"Photoshop 3.0\0"
_IIM, _RESOLUTION, _MARKED, _URL = 0x0404, 0x03ED, 0x040A, 0x040B


class Resources(NamedTuple):
    """The parts of Photoshop's image resources that are carried over. paths: it has some, which cut the picture out."""

    iptc: bytes | None
    resolution: Resolution | None
    properties: tuple[xmp.Property, ...]
    paths: bool


def resources(content: bytes) -> Resources:
    """Return the photograph's data in a block of image resources (APP13 without its head, TIFF's 34377)."""
    blocks = dict(_blocks(content))
    resolution = None
    if len(stated := blocks.get(_RESOLUTION, b"")) >= 12:
        across, down = (number / 65536 for number in struct.unpack_from(">I4xI", stated))
        resolution = Resolution.of(across, down, 2)
    properties = []
    if blocks.get(_MARKED, b"\0")[:1] == b"\1":
        properties.append(xmp.Property((xmp_packet.RIGHTS, "Marked"), "", ("True",)))
    if url := blocks.get(_URL):
        properties.append(xmp.Property((xmp_packet.RIGHTS, "WebStatement"), "", (_text(url),)))
    paths = any(2000 <= number <= 2999 for number in blocks)
    return Resources(sound(blocks.get(_IIM, b"")), resolution, tuple(properties), paths)


def _blocks(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of the resources, the first of each number last, while they are whole."""
    place, found = 0, []
    while place + 12 <= len(content) and content[place : place + 4] == b"8BIM":
        (number,) = struct.unpack_from(">H", content, place + 4)
        start = place + 6 + ((content[place + 6] + 2) & ~1)  # a name, padded
        if start + 4 > len(content):
            break
        (length,) = struct.unpack_from(">I", content, start)
        if start + 4 + length > len(content):
            break
        found.append((number, content[start + 4 : start + 4 + length]))
        place = start + 4 + length + length % 2
    return reversed(found)


def segments(block: bytes) -> bytes:
    """Return a JPEG's APP13 segments that hold the datasets."""
    resource = b"8BIM" + struct.pack(">HHI", _IIM, 0, len(block)) + block + bytes(len(block) % 2)
    most = 65533 - len(HEAD)
    parts = [resource[place : place + most] for place in range(0, len(resource), most)]
    return b"".join(b"\xff\xed" + struct.pack(">H", len(part) + len(HEAD) + 2) + HEAD + part for part in parts)
