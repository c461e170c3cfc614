"""Decode the numbers of a picture, and scale them to the values that the networks work on."""

import sys
from contextlib import nullcontext, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from . import profiles, tiff
from .opened import OpenedFile, decoded_again, raw_mode
from .picture import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

Samples = NDArray[Any]


def tensor(samples: Samples, white: float) -> "Tensor":
    """Return [H, W, C] as float32 [C, H, W], divided by `white`; in bands, so that nothing is held twice."""
    import torch

    height, width, channels = samples.shape
    values = np.empty((channels, height, width), np.float32)
    band = max(1, 2**20 // width)
    for top in range(0, height, band):
        values[:, top : top + band] = samples[top : top + band].transpose(2, 0, 1)
        values[:, top : top + band] /= np.float32(white)
    return torch.from_numpy(values)


def bleed(pixels: "Tensor", alpha: "Tensor") -> None:
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


def samples_of(source: OpenedFile, notes: list[str]) -> tuple[Samples, float, bytes | None]:
    """Return samples [H, W, C] of the picture, the number that is white, and a profile that replaces the file's.

    C: grey, grey + alpha, RGB or RGB + alpha.
    """
    image = source.image
    deep = _deep_samples(source)
    if deep is not None:
        return *deep, None
    icc = None
    profile = image.info.get("icc_profile")
    if image.mode in ("CMYK", "LAB"):
        if ";16" in raw_mode(image):
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


def _deep_samples(source: OpenedFile) -> tuple[Samples, float] | None:
    """Return the samples of a picture with more than 8 bits per channel, and white; None where there are but 8."""
    image = source.image
    if source.own and source.reading:
        return _colours(tiff.deep_samples(source.reading, source.entries), source), 65535
    raw = raw_mode(image)
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
        return np.ascontiguousarray(np.asarray(decoded_again(source, "RGBA"))).view(">u2"), 65535
    name, _, depth = raw.partition(";16")
    if name in ("RGB", "RGBA", "RGBX", "RGBa") and depth in _OTHER_BYTES:
        stored = name.replace("a", "A")
        high_bytes = image if name == stored else decoded_again(source, f"{stored};16{depth}")
        deep = np.asarray(high_bytes).astype(np.uint16)
        deep <<= 8
        deep |= np.asarray(decoded_again(source, f"{stored};16{_OTHER_BYTES[depth]}"))
        return _keyed(deep if name == stored else _divided(deep), image, 65535), 65535
    return None


def _colours(samples: NDArray[np.uint16], source: OpenedFile) -> Samples:
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


def upright(values: Samples, orientation: int) -> Samples:
    """Return [H, W, C] turned and mirrored as EXIF's orientation asks (Exif 2.32, 4.6.4 A)."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
