"""Write pictures to files: keep the metadata that the format can hold, and name the rest."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import OutputUnwritable
from ..files import part_beside, replacing, unwritable
from ..settings import Format
from . import exif, jpeg, metadata, png, profiles, tiff
from .picture import Picture, Unsupported


@dataclass(frozen=True)
class Kind:
    """One kind of file that is written.

    name: for sentences. suffixes: what files of it end in, the usual one first. longest: side in pixels. alpha, deep:
    whether it holds transparency, and 16 bits. quality: where it has one, what is taken unless told.
    """

    name: str
    suffixes: tuple[str, ...]
    longest: int
    alpha: bool = True
    deep: bool = False
    quality: int | None = None


# Quality without chroma subsampling: the detail just made is not to be lost again in the file.
FORMATS: dict[Format, Kind] = {
    "png": Kind("PNG", (".png",), 2**31 - 1, deep=True),
    "jpeg": Kind("JPEG", (".jpg", ".jpeg"), 65500, alpha=False, quality=95),
    "webp": Kind("WEBP", (".webp",), 16383, quality=95),
    "tiff": Kind("TIFF", (".tif", ".tiff"), 2**31 - 1, deep=True),
    # AV1 goes to 65536; libavif's readers stop at half of that.
    "avif": Kind("AVIF", (".avif",), 32768, quality=85),
}
_OPTIONS: dict[Format, dict[str, Any]] = {
    "jpeg": {"subsampling": 0},
    "webp": {"method": 4},
    "avif": {"subsampling": "4:4:4", "speed": 6},
}
_WRITERS = {"png": png.write, "tiff": tiff.write}
WRITTEN_SUFFIXES = tuple(suffix for kind in FORMATS.values() for suffix in kind.suffixes)


def kind_of(path: Path) -> Format | None:
    """Return the format that `path`'s suffix names, or None."""
    return next((name for name, kind in FORMATS.items() if path.suffix.lower() in kind.suffixes), None)


