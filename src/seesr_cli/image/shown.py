"""Convert pictures of any profile to sRGB of 8 bits, as screens show them."""

import math
from contextlib import suppress
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from .picture import Picture

LONGEST_SIDE = 8000
"""Pixels of what is shown: WebP ends at 16383."""


def as_shown(picture: Picture, most: int) -> Image.Image:
    """Return `picture` as every browser shows it: sRGB, 8 bits, RGB or RGBA, and of at most `most` pixels."""
    channels = [*picture.pixels.numpy(), *(() if picture.alpha is None else picture.alpha.numpy())]
    # Channel by channel: in float32 a large picture is large.
    seen = Image.fromarray(np.stack([np.rint(it * np.float32(255)).astype(np.uint8) for it in channels], axis=-1))
    width, height = seen.size
    factor = min(1.0, math.sqrt(most / (width * height)), LONGEST_SIDE / max(width, height))
    if factor < 1:
        size = max(1, round(factor * width)), max(1, round(factor * height))
        seen = seen.resize(size, Image.Resampling.LANCZOS)  # which weighs colours by their alpha
    if picture.icc is None:
        return seen
    colours = seen.convert("RGB")
    # A profile that no one can apply says nothing of the colours: browsers take them for sRGB, too.
    with suppress(ImageCms.PyCMSError, OSError, ValueError):
        profile = ImageCms.ImageCmsProfile(BytesIO(picture.icc))
        if profile.profile.xcolor_space.strip() == "GRAY":
            colours = colours.getchannel(0)
        converted = ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert converted is not None  # None is for in-place conversion only
        if picture.alpha is not None:
            converted.putalpha(seen.getchannel(3))
        return converted
    return seen
