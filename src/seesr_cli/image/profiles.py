"""Colour profiles: kept, made from other declarations of colour, and used for conversion.

Pixels are worked on in the picture's own profile, as long as it is for RGB or grey and its numbers follow the eye
(a curve like sRGB's, which the networks expect). Linear light keeps its primaries and gets sRGB's curve.
"""

import struct
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from .picture import Unsupported

Values = NDArray[np.float32]
Primaries = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue (CIE 1931)."""

_D65 = (0.3127, 0.3290)
_BT709: Primaries = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
# What ITU-T H.273, table 2, numbers; unlisted ones are rare, and refused.
_NUMBERED: dict[int, Primaries] = {
    1: _BT709,
    2: _BT709,  # unspecified
    5: (*_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
# sRGB's curve as an ICC parametric curve (ICC.1:2022, 10.18, function 3): g, a, b, c, d.
_SRGB_CURVE = (
    b"para"
    + bytes(4)
    + struct.pack(
        ">HH5i", 3, 0, *(round(value * 65536) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )
)


def space(profile: bytes | None) -> bytes:
    """Return the colour space a profile is for, as its header writes it (ICC.1, 7.2.6)."""
    return profile[16:20] if profile else b""


def from_code(primaries: int, transfer: int, grey: bool) -> bytes | None:
    """Return the profile for H.273's code points, as PNG's cICP and AVIF state them; None is sRGB.

    Raises Unsupported for high dynamic range, and for primaries that are not known.
    """
    if transfer in (16, 18):
        raise Unsupported("is a high-dynamic-range picture (PQ or HLG): export it as SDR")
    if primaries not in _NUMBERED:
        raise Unsupported(f"has colour primaries of kind {primaries}, which are not known: export it as sRGB")
    # BT.709's curve (1, 6, 14, 15) is shown like sRGB's by what shows stills; 2 is unspecified.
    gamma = {4: 2.2, 5: 2.8, 8: 1.0}.get(transfer)
    if gamma is None and _NUMBERED[primaries] == _BT709:
        return None
    return made(_NUMBERED[primaries], _SRGB_CURVE if gamma is None else _gamma_curve(gamma), grey)


def adobe_rgb(grey: bool) -> bytes:
    """Return a profile with the numbers of Adobe RGB (1998), version 2005-05, 4.3."""
    primaries: Primaries = (*_D65, 0.640, 0.330, 0.210, 0.710, 0.150, 0.060)
    return made(primaries, _gamma_curve(563 / 256), grey, "compatible with Adobe RGB (1998)")


def from_gamma(gamma: float | None, primaries: Primaries | None, grey: bool) -> bytes | None:
    """Return the profile for PNG's gAMA (the file's exponent, 1 / 2.2 for usual ones) and cHRM; None is sRGB."""
    usual_curve = gamma is None or not 0.05 < gamma < 20 or abs(gamma * 2.2 - 1) < 0.05
    usual_colours = primaries is None or np.allclose(primaries, _BT709, atol=0.01)
    if usual_curve and usual_colours:
        return None
    curve = _SRGB_CURVE if usual_curve or gamma is None else _gamma_curve(1 / gamma)
    try:
        return made(_BT709 if primaries is None else primaries, curve, grey)
    except (np.linalg.LinAlgError, ZeroDivisionError, struct.error):  # colours that cannot be: as if not stated
        return None


def _gamma_curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def made(primaries: Primaries, curve: bytes, grey: bool = False, called: str = "as the file stated it") -> bytes:
    """Return a version 4 profile (ICC.1:2022, 8.3 and 8.4) with these primaries and this curve for every channel.

    White is adapted to D50 by Bradford's matrix (annex E). Raises LinAlgError or ZeroDivisionError where the primaries
    span no colours.
    """
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in zip(primaries[::2], primaries[1::2], strict=True)]).T
    white, colours = xyz[:, 0], xyz[:, 1:]
    colours = colours * np.linalg.solve(colours, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapt = np.linalg.solve(bradford, np.diag(bradford @ d50 / (bradford @ white)) @ bradford)
    tags = {
        b"desc": _words(f"{'Grey' if grey else 'RGB'} {called}"),
        b"cprt": _words("No copyright"),
        b"wtpt": _fixed(b"XYZ ", d50),
        b"chad": _fixed(b"sf32", adapt.ravel()),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), (adapt @ colours).T, strict=True):
            tags[name] = _fixed(b"XYZ ", column)
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, content = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, block in tags.items():
        table += name + struct.pack(">2I", start + len(content), len(block))
        content += block + bytes(-len(block) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", start + len(content), b"", 0x04300000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content


def _words(text: str) -> bytes:
    return b"mluc" + bytes(4) + struct.pack(">2I4s2I", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")


def _fixed(kind: bytes, numbers: NDArray[np.float64]) -> bytes:
    return kind + bytes(4) + struct.pack(f">{len(numbers)}i", *(round(float(number) * 65536) for number in numbers))


def _tags(profile: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Return where each tag's entry stands in the profile's table, and its content."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        entries = [(132 + 12 * i, *struct.unpack_from(">4s2I", profile, 132 + 12 * i)) for i in range(min(count, 100))]
    except struct.error:
        return {}
    return {name: (place, profile[start : start + length]) for place, name, start, length in entries}


_CURVES = (b"rTRC", b"gTRC", b"bTRC", b"kTRC")


def is_linear(profile: bytes | None) -> bool:
    """Return whether the profile's numbers are amounts of light: by its curves, not by its name."""
    curves = [content for name, (_, content) in _tags(profile or b"").items() if name in _CURVES]
    straight = (bytes(4), b"\0\0\0\1\1\0", bytes(4) + struct.pack(">i", 65536))
    begins = tuple(kind + bytes(4) + rest for kind, rest in zip((b"curv", b"curv", b"para"), straight, strict=True))
    return bool(curves) and all(curve.startswith(begins) for curve in curves)


