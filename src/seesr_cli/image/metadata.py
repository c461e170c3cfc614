"""Gather a file's metadata from any format, correct it for the new picture, and fit it into the result's format."""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, NamedTuple

from ..settings import Format, Metadata
from . import credentials, exif, iptc, jpeg, tiff, xmp, xmp_packet
from .geometry import Move, turn
from .opened import OpenedFile
from .picture import COMMENT, MOST_METADATA, Attached, Picture, Resolution, Text

DAMAGED = "Metadata that is damaged or too long was left behind."


class Carried(NamedTuple):
    """The metadata that goes on with the picture, each part as in Picture."""

    exif: bytes | None
    xmp: bytes | None
    iptc: bytes | None
    texts: tuple[Text, ...]
    resolution: Resolution | None
    notes: tuple[str, ...]


# --- read --------------------------------------------------------------------------------------------------------


def read(source: OpenedFile, converted: bool) -> Carried:
    """Return the file's metadata, corrected for its picture turned upright.

    converted: its colours were converted to sRGB. What is damaged is left behind, which is said.
    """
    block, packet = source.metadata()
    found, notes = _found(source), dict[str, None]()
    orientation = source.turned()
    height, width = source.size
    # Places are told of the picture as it is stored; what decodes it may have turned it already.
    stored = (width, height) if orientation > 4 and source.orientation() == 1 else (height, width)
    move = turn(stored, orientation)
    kept = exif.tidy(block) if block and len(block) <= MOST_METADATA else None
    found.lost |= bool(block) and kept is None
    resolution = found.resolution or (exif.resolution(kept) if kept else None)
    if resolution and orientation > 4:
        resolution = resolution._replace(across=resolution.down, down=resolution.across)
    if kept:
        kept, said = exif.moved(exif.recoloured(kept) if converted else kept, move)
        notes |= dict.fromkeys(said)
    try:
        packet = _true(packet, found, move, converted, notes) if packet or found.properties else None
    except xmp_packet.Damaged:
        packet, found.lost = None, True
    if found.lost:
        notes[DAMAGED] = None
    if found.besides:
        notes[f"The file also held {_listed(found.besides)}: only the picture itself was taken."] = None
    return Carried(kept, packet, found.iptc, tuple(found.texts), resolution, tuple(notes))


@dataclass
class _Found:
    """The metadata of a file besides EXIF and XMP.

    besides: what else the file holds, in words.
    lost: whether something is damaged or too long.
    """

    iptc: bytes | None = None
    texts: list[Text] = field(default_factory=list)
    resolution: Resolution | None = None
    properties: list[xmp.Property] = field(default_factory=list)
    extension: bytes | None = None
    besides: list[str] = field(default_factory=list)
    lost: bool = False


def _true(packet: bytes | None, found: _Found, move: Move, converted: bool, notes: dict[str, None]) -> bytes | None:
    if packet and len(packet) > MOST_METADATA:
        raise xmp_packet.Damaged("it is too long")
    if packet:
        if found.extension:
            try:
                packet = xmp.merged(packet, found.extension)
            except xmp_packet.Damaged:
                found.lost = True
        packet, gone = xmp.without_what_is_gone(packet)
        found.besides += [words for words in gone if words not in found.besides]
        if converted:
            packet = xmp.recoloured(packet, "sRGB")
        packet, said = xmp.moved(packet, move)
        notes |= dict.fromkeys(said)
    return xmp.with_properties(packet, found.properties)[0]


def _found(source: OpenedFile) -> _Found:
    given: dict[Any, Any] = source.image.info
    if about := source.about:
        besides = [jpeg.CREDENTIALS] if about.credentials else []
        return _Found(about.iptc, about.texts, about.resolution, besides=besides, lost=about.lost)
    if source.reading:
        return _of_tiff(source.reading, source.entries)
    match source.image.format:
        case "JPEG" | "MPO":
            source.file.seek(0)
            return _of_jpeg(jpeg.about(source.image, source.file.read()))
        case "AVIF" | "HEIF":
            maps = any("hdrgainmap" in str(name) for name in given.get("aux", ()))
            there = [maps, bool(given.get("depth_images")), credentials.in_boxes(source.file)]
            names = (xmp.GAIN_MAP, xmp.DEPTH, jpeg.CREDENTIALS)
            return _Found(besides=[name for name, is_there in zip(names, there, strict=True) if is_there])
        case "WEBP":
            return _Found(besides=[jpeg.CREDENTIALS] if credentials.in_webp(source.file) else [])
    comment = _ppm_comment(source.file) if source.image.format == "PPM" else given.get("comment")
    found = _Found(iptc=given.get("iptc"))
    # What wrote a JPEG 2000 calls itself its comment.
    if isinstance(comment, bytes) and comment.strip() and not comment.startswith(b"Created by OpenJPEG"):
        found.texts = [Text(COMMENT, _decoded(comment))]
    if source.image.format in ("BMP", "JPEG2000") and (dpi := given.get("dpi")):
        found.resolution = Resolution.per_metre(dpi[0] / 0.0254, dpi[1] / 0.0254)
    return found


def _of_jpeg(about: jpeg.About) -> _Found:
    resources = about.resources
    return _Found(
        resources.iptc,
        [Text(COMMENT, _decoded(comment)) for comment in about.comments],
        about.resolution or resources.resolution,
        list(resources.properties),
        about.extension,
        [*about.besides, *["paths to cut it out"] * resources.paths],
        about.lost,
    )


