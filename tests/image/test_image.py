"""Pictures are read as they are meant to be seen, and written whole or not at all."""

import io
import os
import resource
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from skimage import color

from seesr_cli import image
from seesr_cli.errors import OutputUnwritable, PictureUnreadable
from seesr_cli.files import replacing
from seesr_cli.image import Picture, read, write

HEIGHT, WIDTH = 6, 9
Array = NDArray[np.uint8]


@pytest.fixture
def colours() -> Array:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def deep() -> NDArray[np.uint16]:
    """Four channels of 16 bits, every bit of use."""
    return np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)


def eight_bits(values: torch.Tensor) -> Array:
    """Return [C, H, W] in [0, 1] as [H, W, C] bytes."""
    return (values * 255).round().byte().permute(1, 2, 0).numpy()


def png16(path: Path, samples: NDArray[np.uint16], colour_type: int, key: bytes = b"") -> Path:
    """Write a 16-bit PNG by hand (ISO 15948): Pillow writes no such colours. Rows take turns through filters 0-2."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = samples.shape
    rows = samples.astype(">u2").tobytes()
    length, step = width * channels * 2, channels * 2
    raw, above = b"", bytes(length)
    for start in range(0, len(rows), length):
        row = rows[start : start + length]
        before = {0: bytes(length), 1: bytes(step) + row[:-step], 2: above}
        kind = start // length % 3
        raw += bytes([kind]) + bytes((a - b) % 256 for a, b in zip(row, before[kind], strict=True))
        above = row
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", key) if key else b"", chunk(b"IDAT", zlib.compress(raw))]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_colours_are_read_as_they_are(tmp_path: Path, colours: Array, suffix: str) -> None:
    Image.fromarray(colours).save(tmp_path / f"a{suffix}")
    picture = read(tmp_path / f"a{suffix}")
    assert picture.pixels.shape == (3, HEIGHT, WIDTH)
    assert picture.pixels.dtype == torch.float32
    assert picture.pixels.is_contiguous()
    assert not picture.grey
    assert (picture.alpha, picture.icc, picture.exif) == (None, None, None)
    np.testing.assert_array_equal(eight_bits(picture.pixels), colours)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".gif", ".jp2"])
def test_every_format_named_in_the_error_is_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / f"a{suffix}")
    picture = read(tmp_path / f"a{suffix}")
    assert picture.pixels.shape == (3, 48, 64)
    middle = picture.pixels[:, 24, 32] * 255
    assert torch.allclose(middle, torch.tensor([200.0, 100.0, 50.0]), atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_then_reset(tmp_path: Path, colours: Array, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera"
    stored = Image.fromarray(colours)
    stored.save(tmp_path / "a.png", exif=exif)
    picture = read(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(eight_bits(picture.pixels), expected)
    carried = Image.Exif()
    carried.load(picture.exif or b"")
    assert dict(carried) == {0x0112: 1, 0x010F: "A camera"}


def test_orientation_of_a_tiff_is_applied_once(tmp_path: Path, colours: Array) -> None:
    Image.fromarray(colours).save(tmp_path / "a.tif", tiffinfo={274: 6})
    np.testing.assert_array_equal(eight_bits(read(tmp_path / "a.tif").pixels), np.rot90(colours, -1))


def test_exif_loses_its_thumbnail_and_keeps_every_other_byte(tmp_path: Path, colours: Array) -> None:
    def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
        return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")

    note = b"maker's own bytes"
    directory = struct.pack("<H", 2) + entry(0x0112, 3, 1, b"\x03\0") + entry(0x8769, 4, 1, struct.pack("<I", 38))
    second = struct.pack("<H", 1) + entry(0x927C, 7, len(note), struct.pack("<I", 56)) + bytes(4)
    block = b"Exif\0\0II*\0\x08\0\0\0" + directory + struct.pack("<I", 99) + second + note
    Image.fromarray(colours).save(tmp_path / "a.jpg", exif=block)
    carried = read(tmp_path / "a.jpg").exif
    assert carried is not None
    different = [place for place, (old, new) in enumerate(zip(block, carried, strict=True)) if old != new]
    assert different == [block.index(b"\x03\0\x01\0\0\0\x03") + 6, block.index(struct.pack("<I", 99))]
    assert note in carried


def test_damaged_exif_does_not_stop_a_sound_picture(tmp_path: Path, colours: Array) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    picture = read(tmp_path / "a.png")
    assert picture.exif is None
    np.testing.assert_array_equal(eight_bits(picture.pixels), colours)


def test_exif_of_a_tiff_is_kept_without_the_layout_of_the_file(tmp_path: Path, colours: Array) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif[0x8769] = {0x9003: "2001:02:03 04:05:06"}
    Image.fromarray(colours).save(tmp_path / "a.tif", exif=exif.tobytes())
    carried = Image.Exif()
    carried.load(read(tmp_path / "a.tif").exif or b"")
    assert carried[0x010F] == "A camera"
    assert carried.get_ifd(0x8769)[0x9003] == "2001:02:03 04:05:06"
    assert not {256, 257, 259, 273, 279} & set(carried)


def test_alpha_is_kept_apart(tmp_path: Path, colours: Array) -> None:
    alpha = np.random.default_rng(3).integers(1, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], axis=-1)).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert picture.alpha is not None
    np.testing.assert_array_equal(eight_bits(picture.pixels), colours)
    np.testing.assert_array_equal(eight_bits(picture.alpha), alpha)


def test_palettes_are_expanded_with_their_transparency(tmp_path: Path) -> None:
    stored = Image.new("P", (2, 1))
    stored.putpalette([10, 20, 30, 200, 100, 50])
    stored.putdata([0, 1])
    stored.save(tmp_path / "plain.png")
    stored.save(tmp_path / "clear.png", transparency=bytes([128, 255]))
    plain, clear = read(tmp_path / "plain.png"), read(tmp_path / "clear.png")
    assert eight_bits(plain.pixels).tolist() == eight_bits(clear.pixels).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert plain.alpha is None
    assert clear.alpha is not None
    assert eight_bits(clear.alpha).tolist() == [[[128], [255]]]


def test_premultiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    samples = np.full((8, 8, 4), (100, 50, 25, 128), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["assocalpha"])
    picture = read(tmp_path / "a.tif")
    assert torch.allclose(picture.pixels[:, 0, 0] * 255, torch.tensor([199.0, 99.0, 49.0]), atol=1)


@pytest.mark.parametrize(("mode", "alpha"), [("1", False), ("L", False), ("LA", True)])
def test_grey_pictures_are_grey_and_have_three_equal_channels(tmp_path: Path, mode: str, alpha: bool) -> None:
    Image.linear_gradient("L").convert(mode).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert picture.grey
    assert (picture.alpha is not None) == alpha
    assert torch.equal(picture.pixels[0], picture.pixels[1])
    assert torch.equal(picture.pixels[0], picture.pixels[2])
    assert picture.pixels.min() == 0
    assert picture.pixels.max() == 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_keeps_every_bit(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / f"a{suffix}")
    picture = read(tmp_path / f"a{suffix}")
    assert picture.grey
    np.testing.assert_array_equal((picture.pixels[0] * 65535).round().numpy(), ramp)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_png_keeps_every_bit(tmp_path: Path, deep: NDArray[np.uint16], colour_type: int, channels: int) -> None:
    samples = deep[..., :channels]
    picture = read(png16(tmp_path / "a.png", samples, colour_type))
    colours = picture.pixels[:1] if picture.grey else picture.pixels
    values = (colours if picture.alpha is None else torch.cat([colours, picture.alpha])).permute(1, 2, 0)
    assert picture.grey == (channels == 2)
    np.testing.assert_array_equal((values * 65535).round().numpy(), samples)


def test_the_transparent_colour_of_a_16_bit_png_is_that_colour_alone(tmp_path: Path, deep: NDArray[np.uint16]) -> None:
    samples = deep[..., :3].copy()
    samples[0, 1] = samples[0, 0] ^ 1  # the same in its upper 8 bits
    picture = read(png16(tmp_path / "a.png", samples, 2, key=samples[0, 0].astype(">u2").tobytes()))
    assert picture.alpha is not None
    assert picture.alpha[0, 0, 0] == 0
    assert picture.alpha.sum() == HEIGHT * WIDTH - 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_a_png_is_that_grey_alone(tmp_path: Path, bits: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    greys = 2**bits
    row = int("".join(f"{grey:0{bits}b}" for grey in range(greys)).ljust(8, "0"), 2)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", greys, 1, bits, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row.to_bytes(max(1, greys * bits // 8), "big")))
    for key in range(greys):
        clear = chunk(b"tRNS", struct.pack(">H", key))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + clear + pixels + chunk(b"IEND", b""))
        picture = read(tmp_path / "a.png")
        assert picture.alpha is not None
        assert picture.alpha[0, 0].tolist() == [float(grey != key) for grey in range(greys)]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_tiff_keeps_every_bit(
    tmp_path: Path, deep: NDArray[np.uint16], channels: int, byteorder: str, compression: str | None
) -> None:
    tifffile = pytest.importorskip("tifffile")
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    samples = deep[..., :channels]
    tifffile.imwrite(
        tmp_path / "a.tif", samples, photometric="rgb", byteorder=byteorder, compression=compression, **extra
    )
    picture = read(tmp_path / "a.tif")
    values = (picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha])).permute(1, 2, 0)
    np.testing.assert_array_equal((values * 65535).round().numpy(), samples)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 4}], ids=["whole", "tiles", "strips"])
def test_16_bit_planes_keep_every_bit(
    tmp_path: Path, deep: NDArray[np.uint16], byteorder: str, compression: str | None, layout: dict[str, object]
) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(deep[..., :3], -1, 0).copy(),
        photometric="rgb",
        planarconfig="separate",
        byteorder=byteorder,
        compression=compression,
        predictor=compression is not None,
        **layout,
    )
    picture = read(tmp_path / "a.tif")
    assert picture.bits == 16
    np.testing.assert_array_equal((picture.pixels * 65535).round().permute(1, 2, 0).numpy(), deep[..., :3])


def test_16_bit_planes_in_a_compression_that_is_not_read_are_refused(tmp_path: Path, deep: NDArray[np.uint16]) -> None:
    tifffile = pytest.importorskip("tifffile")
    planes = np.moveaxis(deep[..., :3], -1, 0).copy()
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    content = (tmp_path / "a.tif").read_bytes()
    plain = struct.pack("<HHIHH", 259, 3, 1, 1, 0)
    assert plain in content
    (tmp_path / "a.tif").write_bytes(content.replace(plain, struct.pack("<HHIHH", 259, 3, 1, 5, 0)))
    with pytest.raises(PictureUnreadable, match="in an unusual way: export it uncompressed, or as PNG"):
        read(tmp_path / "a.tif")


def test_white_is_zero_where_a_16_bit_tiff_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert read(tmp_path / "a.tif").pixels.max() == 0


def test_numbers_without_a_known_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-3, 70000]], np.int32)).save(tmp_path / "whole.tif")
    Image.fromarray(np.array([[0.5, 3.0]], np.float32)).save(tmp_path / "real.tif")
    with pytest.raises(PictureUnreadable, match="from -3 to 70000"):
        read(tmp_path / "whole.tif")
    with pytest.raises(PictureUnreadable, match=r"outside 0 \(black\) to 1 \(white\)"):
        read(tmp_path / "real.tif")


def test_floating_point_from_black_to_white_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.123456, 1.0]], np.float32)).save(tmp_path / "a.tif")
    assert torch.equal(read(tmp_path / "a.tif").pixels[0], torch.tensor([[0.0, 0.123456, 1.0]]))


@cache  # with each profile comes the time it was made
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile() -> bytes:
    """A profile whose header is for grey: enough to be carried."""
    profile = bytearray(srgb())
    profile[16:20] = b"GRAY"
    return bytes(profile)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_without_a_profile_is_converted_plainly(tmp_path: Path, suffix: str) -> None:
    # Pillow writes and reads the inverted inks that Adobe's JPEGs have.
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / f"a{suffix}")
    picture = read(tmp_path / f"a{suffix}")
    assert torch.allclose(picture.pixels[:, 8, 8], torch.tensor([1.0, 0.0, 0.0]), atol=0.03)
    assert picture.icc is None


def test_cmyk_with_a_broken_profile_is_converted_plainly(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=b"no profile" * 20)
    assert read(tmp_path / "a.jpg").icc is None


def ink_profile() -> bytes:
    """A CMYK profile (ICC.1:2001, 6.5.9): colours by table, between paper, inks and their overprints; cyan is dull."""
    lab = []
    for corner in range(16):
        cyan, magenta, yellow, black = (corner >> place & 1 for place in (3, 2, 1, 0))
        lightness = 0 if black else 255 - 90 * cyan - 90 * magenta - 20 * yellow
        lab += [lightness, 128 - 14 * cyan + 70 * magenta, 128 - 20 * cyan + 90 * yellow]
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(lab) + identity * 3
    table += bytes(-len(table) % 4)
    words = b"desc" + bytes(4) + struct.pack(">I", 4) + b"ink\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    entries, content, start = b"", b"", 128 + 4 + 3 * 12
    for name, block in ((b"desc", words + bytes(-len(words) % 4)), (b"wtpt", white), (b"A2B0", table)):
        entries += name + struct.pack(">2I", start + len(content), len(block))
        content += block
    head = struct.pack(">I4sI4s4s4s", start + len(content), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + entries + content


def test_cmyk_goes_through_its_profile_and_is_srgb_then(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.tif", icc_profile=ink_profile())
    picture = read(tmp_path / "a.tif")
    assert picture.icc is not None
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))).startswith("sRGB")
    lab = color.rgb2lab(picture.pixels[:, 8, 8].numpy())
    assert np.allclose(lab, [165 / 2.55, -14, -20], atol=3)  # what the profile says
    assert read(tmp_path / "a.tif").icc == picture.icc


def test_lab_becomes_srgb_and_says_so(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(red, *profiles, outputMode="LAB")
    assert lab is not None
    lab.save(tmp_path / "a.tif")
    picture = read(tmp_path / "a.tif")
    assert torch.allclose(picture.pixels[:, 4, 4] * 255, torch.tensor([200.0, 30.0, 40.0]), atol=4)
    assert picture.icc is not None
    assert read(tmp_path / "a.tif").icc == picture.icc


def test_the_profile_is_carried_where_it_is_one_for_the_pixels(tmp_path: Path, colours: Array) -> None:
    Image.fromarray(colours).save(tmp_path / "right.png", icc_profile=srgb())
    Image.fromarray(colours).save(tmp_path / "wrong.png", icc_profile=grey_profile())
    assert read(tmp_path / "right.png").icc == srgb()
    assert read(tmp_path / "wrong.png").icc is None


def frames(path: Path) -> None:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    first.save(path, save_all=True, append_images=[second])


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
def test_of_several_frames_the_first_is_read_and_said(tmp_path: Path, suffix: str) -> None:
    frames(tmp_path / f"a{suffix}")
    picture = read(tmp_path / f"a{suffix}")
    assert torch.allclose(picture.pixels[:, 8, 8], torch.tensor([1.0, 0.0, 0.0]), atol=0.02)
    assert picture.notes == ("It holds several frames: the first was taken.",)


def test_of_a_camera_that_stores_two_the_first_is_read(tmp_path: Path) -> None:
    frames(tmp_path / "a.mpo")
    picture = read(tmp_path / "a.mpo")
    assert torch.allclose(picture.pixels[:, 8, 8], torch.tensor([1.0, 0.0, 0.0]), atol=0.02)
    held = "a second picture (MPO, such as stereo cameras make)"
    assert picture.notes == (f"The file also held {held}: only the picture itself was taken.",)


def test_a_tiff_of_several_pages_is_refused(tmp_path: Path) -> None:
    frames(tmp_path / "a.tif")
    with pytest.raises(PictureUnreadable, match="is a TIFF of 2 pages: save each as a file of its own"):
        read(tmp_path / "a.tif")
    with pytest.raises(PictureUnreadable, match="is a TIFF of 2 pages"):
        image.probe(tmp_path / "a.tif")


@pytest.mark.parametrize("first", [True, False])
def test_a_small_copy_in_a_tiff_is_no_page(tmp_path: Path, first: bool, colours: Array) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for small in (first, not first):
            file.write(colours[::2, ::2] if small else colours, subfiletype=1 if small else 0, photometric="rgb")
    np.testing.assert_array_equal(eight_bits(read(tmp_path / "a.tif").pixels), colours)
    assert image.probe(tmp_path / "a.tif").size == (HEIGHT, WIDTH)


def raw_photograph(content: str, colours: Array) -> bytes:
    """Return a TIFF whose first picture is the small one beside a camera's raw data, kept in one of their ways."""
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        below = 1 if content == "below a small one" else 0
        tags = [(50706, 1, 4, b"\1\4\0\0", True)] if content == "DNG" else []
        writer.write(colours, photometric="rgb", subfiletype=below, subifds=below, extratags=tags)
        if content != "DNG":
            mosaic = {"photometric": 32803} if content == "a mosaic" else {}
            writer.write(np.zeros((32, 32), np.uint16), **mosaic)
    stored = file.getvalue()
    if content == "CR2":  # which has its mark where the first directory was, and that one elsewhere
        (entries,) = struct.unpack_from("<H", stored, 8)
        start = struct.pack("<I", len(stored))
        return stored[:4] + start + b"CR\2\0" + stored[12:] + stored[8 : 14 + 12 * entries]
    return stored


