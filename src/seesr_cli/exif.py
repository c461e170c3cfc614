"""EXIF, which travels with a picture from file to file."""

import struct

from PIL import ExifTags, Image

_EXIF_HEAD = b"Exif\0\0"

# TIFF keeps EXIF among the tags that describe the file's own layout; these describe the photograph.
# fmt: off
_TIFF_EXIF = frozenset({
    "ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit", "Software", "DateTime",
    "Artist", "HostComputer", "Copyright", "XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject",
})
# fmt: on


def carried(image: Image.Image) -> tuple[bytes | None, int]:
    """Return the EXIF to carry on, and the orientation to apply; EXIF that cannot be parsed is left behind."""
    image.load()  # PNG may have it behind the pixels
    try:
        tags = image.getexif()
        orientation = tags.get(ExifTags.Base.Orientation, 1)
        kept = image.info.get("exif")
        if image.format == "TIFF":
            kept = _described(tags)
        elif kept is None and tags:
            kept = tags.tobytes()
        return (_tidy(kept) if kept else None), orientation if isinstance(orientation, int) else 1
    except Exception:  # as with pixels, a damaged block makes the parser raise nearly anything
        return None, 1


def _described(tags: Image.Exif) -> bytes | None:
    """Return the EXIF block of a TIFF without what describes the file's own layout."""
    wanted = {number for number, name in ExifTags.TAGS.items() if name in _TIFF_EXIF}
    chosen = Image.Exif()
    for number, value in tags.items():
        if number in wanted:
            chosen[number] = value
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if entries := tags.get_ifd(directory):
            chosen[directory] = entries
    return chosen.tobytes() if len(chosen) else None


def _tidy(exif: bytes) -> bytes | None:
    """Return `exif` with orientation 1 and no thumbnail, every other byte in its place.

    Done in the block itself: writing it anew would break maker's notes, whose offsets count from the block's start.
    """
    block = bytearray(exif.removeprefix(_EXIF_HEAD))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        return None
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (entries,) = struct.unpack_from(f"{order}H", block, start)
    end = start + 2 + 12 * entries
    for entry in range(start + 2, end, 12):
        (tag,) = struct.unpack_from(f"{order}H", block, entry)
        if tag == ExifTags.Base.Orientation:
            struct.pack_into(f"{order}HIHH", block, entry + 2, 3, 1, 1, 0)  # one SHORT, 1
    if end + 4 <= len(block):
        struct.pack_into(f"{order}I", block, end, 0)  # no further directory: that one is the thumbnail's
    return _EXIF_HEAD + bytes(block)