def _of_tiff(reading: tiff.TiffFile, entries: dict[int, tiff.Entry]) -> _Found:
    photoshop = reading.raw(entries[tiff.PHOTOSHOP]) if tiff.PHOTOSHOP in entries else b""
    resources = iptc.resources(photoshop)
    own = iptc.sound(reading.raw(entries[tiff.IPTC])) if tiff.IPTC in entries else None
    besides = [jpeg.CREDENTIALS] if tiff.CREDENTIALS in entries else []
    properties = list(resources.properties)
    return _Found(own or resources.iptc, [], reading.resolution(entries), properties, besides=besides)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def _decoded(comment: bytes) -> str:
    try:
        return comment.decode().rstrip("\0")
    except UnicodeError:
        return comment.decode("latin-1").rstrip("\0")


def _ppm_comment(file: BinaryIO) -> bytes:
    """Return the lines that begin with `#` in the header."""
    file.seek(0)
    head = re.match(rb"P\d(?:\s+|#[^\r\n]*[\r\n]|\d+(?=\s))*", file.read(2**16))
    return b"\n".join(re.findall(rb"#[ \t]?([^\r\n]*)", head[0])) if head else b""


# --- written -----------------------------------------------------------------------------------------------------


def written(picture: Picture, icc: bytes | None, kind: Format, name: str) -> tuple[Attached, tuple[str, ...]]:
    """Return the metadata for a file of this kind, and a sentence for each part that does not fit.

    EXIF and XMP are true for the picture's pixels. IPTC and texts are told in XMP where the format has no place for
    them, and a resolution in EXIF.
    """
    notes = dict[str, None]()
    height, width = picture.pixels.shape[-2:]
    described = picture.described or (height, width)
    move = Move(described, 1, picture.part or (0, 0, *described), (height, width))
    block, packet, resolution = picture.exif, picture.xmp, picture.resolution
    if block:
        block, said = exif.moved(block, move)
        notes |= dict.fromkeys(said)
    told, homeless = _told(picture, kind)
    try:
        if packet:
            packet, said = xmp.moved(packet, move, picture.grey)
            notes |= dict.fromkeys(said)
        packet, others = xmp.with_properties(packet, told)
        homeless += [found.name[1] for found in others]
    except xmp_packet.Damaged:
        packet, notes[DAMAGED] = None, None
        packet, _ = xmp.with_properties(None, told)
    if homeless:
        notes[f"{name} has no place for what the file said as {_listed(homeless)}: it was left out."] = None
    if resolution and kind in ("webp", "avif") and resolution != (exif.resolution(block) if block else None):
        block = tiff.with_resolution(block, resolution)
    datasets = picture.iptc if kind in _WITH_IPTC else None
    texts = tuple(text for text in picture.texts if kind == "png" or (kind == "jpeg" and text.keyword == COMMENT))
    return Attached(icc, block, packet, datasets, texts, resolution), tuple(notes)


_WITH_IPTC = ("jpeg", "tiff")
# The keywords that PNG defines, and the property that says the same (XMP, part 3, 2.1.4), and its kind.
_TEXTS = {
    "Title": ((xmp_packet.DC, "title"), "Alt"),
    "Author": ((xmp_packet.DC, "creator"), "Seq"),
    "Description": ((xmp_packet.DC, "description"), "Alt"),
    "Copyright": ((xmp_packet.DC, "rights"), "Alt"),
    "Creation Time": ((xmp_packet.XAP, "CreateDate"), ""),
    "Software": ((xmp_packet.XAP, "CreatorTool"), ""),
    COMMENT: ((xmp_packet.EXIF, "UserComment"), "Alt"),
}


def _told(picture: Picture, kind: Format) -> tuple[list[xmp.Property], list[str]]:
    """Return what is to be told in XMP, as the format has no other place for it; and what cannot be."""
    found, homeless = list[xmp.Property](), list[str]()
    if picture.iptc and kind not in _WITH_IPTC:
        found, numbers = iptc.as_xmp(picture.iptc)
        homeless += [f"IPTC {number}" for number in numbers]
    for keyword in dict.fromkeys(text.keyword for text in picture.texts):
        if kind == "png" or (kind == "jpeg" and keyword == COMMENT):
            continue
        contents = [text.content for text in picture.texts if text.keyword == keyword]
        if keyword == "Creation Time":
            contents = [date] if (date := _date(contents[0])) else []
        if keyword not in _TEXTS or not contents:
            homeless.append(keyword)
            continue
        name, form = _TEXTS[keyword]
        if all(one.name != name for one in found):
            found.append(xmp.Property(name, form, tuple(contents) if form == "Seq" else ("\n".join(contents),)))
        else:
            homeless.append(keyword)
    return found, homeless


def _date(text: str) -> str | None:
    """Return the time, which PNG wants as e-mails have it, as XMP has it."""
    for read_ in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return read_(text.strip()).isoformat()
        except ValueError:
            continue
    return None


# --- what is not to be told --------------------------------------------------------------------------------------


def limited(picture: Picture, metadata: Metadata) -> Picture:
    """Return the picture with all metadata, without its location, or with the profile alone."""
    if metadata == "keep":
        return picture
    if metadata == "none":
        return replace(picture, exif=None, xmp=None, iptc=None, texts=(), resolution=None)
    return replace(
        picture,
        exif=picture.exif and tiff.without_location(picture.exif),
        xmp=picture.xmp and xmp.without_location(picture.xmp),
        iptc=picture.iptc and iptc.without_location(picture.iptc),
        texts=tuple(text for text in picture.texts if not xmp.LOCATION.search(text.keyword)),
    )