def check_target(path: Path, size: tuple[int, int], kind: Format) -> None:
    """Return if a picture of (height, width) `size` could be written at `path`, else raise OutputUnwritable.

    Looks at the format's limits and the folder (by making a file in it), and leaves nothing behind.
    """
    height, width = size
    format_ = FORMATS[kind]
    if max(size) > format_.longest:
        reason = f"{path} would be {width} x {height} pixels, and {format_.name} ends at {format_.longest} a side"
        raise OutputUnwritable(f"{reason}: choose a .png file or a smaller --scale.")
    part = part_beside(path)
    try:
        if path.is_dir():
            raise OutputUnwritable(f"{path} is a folder: name another file with -o.")
        part.open("xb").close()
    except OSError as error:
        raise OutputUnwritable(unwritable(path, error)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write(path: Path, picture: Picture, overwrite: bool = False) -> tuple[str, ...]:
    """Write `picture` whole or not at all, in the format of `path`'s suffix, as `encode` does. Returns its notes.

    Raises OutputUnwritable, also where `path` exists and `overwrite` is False; nothing is left behind then.
    """
    kind = kind_of(path)
    if kind is None:
        raise OutputUnwritable(f"{path} has no suffix that is written: end it with {' '.join(WRITTEN_SUFFIXES)}.")
    with replacing(path, overwrite) as file:
        return encode(file, picture, kind)


def encode(file: BinaryIO, picture: Picture, kind: Format, quality: int | None = None) -> tuple[str, ...]:
    """Write `picture` into the empty, seekable `file`; return a sentence for each part that the format cannot hold.

    PNG and TIFF have 16 bits per channel where `picture.bits` says so, and are written in bands: memory does not grow
    with the picture. quality: 1 to 100, for JPEG, WebP and AVIF. Grey pictures are written grey. Transparency that
    cannot be held is laid on white; a profile, EXIF or XMP that cannot be is left out. What EXIF and XMP say of the
    size is made true. Same picture, same bytes. Raises OutputUnwritable where the format ends, and OSError.
    """
    format_ = FORMATS[kind]
    height, width = picture.pixels.shape[-2:]
    notes = []
    if picture.alpha is not None and not format_.alpha:
        notes.append(f"{format_.name} holds no transparency: the picture was laid on white.")
    if picture.bits > 8 and not format_.deep:
        notes.append(f"{format_.name} holds 8 bits per channel: the picture's {picture.bits} were rounded to them.")
    icc = picture.icc
    # WebP and AVIF are read as three channels always, and for those a grey profile is none.
    if kind in ("webp", "avif") and icc and profiles.space(icc) == b"GRAY":
        icc = profiles.for_three_channels(icc)
    three = picture.grey and profiles.space(icc) == b"RGB "
    attached, left_out = metadata.written(picture, icc, kind, format_.name)
    notes += left_out
    bands = _bands(picture, format_, three)
    if kind in _WRITERS:
        try:
            _WRITERS[kind](file, bands, (height, width), attached)
        except Unsupported as error:
            raise OutputUnwritable(f"The result {error}.") from None
        return tuple(notes)
    options = _OPTIONS[kind] | {"quality": format_.quality if quality is None else quality}
    block = attached.exif
    if kind == "avif" and block:
        block = exif.without_orientation(block)  # which Pillow would take out itself, and write the rest anew
    named = (("icc_profile", icc, "profile"), ("exif", block, "EXIF"), ("xmp", attached.xmp, "XMP"))
    for name, content, what in named:
        if content is not None and _holds(format_, name, content):
            options[name] = content
        elif content is not None:
            notes.append(f"{format_.name} cannot hold this picture's {what}: it was left out.")
    if kind == "jpeg":
        options["extra"] = jpeg.segments(attached)
    values = np.concatenate(list(bands))
    # Not into `file`: Pillow would write to it below Python, and a full disk would then have no name.
    encoded = BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"):
            pixels = values.squeeze(-1) if values.shape[-1] == 1 else values
            Image.fromarray(pixels).save(encoded, format_.name, **options)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:  # of the encoder: it writes to memory
        reason = f"The result, {width} x {height} pixels, cannot be made a {format_.name} ({error})"
        raise OutputUnwritable(f"{reason}: choose another kind of file, as --format png.") from error
    if kind == "jpeg" and attached.resolution:
        jpeg.put_density(encoded.getbuffer(), attached.resolution)
    file.write(encoded.getbuffer())
    return tuple(notes)


def samples(picture: Picture, kind: Format) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of `picture`, [rows, W, C] in [0, 1], rounded as a file of this kind holds them.

    C: grey or RGB, with alpha behind it where the kind has it. What a lossy kind loses besides is not in them.
    """
    for band in _bands(picture, FORMATS[kind], three=False):
        yield band.astype(np.float32) / np.float32(np.iinfo(band.dtype).max)


def _bands(picture: Picture, format_: Kind, three: bool) -> Iterator[NDArray[Any]]:
    """Yield the rows to write, [rows, W, C]; values are rounded half to even, as many rows in each but the last.

    three: a grey picture in three equal channels.
    """
    height, width = picture.pixels.shape[-2:]
    white, whole = (65535, np.uint16) if picture.bits > 8 and format_.deep else (255, np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        colours = picture.pixels[:, top : top + rows].detach().cpu().numpy().transpose(1, 2, 0)
        if picture.grey:
            colours = colours @ _LUMA
            if three:
                colours = np.repeat(colours, 3, axis=-1)
        if picture.alpha is not None:
            alpha = picture.alpha[:, top : top + rows].detach().cpu().numpy().transpose(1, 2, 0)
            laid = colours * alpha + (1 - alpha)
            colours = np.concatenate([colours, alpha], axis=-1) if format_.alpha else laid
        yield np.rint(np.clip(colours, 0, 1) * np.float32(white)).astype(whole, order="C")


_BAND_PIXELS = 2**17
# What the eye sees of RGB (ITU-R BT.601, as Pillow's "L").
_LUMA = np.array([[0.299], [0.587], [0.114]], dtype=np.float32)


def _holds(format_: Kind, name: str, content: bytes) -> bool:
    """Return whether the format takes `content`: JPEG has limits of length."""
    try:
        with warnings.catch_warnings(action="ignore"):
            Image.new("L", (1, 1)).save(BytesIO(), format_.name, **{name: content})
    except Exception:  # whatever a damaged block makes of the encoder
        return False
    return True
