"""Files into pictures: loaded once, decoded as they are meant to be seen, or refused in a sentence."""

import logging
import os
import re
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from ..errors import PictureUnreadable
from ..files import cause
from . import exif, jp2, png, profiles, tiff, xmp
from .picture import MOST_METADATA, Header, Picture, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

# Pillow logs what it finds odd in a file; without a handler Python would print that on the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MOST_PIXELS = 100_000_000
"""Largest picture that is read: beyond most cameras of today, and far short of what a lying header can ask for."""

_MOST_IN_WORDS = f"the {MOST_PIXELS // 10**6} million that are read: shrink it or cut it up first"

MOST_BYTES = 2**30
"""Largest file that is read: MOST_PIXELS with four channels of 16 bits, uncompressed, and room for metadata."""

HAS_HEIF = find_spec("pillow_heif") is not None
"""Whether HEIC is read, which the extra `heif` brings."""

# fmt: off
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}) | ({".heic", ".heif"} if HAS_HEIF else set())
# fmt: on
"""What counts as a picture in a folder; a file named by the person is looked into whatever its suffix."""

# Only formats that are pixels: Pillow's others are found by weak signs, or run another program (EPS: Ghostscript).
_READ = ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF", "BMP", "GIF", "JPEG2000", "PPM", "HEIF")
_READ_IN_WORDS = f"JPEG, PNG, WebP, TIFF, AVIF, {'HEIC, ' if HAS_HEIF else ''}BMP, GIF, JPEG 2000 or PPM"
_RAW = "is a camera's raw picture: develop it to TIFF or JPEG first"
# Of those that are no TIFF: Panasonic and Leica, Olympus (three), Fujifilm, Minolta, Sigma, Canon (until 2004).
_RAW_HEADS = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILM", b"\0MRM", b"FOVb", b"II\x1a\0")
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEADS = {
    **dict.fromkeys(_TIFF_HEADS, "TIFF"),
    b"\xff\xd8\xff": "JPEG",
    png.SIGNATURE: "PNG",
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_UNREAD = "is damaged or of a kind that is not read"
# The brands (ISO 23008-12, annex B) of pictures coded with HEVC, which Pillow alone does not read.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_REDUCED = threading.Lock()  # Pillow's switch for truncated pictures is one for all threads


def load(path: Path) -> bytes:
    """Return the whole file, read once, so that its hash and its picture are of the same bytes.

    Raises PictureUnreadable: not there, not a file, not readable, empty, beyond MOST_BYTES, or changed meanwhile.
    """
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > MOST_BYTES:
            most = f"the {MOST_BYTES // 2**20} MB that are read"
            raise PictureUnreadable(f"{path} is larger than {most}: export it smaller.")
        try:
            data = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
        except OSError as error:
            raise PictureUnreadable(f"{path} cannot be read ({cause(error)}): copy it from elsewhere.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise PictureUnreadable(f"{path} was changed while it was read: try again when it is finished.")
    return data


def _opened(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise PictureUnreadable(f"{path} is a folder, not a picture: give a file.")
        if path.exists() and not path.is_file():
            raise PictureUnreadable(f"{path} is a device or a pipe, not a file: save the picture as a file first.")
        if path.stat().st_size == 0:
            raise PictureUnreadable(f"{path} is empty (zero bytes): copy or download it again.")
        return path.open("rb")
    except FileNotFoundError:
        raise PictureUnreadable(f"{path} is not there: check the name.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PictureUnreadable(f"{path} cannot be read ({cause(error)}): check its permissions.") from error


class _Damaged(PictureUnreadable):
    """The decoder gave up; part of the picture may be there."""


def decode(data: bytes, path: Path, tolerant: bool = False) -> Picture:
    """Return the picture in `data`, the file `path` (which is for messages only), as it is meant to be seen.

    Grey, palette, CMYK, LAB and YCbCr become RGB. The profile is kept with its pixels; what cannot be kept (inks, LAB,
    linear light) is converted, and `icc` says to what. 16-bit PNG and TIFF keep their 16 bits. Of an animation the
    first frame; a TIFF of several pages is refused. `tolerant`: a truncated picture is read as far as it goes.
    Takes at most the file's size twice and 60 bytes a pixel. Raises PictureUnreadable.
    """
    try:
        return _decoded(data, path)
    except _Damaged as error:
        if not tolerant and "truncated" in str(error):
            reason = str(error).removesuffix(".")
            raise PictureUnreadable(f"{reason}, or take what is there with --tolerant.") from error
        if not tolerant:
            raise
    with _truncated_read():
        picture = _decoded(data, path, tolerant)
    if (picture.pixels == picture.pixels[:, :1, :1]).all():
        raise PictureUnreadable(f"{path} is damaged, and nothing of it can be seen: copy it again.")
    return replace(picture, notes=(*picture.notes, "It is cut off or damaged: what could be read was taken."))


@contextmanager
def _truncated_read() -> Iterator[None]:
    with _REDUCED:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False


def read(path: Path, tolerant: bool = False) -> Picture:
    """Return `decode` of `load`."""
    return decode(load(path), path, tolerant)


def probe(path: Path) -> Header:
    """Return what the header says of the picture in the file `path`, without decoding it. Raises PictureUnreadable."""
    with _opened(path) as file, _sentences(path, file):
        source = _source(file, pixels=False)
        height, width = source.size
        if source.orientation() > 4:
            height, width = width, height
        return Header((height, width), *_nature(source))


def _decoded(data: bytes, path: Path, tolerant: bool = False) -> Picture:
    file = BytesIO(data)
    with _sentences(path, file):
        source = _source(file, pixels=True)
        if source.about and source.about.broken and not tolerant:  # which Pillow does not look at
            raise ValueError("a checksum is wrong")
        with _silent() if source.number(tiff.COMPRESSION, 1) != 1 else nullcontext():
            return _picture(source, data)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep libtiff, which Pillow gives compressed TIFFs to, from writing on the terminal below Python."""
    try:
        kept = os.dup(2)
    except OSError:  # nothing is there to write to
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _sentences(path: Path, file: BinaryIO) -> Iterator[None]:
    """Raise PictureUnreadable in place of whatever decoding a file can raise."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except PictureUnreadable:
        raise
    except UnidentifiedImageError:
        raise PictureUnreadable(f"{path} {_unknown(file)}.") from None
    except Unsupported as error:
        raise PictureUnreadable(f"{path} {error}.") from None
    except Image.DecompressionBombError:
        raise PictureUnreadable(f"{path} has more pixels than {_MOST_IN_WORDS}.") from None
    except MemoryError as error:
        raise PictureUnreadable(f"{path} needs more memory to be read than there is: shrink it first.") from error
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if reason.startswith(("Unsupported", "decoder error")):  # of a BMP, and of a TIFF's compression
            raise _Damaged(f"{path} {_UNREAD} ({reason}): copy it again, or export it anew as PNG.") from error
        raise _Damaged(f"{path} is damaged or incomplete ({reason}): copy or export it again.") from error


def _unknown(file: BinaryIO) -> str:
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS and not HAS_HEIF:
        return "is a HEIC picture: install what reads it with: pip install 'seesr-cli[heif]'"
    if head.startswith(_RAW_HEADS) or head[4:] == b"ftypcrx ":
        return _RAW
    if known := _known(head):
        wanted = "RGB or grey with 8 or 16 bits per channel" if known == "TIFF" else "PNG"
        return f"starts as {known} does, but {_UNREAD}: copy it again, or export it anew as {wanted}"
    return f"is not a picture that can be read: give a {_READ_IN_WORDS} file"


def _known(head: bytes) -> str | None:
    """Return the format that a file's first 12 bytes name, of those that are read."""
    if head[:4] == b"RIFF":
        return "WebP" if head[8:] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        return "AVIF" if head[8:] in (b"avif", b"avis") else "HEIC" if head[8:] in _HEIC_BRANDS else None
    return next((name for start, name in _HEADS.items() if head.startswith(start)), None)


def _identified(file: BinaryIO) -> ImageFile.ImageFile:
    """Return the file as Pillow opens it; what reads the rarer formats is loaded when none of the common ones fits."""
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


Values = NDArray[np.float32]
Samples = NDArray[Any]


@dataclass
class _Source:
    """An opened file: Pillow's picture, not yet decoded (unless `own`), and what is read without Pillow."""

    image: Image.Image
    file: BinaryIO
    about: png.About | None = None  # of a PNG
    reading: tiff.Reading | None = None  # of a TIFF, with the page that is read
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
        turned = exif.tidy(block)[1] if block else 1
        return turned if turned != 1 or not packet else xmp.tidy(packet)[1]

    def metadata(self) -> tuple[bytes | None, bytes | None]:
        """Return the EXIF block and the XMP packet as they are in the file."""
        if self.about:
            return self.about.exif, self.about.xmp
        if self.reading:
            packet = self.entries.get(tiff.XMP)
            return self.reading.exif(self.entries), self.reading.raw(packet) if packet else None
        block, packet = self.image.info.get("exif"), self.image.info.get("xmp")
        return block or None, packet if isinstance(packet, bytes) and packet else None


def _source(file: BinaryIO, pixels: bool) -> _Source:
    """Return the file opened. `pixels`: they will be asked for. Raises what Pillow raises, and Unsupported."""
    head = file.read(30)
    file.seek(0)
    about = reading = None
    page, entries = 0, dict[int, tiff.Entry]()
    if head.startswith(png.SIGNATURE):
        bare, about = png.taken_apart(file, pixels)
        file = BytesIO(bare)
    elif head.startswith(_TIFF_HEADS):
        reading = tiff.Reading(file)
        page, entries = _page(reading)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        _check_size(*_webp_size(head))  # before its decoder makes room for it
    source = _Source(Image.new("1", (1, 1)), file, about, reading, page, entries)
    if reading and reading.big and not source.own:  # which Pillow reads in one byte order only
        source.file, source.page = BytesIO(reading.classic(entries, pixels)), 0
    if not source.own:
        source.image = _opened_image(source)
    _check_size(*source.size)
    return source


def _opened_image(source: _Source) -> ImageFile.ImageFile:
    source.file.seek(0)
    image = _identified(source.file)
    if source.page:
        image.seek(source.page)
    if image.format == "JPEG2000":
        place = source.file.tell()
        image.info.update(jp2.described(source.file).items())
        source.file.seek(place)
    step = _SHALLOW.get(_raw_mode(image))
    if step and "transparency" in image.info:
        image.info["transparency"] = image.info["transparency"] % (255 // step + 1) * step
    return image


# PNG's grey of 2 and 4 bits, whose values Pillow widens to 8, and not the one that means transparent: by what factor.
_SHALLOW = {"L;2": 85, "L;4": 17}


def _check_size(height: int, width: int) -> None:
    if width < 1 or height < 1:
        raise Unsupported(f"has no pixels ({width} x {height}): export it again")
    if width * height > MOST_PIXELS:
        raise Unsupported(f"has {width} x {height} pixels, more than {_MOST_IN_WORDS}")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return (height, width) from a WebP's first 30 bytes (RFC 9649, 2.5 to 2.7)."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[27:30], "little"), 1 + int.from_bytes(head[24:27], "little")
    if head[12:16] == b"VP8L":
        both = int.from_bytes(head[21:25], "little")
        return 1 + (both >> 14 & 0x3FFF), 1 + (both & 0x3FFF)
    return int.from_bytes(head[28:30], "little") & 0x3FFF, int.from_bytes(head[26:28], "little") & 0x3FFF


def _page(reading: tiff.Reading) -> tuple[int, dict[int, tiff.Entry]]:
    """Return the page to read, which must be the only one of full size."""
    pages = reading.pages()
    if reading.is_raw(pages):
        raise Unsupported(_RAW)
    if len(pages) > 1:
        raise Unsupported(
            f"is a TIFF of {len(pages)} pages: save each as a file of its own (for example with tiffsplit)"
        )
    page, entries = pages[0] if pages else (0, reading.directory(reading.start)[0])
    if reading.is_sparse(entries):
        raise Unsupported("is a TIFF with parts that were never written: export it again")
    return page, entries


# --- pixels ------------------------------------------------------------------------------------------------------

_GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B")


def _nature(source: _Source) -> tuple[int, bool, bool]:
    """Return bits, alpha and grey of what `_samples` will give."""
    image, raw = source.image, _raw_mode(source.image)
    if source.own:
        channels = source.number(tiff.SAMPLES, 1)
        return 16, channels in (2, 4), channels < 3
    deep = image.mode.startswith(("I", "F")) or (";16" in raw and image.mode in ("RGB", "RGBA"))
    alpha = image.has_transparency_data and image.mode not in ("CMYK", "LAB", "F", "I")
    return 16 if deep else 8, alpha, image.mode in _GREY_MODES or raw.startswith("LA;16")


def _picture(source: _Source, data: bytes) -> Picture:
    notes: list[str] = []
    bits, _, _ = _nature(source)  # before the pixels are there: Pillow forgets how they were stored
    samples, white, icc = _samples(source, notes)
    orientation = source.orientation()
    values = _tensor(_upright(samples, orientation), white)
    channels = len(values)
    grey, alpha = channels < 3, values[-1:] if channels in (2, 4) else None
    pixels = values[:1].repeat(3, 1, 1) if grey else values[:3]
    if icc is None and source.image.mode not in ("CMYK", "LAB"):
        icc = _stated_profile(source, data, grey, notes)
    if profiles.is_linear(icc) and icc is not None:
        profiles.from_linear(pixels.numpy())
        icc = profiles.with_srgb_curve(icc)
        notes.append("Its colours are linear light: they were put on sRGB's curve, and its profile says so now.")
    if alpha is not None:
        _bleed(pixels, alpha)
    block, packet = (None if part and len(part) > MOST_METADATA else part for part in source.metadata())
    kept = exif.tidy(block)[0] if block else None
    if (block and not kept) or (source.about and source.about.lost) or _has_long_xmp(source.image):
        notes.append("Metadata that is damaged or too long was left behind.")
    if bits == 8 and (stored := _stored_bits(source, data)) > 8:
        notes.append(f"Its {stored} bits per channel were read as 8.")
    if source.image.format != "MPO" and _several(source):
        notes.append("It holds several frames: the first was taken.")
    return Picture(
        pixels=pixels.contiguous(),
        alpha=None if alpha is None else alpha.clone(),
        grey=grey,
        icc=icc,
        exif=kept,
        xmp=xmp.tidy(packet)[0] if packet else None,
        bits=bits,
        notes=tuple(notes),
    )


def _has_long_xmp(image: Image.Image) -> bool:
    """Return whether a JPEG continues its XMP, which one segment could not hold, in others (XMP, part 3, 1.1.3.1)."""
    return any(part.startswith(b"http://ns.adobe.com/xmp/extension/\0") for _, part in getattr(image, "applist", ()))


def _stored_bits(source: _Source, data: bytes) -> int:
    """Return the bits per channel that the file has, where Pillow gives 8 in any case."""
    if source.image.format == "JPEG2000":  # the marker SIZ (ISO 15444-1, A.5.1), which has one less
        found = re.search(rb"\xff\x4f\xff\x51.{38}(.)", data[: 2**20], re.DOTALL)
        return (found[1][0] & 0x7F) + 1 if found else 8
    if source.image.format in ("AVIF", "HEIF"):  # the box pixi (ISO 23008-12, 6.5.6) of the first picture that has one
        found = re.search(rb"pixi\0{4}.(.)", data[: 2**20], re.DOTALL)
        return found[1][0] if found else 8
    return 8


def _several(source: _Source) -> bool:
    if source.about:
        return source.about.animated
    # The first frame is sound by now; a later one that is damaged does not matter.
    with suppress(Exception):
        return source.image.format != "TIFF" and bool(getattr(source.image, "is_animated", False))
    return True


def _stated_profile(source: _Source, data: bytes, grey: bool, notes: list[str]) -> bytes | None:
    """Return the profile that the file gives its pixels, in whatever words; None is sRGB."""
    icc = source.image.info.get("icc_profile") or None
    if source.reading and tiff.ICC in source.entries:
        icc = source.reading.raw(source.entries[tiff.ICC])
    if source.about:
        about = source.about
        if about.code:
            return profiles.from_code(*about.code, grey)
        icc = about.icc
        if icc is None and not about.srgb:
            return profiles.from_gamma(about.gamma, about.primaries, grey)
    elif icc is None and source.image.format in ("AVIF", "HEIF"):
        # The box colr of type nclx (ISO 23008-12, 6.5.5), of the first picture that has one.
        found = re.search(rb"colrnclx(....)", data[: 2**20], re.DOTALL)
        if found is None:
            return None
        primaries, transfer = struct.unpack(">2H", found[1])
        return profiles.from_code(primaries, transfer, grey)
    if icc is None or profiles.space(icc) == b"RGB " or (grey and profiles.space(icc) == b"GRAY"):
        return icc
    notes.append("Its colour profile is not one for its pixels: it was left behind.")
    return None


def _tensor(samples: Samples, white: float) -> "Tensor":
    """Return [H, W, C] as float32 [C, H, W], divided by `white`; in bands, so that nothing is held twice."""
    import torch

    height, width, channels = samples.shape
    values = np.empty((channels, height, width), np.float32)
    band = max(1, 2**20 // width)
    for top in range(0, height, band):
        values[:, top : top + band] = samples[top : top + band].transpose(2, 0, 1)
        values[:, top : top + band] /= np.float32(white)
    return torch.from_numpy(values)


def _bleed(pixels: "Tensor", alpha: "Tensor") -> None:
    """Give `pixels` the visible colours nearby where alpha is 0.

    What files hold there is arbitrary, often black, and enlarging would draw it into the edge as a halo. Averages over
    2 x 2, 4 x 4, … pixels, weighted by alpha, each used where the finer ones see nothing.
    """
    import torch
    import torch.nn.functional as F

    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return

    def halved(values: "Tensor") -> "Tensor":
        return F.avg_pool2d(values, 2, ceil_mode=True)

    def doubled(values: "Tensor", like: "Tensor") -> "Tensor":
        height, width = like.shape[-2:]
        return values.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., :height, :width]

    # By channel at full size, for memory.
    levels = [torch.cat([*(halved(channel * alpha) for channel in pixels.unsqueeze(1)), halved(alpha)])]
    while (levels[-1][3] == 0).any():
        levels.append(halved(levels[-1]))
    filled = levels[-1][:3] / levels[-1][3:]
    for level in levels[-2::-1]:
        seen = level[3:] > 0
        filled = torch.where(seen, level[:3] / torch.where(seen, level[3:], 1), doubled(filled, level))
    for channel, colour in zip(pixels.unsqueeze(1), filled.clamp_(0, 1).unsqueeze(1), strict=True):
        channel.copy_(torch.where(hidden, doubled(colour, channel), channel))


def _samples(source: _Source, notes: list[str]) -> tuple[Samples, float, bytes | None]:
    """Return what the picture shows, [H, W, C], C = grey, grey + alpha, RGB or RGB + alpha; the number that is white;
    and the profile where it is no longer the file's own."""
    image = source.image
    deep = _deep_samples(source)
    if deep is not None:
        return *deep, None
    icc = None
    profile = image.info.get("icc_profile")
    if image.mode in ("CMYK", "LAB"):
        if ";16" in _raw_mode(image):
            notes.append("Its 16-bit colours were read with 8 bits: they had to be converted.")
        image, icc = _converted(image, profile, notes)
    if image.mode in ("1", "L", "LA", "La"):
        image = image.convert("LA" if image.has_transparency_data else "L")
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return _channels(np.asarray(image)), 255, icc


def _converted(image: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """Return a picture in inks or in LAB as sRGB, and the profile that says so."""
    if image.mode == "LAB":
        notes.append("Its LAB colours were converted to sRGB.")
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return profiles.to_srgb(image, lab), profiles.srgb()
    # A profile that is broken, or of another colour space, cannot say what the inks look like.
    with suppress(ImageCms.PyCMSError, OSError) if profile else nullcontext():
        if profile:
            converted = profiles.to_srgb(image, ImageCms.ImageCmsProfile(BytesIO(profile)))
            notes.append("Its inks (CMYK) were converted to sRGB through its profile.")
            return converted, profiles.srgb()
    notes.append("Its inks (CMYK) have no profile: they were converted plainly.")
    return image.convert("RGB"), None


def _channels(samples: Samples) -> Samples:
    return samples[..., None] if samples.ndim == 2 else samples


# How Pillow names 16-bit samples it reads the high bytes of, by what reads the low bytes instead: the other byte order.
_OTHER_BYTES = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def _deep_samples(source: _Source) -> tuple[Samples, float] | None:
    """Return the samples of a picture with more than 8 bits per channel, and white; None where there are but 8."""
    image = source.image
    if source.own and source.reading:
        return _colours(tiff.deep_samples(source.reading, source.entries), source), 65535
    raw = _raw_mode(image)
    if image.mode in ("I;16", "I;16L", "I;16B"):
        whole = _channels(np.asarray(image)).astype(np.uint16, copy=False)
        white = 2 ** source.number(tiff.BITS, 16) - 1
        return _keyed(white - whole if source.number(tiff.PHOTOMETRIC, 1) == 0 else whole, image, white), white
    if image.mode == "I":
        whole = _channels(np.asarray(image))
        low, high = int(whole.min()), int(whole.max())
        if low < 0 or high > 65535:
            numbers = f"holds whole numbers from {low} to {high}, and nothing says which one is white"
            raise Unsupported(f"{numbers}: export it with 8 or 16 bits per channel")
        return whole, 65535
    if image.mode == "F":
        real = _channels(np.asarray(image))
        if not np.isfinite(real).all() or real.min() < 0 or real.max() > 1:
            numbers = "holds floating-point numbers outside 0 (black) to 1 (white)"
            raise Unsupported(f"{numbers}: export it with 8 or 16 bits per channel")
        return real, 1
    if raw == "LA;16B":  # four bytes a pixel, which "RGBA" hands over as they are
        return np.ascontiguousarray(np.asarray(_again(source, "RGBA"))).view(">u2"), 65535
    name, _, depth = raw.partition(";16")
    if name in ("RGB", "RGBA", "RGBX", "RGBa") and depth in _OTHER_BYTES:
        stored = name.replace("a", "A")
        high_bytes = image if name == stored else _again(source, f"{stored};16{depth}")
        deep = np.asarray(high_bytes).astype(np.uint16)
        deep <<= 8
        deep |= np.asarray(_again(source, f"{stored};16{_OTHER_BYTES[depth]}"))
        return _keyed(deep if name == stored else _divided(deep), image, 65535), 65535
    return None


def _colours(samples: NDArray[np.uint16], source: _Source) -> Samples:
    """Return TIFF samples as RGB or grey, white high, alpha not premultiplied."""
    photometric, channels = source.number(tiff.PHOTOMETRIC, 1), samples.shape[2]
    if photometric not in (0, 1, 2) or channels - (3 if photometric == 2 else 1) not in (0, 1):
        raise Unsupported("stores 16-bit values in an unusual way: export it as RGB or grey, or as PNG")
    if photometric == 0:
        samples[..., 0] = 65535 - samples[..., 0]
    premultiplied = channels in (2, 4) and source.number(tiff.EXTRA, 0) == 1
    return _divided(samples) if premultiplied else samples


def _divided(samples: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return samples with their colours divided by their alpha, the last channel."""
    alpha = np.maximum(samples[..., -1:], 1).astype(np.float32)
    samples[..., :-1] = np.minimum(np.rint(samples[..., :-1] * np.float32(65535) / alpha), 65535)
    return samples


def _keyed(whole: Samples, image: Image.Image, white: int) -> Samples:
    """Return `whole` with the alpha of a PNG that names one value, or one colour, as its transparent one."""
    key = image.info.get("transparency")
    if key is None:
        return whole
    opaque = (whole != np.asarray(key)).any(axis=-1, keepdims=True)
    return np.concatenate([whole, opaque.astype(np.uint16) * np.uint16(white)], axis=-1)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", ())
    if not tiles:
        return ""
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _again(source: _Source, raw_mode: str) -> Image.Image:
    """Return the picture decoded once more, its stored bytes taken as `raw_mode`."""
    image = _opened_image(source)
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    image.load()
    return image


def _upright(values: Samples, orientation: int) -> Samples:
    """Return [H, W, C] turned and mirrored as EXIF's orientation asks (Exif 2.32, 4.6.4 A)."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