@pytest.mark.parametrize("content", ["DNG", "CR2", "a mosaic", "below a small one"])
def test_a_camera_s_raw_picture_is_not_taken_for_the_small_one_beside_it(
    tmp_path: Path, content: str, colours: Array
) -> None:
    (tmp_path / "a.tif").write_bytes(raw_photograph(content, colours))
    for look in (read, image.probe):
        with pytest.raises(PictureUnreadable, match="is a camera's raw picture: develop it to TIFF or JPEG first"):
            look(tmp_path / "a.tif")


@pytest.mark.parametrize("head", [b"FUJIFILMCCD-RAW 0201", b"IIU\0\x18\0\0\0....", b"\0\0\0\x18ftypcrx \0\0\0\1"])
def test_a_raw_picture_that_is_no_tiff_is_named_as_one(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.raf").write_bytes(head + bytes(100))
    with pytest.raises(PictureUnreadable, match="is a camera's raw picture: develop it to TIFF or JPEG first"):
        read(tmp_path / "a.raf")


# --- what cannot be read ------------------------------------------------------------------------------------------


def jpeg_of_12_bits(path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    content[content.index(b"\xff\xc0") + 4] = 12  # the sample precision in the frame header (ITU-T T.81, B.2.2)
    path.write_bytes(content)


def bmp_in_16_bits(path: Path) -> None:
    """Write a BMP of four channels with 4 bits each."""
    head = struct.pack("<IiiHHIIiiII4I", 56, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0, 0xF00, 0xF0, 0xF, 0xF000)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 78, 0, 0, 70) + head + bytes(8))


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path.with_suffix(".png"))
    path.write_bytes(path.with_suffix(".png").read_bytes()[:900])


