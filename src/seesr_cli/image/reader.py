"""Files into pictures: loaded once, decoded as they are meant to be seen, or refused in a sentence."""

import os
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import PictureUnreadable
from ..files import cause
from . import exif, formats, metadata, profiles, tiff
from .opened import MOST_IN_WORDS, OpenedFile, nature, open_source
from .picture import Header, Picture, Unsupported
from .samples import bleed, samples_of, tensor, upright

MOST_BYTES = 2**30
"""Largest file that is read: MOST_PIXELS with four channels of 16 bits, uncompressed, and room for metadata."""

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


TAKEN_SO_FAR = ", or take what is there with --tolerant"
"""Ends what is said of a truncated picture, for commands that have this option."""


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
            raise PictureUnreadable(f"{reason}{TAKEN_SO_FAR}.") from error
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
    """Return the header of the picture in the file `path`, without decoding the picture. Raises PictureUnreadable."""
    with _opened(path) as file, _sentences(path, file):
        source = open_source(file, pixels=False)
        height, width = source.size
        if source.orientation() > 4:
            height, width = width, height
        return Header((height, width), *nature(source))


def packet(path: Path) -> bytes | None:
    """Return the XMP packet in the file `path`, without decoding its picture. Raises PictureUnreadable."""
    with _opened(path) as file, _sentences(path, file):
        return open_source(file, pixels=True).metadata()[1]  # also what stands behind the pixels


def _decoded(data: bytes, path: Path, tolerant: bool = False) -> Picture:
    file = BytesIO(data)
    with _sentences(path, file):
        source = open_source(file, pixels=True)
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
        raise PictureUnreadable(f"{path} {formats.unknown(file)}.") from None
    except Unsupported as error:
        raise PictureUnreadable(f"{path} {error}.") from None
    except Image.DecompressionBombError:
        raise PictureUnreadable(f"{path} has more pixels than {MOST_IN_WORDS}.") from None
    except MemoryError as error:
        raise PictureUnreadable(f"{path} needs more memory to be read than there is: shrink it first.") from error
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if reason.startswith(("Unsupported", "decoder error")):  # of a BMP, and of a TIFF's compression
            raise _Damaged(f"{path} {formats.UNREAD} ({reason}): copy it again, or export it anew as PNG.") from error
        raise _Damaged(f"{path} is damaged or incomplete ({reason}): copy or export it again.") from error


def _picture(source: OpenedFile, data: bytes) -> Picture:
    notes: list[str] = []
    bits, _, _ = nature(source)  # before the pixels are there: Pillow forgets how they were stored
    samples, white, icc = samples_of(source, notes)
    orientation = source.orientation()
    values = tensor(upright(samples, orientation), white)
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
        bleed(pixels, alpha)
    carried = metadata.read(source, converted=source.image.mode in ("CMYK", "LAB"))
    notes += carried.notes
    if bits == 8 and (stored := _stored_bits(source, data)) > 8:
        notes.append(f"Its {stored} bits per channel were read as 8.")
    if source.about and source.about.hidden:
        notes.append("It also holds an animation, of which this picture is no frame: only the picture was taken.")
    elif source.image.format != "MPO" and _several(source):
        notes.append("It holds several frames: the first was taken.")
    return Picture(
        pixels=pixels.contiguous(),
        alpha=None if alpha is None else alpha.clone(),
        grey=grey,
        icc=icc,
        exif=carried.exif,
        xmp=carried.xmp,
        bits=bits,
        notes=tuple(notes),
        iptc=carried.iptc,
        texts=carried.texts,
        resolution=carried.resolution,
        described=(values.shape[1], values.shape[2]),
    )


def _stored_bits(source: OpenedFile, data: bytes) -> int:
    """Return the bits per channel that the file has, where Pillow gives 8 in any case."""
    if source.image.format == "JPEG2000":  # the marker SIZ (ISO 15444-1, A.5.1), which has one less
        found = re.search(rb"\xff\x4f\xff\x51.{38}(.)", data[: 2**20], re.DOTALL)
        return (found[1][0] & 0x7F) + 1 if found else 8
    if source.image.format in ("AVIF", "HEIF"):  # the box pixi (ISO 23008-12, 6.5.6) of the first picture that has one
        found = re.search(rb"pixi\0{4}.(.)", data[: 2**20], re.DOTALL)
        return found[1][0] if found else 8
    return 8


def _several(source: OpenedFile) -> bool:
    if source.about:
        return source.about.frames > 1
    # The first frame is sound by now; a later one that is damaged does not matter.
    with suppress(Exception):
        return source.image.format != "TIFF" and bool(getattr(source.image, "is_animated", False))
    return True


def _stated_profile(source: OpenedFile, data: bytes, grey: bool, notes: list[str]) -> bytes | None:
    """Return the profile that the file gives its pixels, in whatever words; None is sRGB."""
    icc = source.image.info.get("icc_profile") or None
    block = source.metadata()[0]
    adobe = block is not None and exif.is_adobe_rgb(block)
    if source.reading and tiff.ICC in source.entries:
        icc = source.reading.raw(source.entries[tiff.ICC])
    if source.about:
        about = source.about
        if about.code:
            return profiles.from_code(*about.code, grey)
        icc = about.icc
        if icc is None and (about.srgb or about.gamma or about.primaries):
            return None if about.srgb else profiles.from_gamma(about.gamma, about.primaries, grey)
    elif icc is None and source.image.format in ("AVIF", "HEIF"):
        # The box colr of type nclx (ISO 23008-12, 6.5.5), of the first picture that has one.
        found = re.search(rb"colrnclx(....)", data[: 2**20], re.DOTALL)
        if found is not None:
            primaries, transfer = struct.unpack(">2H", found[1])
            return profiles.from_code(primaries, transfer, grey)
    if icc is None:
        return profiles.adobe_rgb(grey) if adobe else None
    if profiles.space(icc) == b"RGB " or (grey and profiles.space(icc) == b"GRAY"):
        return icc
    notes.append("Its colour profile is not one for its pixels: it was left behind.")
    return None
