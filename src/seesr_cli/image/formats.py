"""Recognise picture files by their first bytes and suffixes, and choose their decoders."""

import logging
from importlib.util import find_spec
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from . import png

# Pillow logs what it finds odd in a file; without a handler Python would print that on the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

HAS_HEIF = find_spec("pillow_heif") is not None
"""Whether HEIC is read, which the extra `heif` brings."""

# fmt: off
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}) | ({".heic", ".heif", ".hif"} if HAS_HEIF else set())
# fmt: on
"""What counts as a picture in a folder; a file named by the person is looked into whatever its suffix."""

# Only formats that are pixels: Pillow's others are found by weak signs, or run another program (EPS: Ghostscript).
_READ = ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF", "BMP", "GIF", "JPEG2000", "PPM", "HEIF")
_IN_WORDS = f"JPEG, PNG, WebP, TIFF, AVIF, {'HEIC, ' if HAS_HEIF else ''}BMP, GIF, JPEG 2000 or PPM"
RAW = "is a camera's raw picture: develop it to TIFF or JPEG first"
# Of those that are no TIFF: Panasonic and Leica, Olympus (three), Fujifilm, Minolta, Sigma, Canon (until 2004).
_RAW_HEADS = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILM", b"\0MRM", b"FOVb", b"II\x1a\0")
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEADS = {
    **dict.fromkeys(TIFF_HEADS, "TIFF"),
    b"\xff\xd8\xff": "JPEG",
    png.SIGNATURE: "PNG",
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
UNREAD = "is damaged or of a kind that is not read"
# The brands (ISO 23008-12, annex B) of pictures coded with HEVC, which Pillow alone does not read.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def unknown(file: BinaryIO) -> str:
    """Return the end of a sentence that begins with the file's name and says why it is not read."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS and not HAS_HEIF:
        return "is a HEIC picture: install what reads it with: pip install 'seesr-cli[heif]'"
    if head.startswith(_RAW_HEADS) or head[4:] == b"ftypcrx ":
        return RAW
    if known := _known(head):
        wanted = "RGB or grey with 8 or 16 bits per channel" if known == "TIFF" else "PNG"
        return f"starts as {known} does, but {UNREAD}: copy it again, or export it anew as {wanted}"
    return f"is not a picture that can be read: give a {_IN_WORDS} file"


def _known(head: bytes) -> str | None:
    """Return the format that a file's first 12 bytes name, of those that are read."""
    if head[:4] == b"RIFF":
        return "WebP" if head[8:] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        return "AVIF" if head[8:] in (b"avif", b"avis") else "HEIC" if head[8:] in _HEIC_BRANDS else None
    return next((name for start, name in _HEADS.items() if head.startswith(start)), None)


def identified(file: BinaryIO) -> ImageFile.ImageFile:
    """Return the file as Pillow opens it; decoders of rare formats are imported only if no common one fits."""
    Image.preinit()
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        Image.init()
        if HAS_HEIF and "HEIF" not in Image.OPEN:
            import pillow_heif

            pillow_heif.register_heif_opener()
        file.seek(0)
        return Image.open(file, formats=_formats())


def _formats() -> list[str]:
    return [name for name in _READ if name in Image.OPEN]
