"""Pictures on disk: read into tensors with everything that belongs to them, and written whole or not at all.

Light to import: Pillow and numpy only, so that names and places can be checked before torch is loaded.
"""

import logging
import struct
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from .errors import OutputUnwritable, PictureUnreadable
from .exif import carried
from .files import cause, part_beside, replacing, unwritable

if TYPE_CHECKING:
    from torch import Tensor

# Pillow logs what it finds odd in a file; without a handler Python would print that on the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MOST_PIXELS = 100_000_000
"""Largest picture that is read: beyond most cameras of today, and far short of what a lying header can ask for."""

_MOST_IN_WORDS = f"the {MOST_PIXELS // 10**6} million that are read: shrink it or cut it up first."

# fmt: off
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""What counts as a picture in a folder; a file named by the person is looked into whatever its suffix."""

# Only formats that are pixels: Pillow's others are found by weak signs, or run another program (EPS: Ghostscript).
_READ = ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF", "BMP", "GIF", "JPEG2000", "PPM")
_READ_IN_WORDS = "JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF, JPEG 2000 or PPM"


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen, and what must travel with it.

    pixels: [3, H, W] float32 RGB in [0, 1], in the picture's own profile, orientation applied; grey ones have three
    equal channels. alpha: [1, H, W] float32 in [0, 1] (not premultiplied), or None where the file has
    none. grey: the picture has no colours, and is written without. icc: the profile of the pixels. exif: with the
    `Exif\\0\\0` head, orientation 1, without thumbnail.
    """

    pixels: "Tensor"
    alpha: "Tensor | None" = None
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None


@dataclass(frozen=True)
class _Format:
    """One kind of file that is written: Pillow's name, the longest side it can hold, whether it holds alpha."""

    name: str
    longest: int
    alpha: bool
    options: dict[str, Any] = field(default_factory=dict)