def with_srgb_curve(profile: bytes) -> bytes:
    """Return the linear `profile` with sRGB's curve instead of its own, for values from `from_linear`."""
    # A table: versions before 4 know no parametric curves.
    light = np.linspace(0, 1, 4096)
    values = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    curve = b"curv" + bytes(4) + struct.pack(">I", 4096) + np.rint(values * 65535).astype(">u2").tobytes()
    changed = bytearray(profile + bytes(-len(profile) % 4))
    for name, (place, _) in _tags(profile).items():
        if name in _CURVES:
            struct.pack_into(">2I", changed, place + 4, len(changed), len(curve))
    struct.pack_into(">I", changed, 0, len(changed) + len(curve))
    changed[84:100] = bytes(16)  # the checksum of what it was
    return bytes(changed) + curve


def from_linear(light: Values) -> None:
    """Put linear values [C, ...] in [0, 1] on sRGB's curve (IEC 61966-2-1), in place, and by channel, for memory."""
    for values in light:
        low = values <= 0.0031308
        values[...] = np.where(low, values * 12.92, 1.055 * values ** np.float32(1 / 2.4) - 0.055)


def for_three_channels(profile: bytes) -> bytes | None:
    """Return the RGB profile that shows three equal channels as the grey `profile` shows one; None if it is broken."""
    tags = _tags(profile)
    return made(_BT709, tags[b"kTRC"][1]) if b"kTRC" in tags else None


def to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Return `image` converted from `profile` to sRGB: relative colorimetric with black point compensation, 8 bits.

    Raises PyCMSError where the profile is broken or for other pixels.
    """
    converted = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.ImageCmsProfile(BytesIO(srgb())),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # None is for in-place conversion only
    return converted


@cache
def srgb() -> bytes:
    """Return littleCMS's sRGB profile, without the time it was made: same input, same bytes."""
    written = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    written[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(written)
