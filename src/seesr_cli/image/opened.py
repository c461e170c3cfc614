"""Open a file, and tell its header before the picture is decoded."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from PIL import Image, ImageFile

from . import exif, formats, jp2, png, tiff, xmp
from .picture import Unsupported

MOST_PIXELS = 100_000_000
"""Largest picture that is read: beyond most cameras of today, and far short of what a lying header can ask for."""

MOST_IN_WORDS = f"the {MOST_PIXELS // 10**6} million that are read: shrink it or cut it up first"


@dataclass
class OpenedFile:
    """An opened file: Pillow's picture, not yet decoded (unless `own`), and the parts read without Pillow."""

    image: Image.Image
    file: BinaryIO
    about: png.About | None = None  # of a PNG
    reading: tiff.TiffFile | None = None  # of a TIFF, with the page that is read
    page: int = 0
    entries: dict[int, tiff.Entry] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), not yet turned by `orientation`."""
        if self.own:
            return self.number(tiff.HEIGHT, 0), self.number(tiff.WIDTH, 0)
        return self.image.size[1], self.image.size[0]

    def number(self, tag: int, default: int) -> int:
        """Return a TIFF tag (its first value, where it has several)."""
        return self.reading.numbers(self.entries, tag, default)[0] if self.reading else default

    @property
    def own(self) -> bool:
        """Whether the samples are decoded here: Pillow takes 16-bit planes for 8 bits, and knows no grey + alpha."""
        channels = self.number(tiff.SAMPLES, 1)
        unknown = channels == 2 or (channels > 1 and self.number(tiff.PLANAR, 1) == 2)
        return unknown and self.number(tiff.BITS, 8) == 16 and self.number(tiff.SAMPLE_FORMAT, 1) == 1

    def orientation(self) -> int:
        """Return how the picture is still to be turned: Pillow turns TIFF, and libheif HEIC."""
        if self.own:
            return self.number(tiff.ORIENTATION, 1)
        if self.image.format in ("TIFF", "HEIF"):
            return 1
        block, packet = self.metadata()
        turned = exif.orientation(block) if block else 1
        return turned if turned != 1 or not packet else xmp.orientation(packet)

    def turned(self) -> int:
        """Return the turn from the stored picture to the upright one, whoever makes it."""
        if self.reading:
            return self.number(tiff.ORIENTATION, 1)
        if self.image.format == "HEIF":
            stated = self.image.info.get("original_orientation")
            return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1
        return self.orientation()

    def metadata(self) -> tuple[bytes | None, bytes | None]:
        """Return the EXIF block and the XMP packet as they are in the file."""
        if self.about:
            return self.about.exif, self.about.xmp
        if self.reading:
            entry = self.entries.get(tiff.XMP)
            return self.reading.exif(self.entries), self.reading.raw(entry) if entry else None
        block, packet = self.image.info.get("exif"), self.image.info.get("xmp")
        if self.image.format == "GIF":
            packet = _gif_xmp(self.file)
        return block or None, packet if isinstance(packet, bytes) and packet else None


def _gif_xmp(file: BinaryIO) -> bytes | None:
    """Return the packet in a GIF's extension (XMP, part 3, 1.1.2), up to the trailer that lets readers step over it."""
    file.seek(0)
    content = file.read()
    start = content.find(b"!\xff\x0bXMP DataXMP")
    end = content.find(b"\1\xff\xfe\xfd", start)
    return content[start + 14 : end] if 0 <= start < end else None