_PNG = _Format("PNG", 2**31 - 1, alpha=True)
# Quality 95 without chroma subsampling: the detail just made is not to be lost again in the file.
_JPEG = _Format("JPEG", 65500, alpha=False, options={"quality": 95, "subsampling": 0})
_WEBP = _Format("WEBP", 16383, alpha=True, options={"quality": 95, "method": 4})
# Not compressed: Pillow 13 cannot then write the directories that a camera's EXIF is made of.
_TIFF = _Format("TIFF", 2**31 - 1, alpha=True)
_WRITTEN = {".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP, ".tif": _TIFF, ".tiff": _TIFF}
WRITTEN_SUFFIXES = tuple(_WRITTEN)


def read(path: Path) -> Picture:
    """Return the picture in the file `path`, as it is meant to be seen; of several frames or pages, the first.

    Grey, palette, CMYK, LAB and YCbCr become RGB: CMYK through its embedded profile where there is one, and then the
    pixels are sRGB and `icc` says so. 16-bit PNG and TIFF keep their 16 bits. Raises PictureUnreadable.
    """
    try:
        with (
            _opened(path) as file,
            warnings.catch_warnings(action="ignore"),
            Image.open(file, formats=_formats()) as image,
        ):
            return _picture(path, image, file)
    except UnidentifiedImageError:
        reason = f"{path} is not a picture that can be read: give a {_READ_IN_WORDS} file."
        raise PictureUnreadable(reason) from None
    except Image.DecompressionBombError:
        raise PictureUnreadable(f"{path} has more pixels than {_MOST_IN_WORDS}") from None
    except (PictureUnreadable, MemoryError):
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise PictureUnreadable(f"{path} is damaged or incomplete ({reason}): copy or export it again.") from error


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


def _formats() -> list[str]:
    Image.init()
    return [name for name in _READ if name in Image.OPEN]


def _picture(path: Path, image: Image.Image, file: BinaryIO) -> Picture:
    import torch

    width, height = image.size
    if width < 1 or height < 1:
        raise PictureUnreadable(f"{path} has no pixels ({width} x {height}): export it again.")
    if width * height > MOST_PIXELS:
        raise PictureUnreadable(f"{path} has {width} x {height} pixels, more than {_MOST_IN_WORDS}")
    try:
        values, profile = _values(image, file)
    except _Unsupported as error:
        raise PictureUnreadable(f"{path} {error}: export it with 8 or 16 bits per channel.") from None
    exif, orientation = carried(image)
    values = np.ascontiguousarray(_upright(values, orientation).transpose(2, 0, 1), dtype=np.float32)
    channels = len(values)
    grey = channels < 3
    colours = values[: 1 if grey else 3]
    return Picture(
        pixels=torch.from_numpy(np.repeat(colours, 3, axis=0) if grey else np.ascontiguousarray(colours)),
        alpha=torch.from_numpy(values[-1:].copy()) if channels in (2, 4) else None,
        grey=grey,
        icc=profile if _space(profile) == b"RGB " or (grey and _space(profile) == b"GRAY") else None,
        exif=exif,
    )


class _Unsupported(Exception):
    """The file is sound, but what its numbers mean is not known."""


Values = NDArray[np.float32]


def _values(image: Image.Image, file: BinaryIO) -> tuple[Values, bytes | None]:
    """Return what `image` shows, [H, W, C] in [0, 1], C = grey, grey + alpha, RGB or RGB + alpha; and its profile."""
    profile = image.info.get("icc_profile")
    if (deep := _deep_values(image, file)) is not None:
        return deep, profile
    if image.mode == "CMYK":
        image, profile = _from_cmyk(image, profile)
    elif image.mode == "LAB":
        image, profile = _to_srgb(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if image.mode in ("1", "L", "LA", "La"):
        image = image.convert("LA" if image.has_transparency_data else "L")
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    values = np.asarray(image, dtype=np.float32) / 255
    return np.atleast_3d(values), profile


def _from_cmyk(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    if profile is not None:
        # A profile that is broken, or of another colour space, cannot say what the inks look like.
        with suppress(ImageCms.PyCMSError, OSError):
            return _to_srgb(image, ImageCms.ImageCmsProfile(BytesIO(profile)))
    return image.convert("RGB"), None


def _to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> tuple[Image.Image, bytes]:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(
        image,
        profile,
        srgb,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # None is for in-place conversion only
    written = bytearray(srgb.tobytes())
    written[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # the time it was made: same input, same bytes
    return converted, bytes(written)


def _space(profile: bytes | None) -> bytes:
    """Return the colour space a profile is for, as its header writes it (ICC.1, 7.2.6)."""
    return profile[16:20] if profile else b""


# How Pillow names 16-bit samples it reads the high bytes of, by what reads the low bytes instead: the other byte order.
_OTHER_BYTES = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def _deep_values(image: Image.Image, file: BinaryIO) -> Values | None:
    """Return the values of a picture with more than 8 bits per channel, or None where Pillow's own 8 bits are all."""
    if image.mode in ("I;16", "I;16L", "I;16B"):
        bits, inverted = 16, False
        if image.format == "TIFF":
            bits, inverted = _tag(image, 258, 16), _tag(image, 262, 1) == 0
        whole = np.asarray(image)
        values = (whole / np.float32(2**bits - 1)).astype(np.float32)
        return _keyed(np.atleast_3d(1 - values if inverted else values), np.atleast_3d(whole), image)
    if image.mode == "I":
        whole = np.asarray(image)
        low, high = int(whole.min()), int(whole.max())
        if low < 0 or high > 65535:
            raise _Unsupported(f"holds whole numbers from {low} to {high}, and nothing says which one is white")
        return np.atleast_3d((whole / 65535).astype(np.float32))
    if image.mode == "F":
        real = np.asarray(image)
        if not np.isfinite(real).all() or real.min() < 0 or real.max() > 1:
            raise _Unsupported("holds floating-point numbers outside 0 (black) to 1 (white)")
        return np.atleast_3d(real)

    if image.format == "TIFF" and _tag(image, 284, 1) == 2 and _tag(image, 258, 8) > 8:
        raise _Unsupported("stores 16-bit colours plane by plane")  # which Pillow takes for 8-bit ones
    raw = _raw_mode(image)
    if raw == "LA;16B":  # four bytes a pixel, which "RGBA" hands over as they are
        bytes_ = np.asarray(_reopened(file, "RGBA")).astype(np.float32)
        return (bytes_[..., 0::2] * 256 + bytes_[..., 1::2]) / np.float32(65535)
    name, _, depth = raw.partition(";16")
    if name in ("RGB", "RGBA", "RGBX") and depth in _OTHER_BYTES:
        low_bytes = np.asarray(_reopened(file, f"{name};16{_OTHER_BYTES[depth]}"))
        deep = np.asarray(image).astype(np.uint16) * 256 + low_bytes
        return _keyed((deep / np.float32(65535)).astype(np.float32), deep, image)
    return None


def _keyed(values: Values, whole: NDArray[Any], image: Image.Image) -> Values:
    """Return `values` with the alpha of a PNG that names one value, or one colour, as its transparent one."""
    key = image.info.get("transparency")
    if key is None:
        return values
    opaque = (whole != np.asarray(key)).any(axis=-1, keepdims=True)
    return np.concatenate([values, opaque.astype(np.float32)], axis=-1)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", ())
    if not tiles:
        return ""
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _reopened(file: BinaryIO, raw_mode: str) -> Image.Image:
    """Return the picture decoded once more, its stored bytes taken as `raw_mode`."""
    file.seek(0)
    image = Image.open(file, formats=_formats())
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    image.load()
    return image


def _tag(image: Image.Image, number: int, default: int) -> int:
    """Return a TIFF tag (its first value, where it has several)."""
    tags = getattr(image, "tag_v2", {})
    value = tags.get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _upright(values: Values, orientation: int) -> Values:
    """Return [H, W, C] turned and mirrored as EXIF's orientation asks (Exif 2.32, 4.6.4 A)."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def check_target(path: Path, height: int, width: int) -> None:
    """Return if a picture of this size could be written at `path`, else raise OutputUnwritable.

    Looks at the suffix, the format's limits and the folder (by making a file in it), and leaves nothing behind.
    """
    kind = _format(path)
    if max(height, width) > kind.longest:
        reason = f"{path} would be {width} x {height} pixels, and {kind.name} ends at {kind.longest} a side"
        raise OutputUnwritable(f"{reason}: choose a .png file or a smaller --scale.")
    probe = part_beside(path)
    try:
        if path.is_dir():
            raise OutputUnwritable(f"{path} is a folder: name another file with -o.")
        probe.open("xb").close()
    except OSError as error:
        raise OutputUnwritable(unwritable(path, error)) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def write(path: Path, picture: Picture, overwrite: bool = False) -> tuple[str, ...]:
    """Write `picture` with 8 bits per channel, whole or not at all, in the format of `path`'s suffix.

    Grey pictures are written grey. Returns what the format could not hold, a sentence each: transparency is then laid
    on white, a profile or EXIF it cannot hold is left out. Raises OutputUnwritable, also where `path` exists and
    `overwrite` is False; nothing is left behind then.
    """
    kind = _format(path)
    notes = []
    colours = picture.pixels.detach().cpu().numpy().transpose(1, 2, 0)
    alpha = None if picture.alpha is None else picture.alpha.detach().cpu().numpy().transpose(1, 2, 0)
    if alpha is not None and not kind.alpha:
        colours, alpha = colours * alpha + (1 - alpha), None
        notes.append(f"{kind.name} holds no transparency: the picture was laid on white.")
    # An RGB profile is no profile for a single channel: such a picture is grey in three equal channels.
    if picture.grey:
        colours = _luma(colours)
        if _space(picture.icc) == b"RGB ":
            colours = np.repeat(colours, 3, axis=-1)
    values = _eight_bits(colours if alpha is None else np.concatenate([colours, alpha], axis=-1))
    options = dict(kind.options)
    for name, content, what in (("icc_profile", picture.icc, "profile"), ("exif", picture.exif, "EXIF")):
        if content is not None and _holds(kind, name, content):
            options[name] = content
        elif content is not None:
            notes.append(f"{kind.name} cannot hold this picture's {what}: it was left out.")
    with replacing(path, overwrite) as file, warnings.catch_warnings(action="ignore"):
        Image.fromarray(values.squeeze(-1) if values.shape[-1] == 1 else values).save(file, kind.name, **options)
    return tuple(notes)


def _holds(kind: _Format, name: str, content: bytes) -> bool:
    """Return whether the format takes `content`: JPEG has limits of length, and TIFF takes EXIF apart."""
    try:
        with warnings.catch_warnings(action="ignore"):
            Image.new("L", (1, 1)).save(BytesIO(), kind.name, **{name: content})
    except Exception:  # whatever a damaged block makes of the encoder
        return False
    return True


def _luma(colours: Values) -> Values:
    """Return the one channel the eye sees of [H, W, 3] (ITU-R BT.601, as Pillow's "L")."""
    return colours @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)


def _eight_bits(values: Values) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def _format(path: Path) -> _Format:
    kind = _WRITTEN.get(path.suffix.lower())
    if kind is None:
        raise OutputUnwritable(f"{path} has no suffix that is written: end it with {' '.join(WRITTEN_SUFFIXES)}.")
    return kind