def bomb(path: Path) -> None:
    """Write a PNG's head that promises 3.6 thousand million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


def large(path: Path) -> None:
    Image.new("1", (image.MOST_PIXELS // 10000 + 1, 10000)).save(path, "PNG")


UNREADABLE: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: None, "is not there: check the name"),
    (lambda path: path.mkdir(), "is a folder, not a picture: give a file"),
    (lambda path: path.touch(), r"is empty \(zero bytes\): copy or download it again"),
    (lambda path: path.write_text("Dear diary"), "is not a picture that can be read: give a JPEG, PNG"),
    (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "is not a picture that can be read: give a JPEG"),
    (
        jpeg_of_12_bits,
        "starts as JPEG does, but is damaged or of a kind that is not read: copy it again, or export",
    ),
    (
        bmp_in_16_bits,
        r"is damaged or of a kind that is not read \(Unsupported BMP bitfields layout\): copy it again, or",
    ),
    (lambda path: path.write_bytes(b"RIFF\x04\0\0\0WAVE"), "is not a picture that can be read"),
    (truncated, r"is damaged or incomplete \(.*\): copy or export it again, or take what is there with --tolerant\."),
    (bomb, "has more pixels than the 100 million that are read: shrink it or cut it up first"),
    (large, "has 10001 x 10000 pixels, more than the 100 million that are read: shrink it"),
    (os.mkfifo, "is a device or a pipe, not a file: save the picture"),
]


@pytest.mark.parametrize(("make", "sentence"), UNREADABLE, ids=[sentence[:24] for _, sentence in UNREADABLE])
def test_what_cannot_be_read_has_its_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], object], sentence: str
) -> None:
    make(tmp_path / "a.jpg")
    with pytest.raises(PictureUnreadable, match=sentence) as caught:
        read(tmp_path / "a.jpg")
    assert str(caught.value).startswith(str(tmp_path / "a.jpg"))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"]))
def test_damage_anywhere_is_a_picture_or_a_sentence(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    buffer = io.BytesIO()
    exif = (
        {}
        if kind in ("GIF", "BMP")
        else {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}
    )
    Image.linear_gradient("L").resize((24, 20)).convert("RGB").save(buffer, kind, **exif)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        picture = read(tmp_path / "a")
    except PictureUnreadable as error:
        assert str(tmp_path) in str(error)  # noqa: PT017 - either of two ends is right
    else:
        assert picture.pixels.isfinite().all()
        assert picture.pixels.min() >= 0
        assert picture.pixels.max() <= 1


# --- writing -----------------------------------------------------------------------------------------------------


def ramp(alpha: bool = False, grey: bool = False, icc: bytes | None = None, exif: bytes | None = None) -> Picture:
    values = torch.linspace(0, 1, 256).view(1, 16, 16)
    pixels = values.repeat(3, 1, 1) if grey else torch.cat([values, values.flip(-1), 1 - values])
    return Picture(pixels, torch.linspace(1, 1 / 255, 256).view(1, 16, 16) if alpha else None, grey, icc, exif)


EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, alpha: bool, grey: bool) -> None:
    picture = ramp(alpha, grey, grey_profile() if grey else srgb(), EXIF)
    assert write(tmp_path / f"a{suffix}", picture) == ()
    again = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(eight_bits(again.pixels), eight_bits(picture.pixels))
    assert again.grey == grey
    assert (again.alpha is None) == (picture.alpha is None)
    if again.alpha is not None and picture.alpha is not None:
        np.testing.assert_array_equal(eight_bits(again.alpha), eight_bits(picture.alpha))
    assert again.icc == picture.icc
    if suffix == ".png":
        assert again.exif == EXIF
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_near_and_carry_profile_and_exif(tmp_path: Path, suffix: str) -> None:
    picture = ramp(icc=srgb(), exif=EXIF)
    write(tmp_path / f"a{suffix}", picture)
    again = read(tmp_path / f"a{suffix}")
    assert (again.pixels - picture.pixels).abs().mean() < 0.03
    assert (again.icc, again.exif) == (srgb(), EXIF)


def test_values_are_rounded_and_not_truncated(tmp_path: Path) -> None:
    values = torch.tensor([-0.1, 0.4999 / 255, 0.5001 / 255, 253.9 / 255, 1.2]).view(1, 1, 5).repeat(3, 1, 1)
    write(tmp_path / "a.png", Picture(values))
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 1, 254, 255]


def test_transparency_that_jpeg_cannot_hold_is_laid_on_white_and_said(tmp_path: Path) -> None:
    picture = Picture(torch.zeros(3, 16, 16), torch.full((1, 16, 16), 0.25))
    assert write(tmp_path / "a.jpg", picture) == ("JPEG holds no transparency: the picture was laid on white.",)
    assert torch.allclose(read(tmp_path / "a.jpg").pixels, torch.tensor(0.75), atol=0.01)


def test_a_grey_picture_with_a_colour_profile_keeps_both(tmp_path: Path) -> None:
    write(tmp_path / "a.png", ramp(grey=True, icc=srgb()))
    again = read(tmp_path / "a.png")
    assert again.icc == srgb()
    assert torch.equal(again.pixels[0], again.pixels[1])


def test_exif_too_long_for_jpeg_is_left_out_and_said(tmp_path: Path) -> None:
    notes = write(tmp_path / "a.jpg", ramp(exif=EXIF + bytes(70000)))
    assert notes == ("JPEG cannot hold this picture's EXIF: it was left out.",)
    assert read(tmp_path / "a.jpg").exif is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_directories_of_a_camera_are_carried_into_every_format(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif[0x8769] = {0x9003: "2001:02:03 04:05:06"}
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0)}
    assert write(tmp_path / f"a{suffix}", ramp(exif=exif.tobytes())) == ()
    carried = Image.Exif()
    carried.load(read(tmp_path / f"a{suffix}").exif or b"")
    assert carried[0x010F] == "A camera"
    assert carried.get_ifd(0x8769) == {0x9003: "2001:02:03 04:05:06"}
    assert carried.get_ifd(0x8825) == {1: "N", 2: (48.0, 51.0, 29.0)}


def test_exif_that_a_format_chokes_on_does_not_lose_the_picture(tmp_path: Path) -> None:
    text_as_number = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0"
    assert write(tmp_path / "a.tif", ramp(exif=text_as_number)) in (
        (),
        ("TIFF cannot hold this picture's EXIF: it was left out.",),
    )
    assert read(tmp_path / "a.tif").pixels.shape == (3, 16, 16)


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("precious")
    with pytest.raises(OutputUnwritable, match="is already there and was left alone: use --overwrite"):
        write(tmp_path / "a.png", ramp())
    assert (tmp_path / "a.png").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_of_many_writers_of_one_name_exactly_one_succeeds(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            write(tmp_path / "a.png", ramp())
            outcomes.append("done")
        except OutputUnwritable:
            outcomes.append("left alone")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done"] + ["left alone"] * 7
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_overwriting_replaces_the_file_whole(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("old")
    write(tmp_path / "a.png", ramp(), overwrite=True)
    assert read(tmp_path / "a.png").pixels.shape == (3, 16, 16)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_write_that_fails_leaves_no_file_and_the_old_one(tmp_path: Path, overwrite: bool) -> None:
    if overwrite:
        (tmp_path / "a.bin").write_text("old")

    def half() -> None:
        with replacing(tmp_path / "a.bin", overwrite) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputUnwritable, match="the disk is full"):
        half()
    assert [path.read_text() for path in tmp_path.iterdir()] == (["old"] if overwrite else [])


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import torch, pathlib; from seesr_cli.image import Picture, write\n"
        f"write(pathlib.Path({str(tmp_path / 'a.png')!r}), Picture(torch.rand(3, 256, 256)))"
    )
    limit = 20_000  # bytes a file may have: to the program, a disk that is full

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limited, check=False)
    assert "make room, or choose another place with -o." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing/a.png", "missing is not a folder that takes files: choose another with -o"),
        ("file/a.png", "file is not a folder that takes files: choose another with -o"),
        ("folder.png", "cannot be written|is a folder"),
        ("n" * 260 + ".png", "File name too long"),
    ],
)
def test_what_cannot_be_written_has_its_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputUnwritable, match=sentence):
        write(tmp_path / name, ramp(), overwrite=True)
    with pytest.raises(OutputUnwritable, match=sentence):
        image.check_target(tmp_path / name, (16, 16), "png")


@pytest.mark.parametrize("name", ["a", "a.xyz"])
def test_a_suffix_that_is_not_written_is_no_kind_and_refused(tmp_path: Path, name: str) -> None:
    assert image.kind_of(tmp_path / name) is None
    with pytest.raises(OutputUnwritable, match=r"no suffix that is written: end it with \.png \.jpg "):
        write(tmp_path / name, ramp())


@pytest.mark.parametrize(("name", "side"), [("a.jpg", 65501), ("a.webp", 16384), ("a.avif", 32769)])
def test_a_result_beyond_the_format_is_refused_before_the_work(tmp_path: Path, name: str, side: int) -> None:
    kind = image.kind_of(tmp_path / name)
    assert kind is not None
    with pytest.raises(OutputUnwritable, match=r"ends at \d+ a side: choose a .png file or a smaller --scale"):
        image.check_target(tmp_path / name, (10, side), kind)
    image.check_target(tmp_path / name, (10, side - 1), kind)
    assert list(tmp_path.iterdir()) == []