def open_source(file: BinaryIO, pixels: bool) -> OpenedFile:
    """Return the file opened. `pixels`: they will be asked for. Raises what Pillow raises, and Unsupported."""
    head = file.read(30)
    file.seek(0)
    about = reading = None
    page, entries = 0, dict[int, tiff.Entry]()
    if head.startswith(png.SIGNATURE):
        bare, about = png.taken_apart(file, pixels)
        file = BytesIO(bare)
    elif head.startswith(formats.TIFF_HEADS):
        reading = tiff.TiffFile(file)
        page, entries = _page(reading)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        _check_size(*_webp_size(head))  # before its decoder makes room for it
    source = OpenedFile(Image.new("1", (1, 1)), file, about, reading, page, entries)
    if reading and reading.big and not source.own:  # which Pillow reads in one byte order only
        source.file, source.page = BytesIO(reading.classic(entries, pixels)), 0
    if not source.own:
        source.image = opened_image(source)
    _check_size(*source.size)
    return source


def opened_image(source: OpenedFile) -> ImageFile.ImageFile:
    """Return Pillow's picture of the source, at its page, not yet decoded."""
    source.file.seek(0)
    image = formats.identified(source.file)
    if source.page:
        image.seek(source.page)
    if image.format == "JPEG2000":
        place = source.file.tell()
        image.info.update(jp2.described(source.file).items())
        source.file.seek(place)
    step = _SHALLOW.get(raw_mode(image))
    if step and "transparency" in image.info:
        image.info["transparency"] = image.info["transparency"] % (255 // step + 1) * step
    return image


# PNG's grey of 2 and 4 bits, whose values Pillow widens to 8, and not the one that means transparent: by what factor.
_SHALLOW = {"L;2": 85, "L;4": 17}


def _check_size(height: int, width: int) -> None:
    if width < 1 or height < 1:
        raise Unsupported(f"has no pixels ({width} x {height}): export it again")
    if width * height > MOST_PIXELS:
        raise Unsupported(f"has {width} x {height} pixels, more than {MOST_IN_WORDS}")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return (height, width) from a WebP's first 30 bytes (RFC 9649, 2.5 to 2.7)."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[27:30], "little"), 1 + int.from_bytes(head[24:27], "little")
    if head[12:16] == b"VP8L":
        both = int.from_bytes(head[21:25], "little")
        return 1 + (both >> 14 & 0x3FFF), 1 + (both & 0x3FFF)
    return int.from_bytes(head[28:30], "little") & 0x3FFF, int.from_bytes(head[26:28], "little") & 0x3FFF


def _page(reading: tiff.TiffFile) -> tuple[int, dict[int, tiff.Entry]]:
    """Return the page to read, which must be the only one of full size."""
    pages = reading.pages()
    if reading.is_raw(pages):
        raise Unsupported(formats.RAW)
    if len(pages) > 1:
        raise Unsupported(
            f"is a TIFF of {len(pages)} pages: save each as a file of its own (for example with tiffsplit)"
        )
    page, entries = pages[0] if pages else (0, reading.directory(reading.start)[0])
    if reading.is_sparse(entries):
        raise Unsupported("is a TIFF with parts that were never written: export it again")
    return page, entries


_GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B")


def nature(source: OpenedFile) -> tuple[int, bool, bool]:
    """Return bits, alpha and grey of the samples that `samples_of` will give."""
    image, raw = source.image, raw_mode(source.image)
    if source.own:
        channels = source.number(tiff.SAMPLES, 1)
        return 16, channels in (2, 4), channels < 3
    deep = image.mode.startswith(("I", "F")) or (";16" in raw and image.mode in ("RGB", "RGBA"))
    alpha = image.has_transparency_data and image.mode not in ("CMYK", "LAB", "F", "I")
    return 16 if deep else 8, alpha, image.mode in _GREY_MODES or raw.startswith("LA;16")


def raw_mode(image: Image.Image) -> str:
    """Return how the samples are stored, in Pillow's words; "" once they are decoded."""
    tiles = getattr(image, "tile", ())
    if not tiles:
        return ""
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def decoded_again(source: OpenedFile, raw_mode: str) -> Image.Image:
    """Return the picture decoded once more, its stored bytes taken as `raw_mode`."""
    image = opened_image(source)
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    image.load()
    return image
