"""PNG and TIFF are written by hand, in bands: every reader finds the same numbers in them, and memory stays flat."""

import io
import resource
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import peak
from image.test_image_kept import KINDS, XMP, again, camera, encoded
from seesr_cli import image
from seesr_cli.errors import OutputUnwritable
from seesr_cli.image import Picture, profiles, tiff
from seesr_cli.settings import Format

P3 = profiles.from_code(12, 13, grey=False)


def picture(
    height: int, width: int, bits: int = 8, grey: bool = False, alpha: bool = False, smooth: bool = False
) -> Picture:
    """Return noise or a slope whose values are whole numbers of `bits` bits."""
    white = 2**bits - 1
    shape = (1 if grey else 3, height, width)
    if smooth:
        values = torch.linspace(0, 1, height * width).view(1, height, width).repeat(shape[0], 1, 1)
    else:
        values = torch.from_numpy(np.random.default_rng(height * width).random(shape, dtype=np.float32))
    values = (values * white).round() / white
    clear = torch.from_numpy(np.random.default_rng(1).integers(1, white + 1, (1, height, width))).float() / white
    return Picture(values.repeat(3, 1, 1) if grey else values, clear if alpha else None, grey, bits=bits)


def numbers(values: torch.Tensor, bits: int) -> NDArray[np.float32]:
    return (values * (2**bits - 1)).round().numpy()


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    bits=st.sampled_from([8, 16]),
    grey=st.booleans(),
    alpha=st.booleans(),
    smooth=st.booleans(),
    kind=st.sampled_from(KINDS),
    block=st.sampled_from([None, camera("<", 1), camera(">", 1)]),
    packet=st.sampled_from([None, XMP.replace(b'"6"', b'"1"')]),
    profile=st.booleans(),
)
def test_any_picture_survives_any_format(
    size: tuple[int, int],
    bits: int,
    grey: bool,
    alpha: bool,
    smooth: bool,
    kind: Format,
    block: bytes | None,
    packet: bytes | None,
    profile: bool,
) -> None:
    plain = picture(*size, bits, grey, alpha, smooth)
    stored = Picture(plain.pixels, plain.alpha, grey, P3 if profile else None, block, packet, bits)
    result = again(stored, kind)
    assert result.pixels.shape == stored.pixels.shape
    assert result.icc == stored.icc
    assert (result.exif is None, result.xmp is None) == (block is None, packet is None)
    if kind in ("png", "tiff"):
        assert result.bits == bits
        assert result.grey == (grey and not profile)
        np.testing.assert_array_equal(numbers(result.pixels, bits), numbers(stored.pixels, bits))
        if stored.alpha is None or result.alpha is None:
            assert stored.alpha is result.alpha is None
        else:
            np.testing.assert_array_equal(numbers(result.alpha, bits), numbers(stored.alpha, bits))
    else:
        assert result.bits == 8
        assert (result.alpha is not None) == (alpha and kind != "jpeg")
        if smooth and not alpha:
            assert (result.pixels - stored.pixels).abs().mean() < 0.05


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_other_readers_find_the_same_numbers(tmp_path: Path, bits: int, grey: bool, alpha: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = picture(301, 1000, bits, grey, alpha)  # several bands, the last one shorter
    channels = [stored.pixels[:1] if grey else stored.pixels] + ([stored.alpha] if stored.alpha is not None else [])
    expected = np.moveaxis(numbers(torch.cat(channels), bits), 0, -1).squeeze()
    for kind in ("png", "tiff"):
        (tmp_path / f"a.{kind}").write_bytes(encoded(stored, kind))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tiff"), expected)
    if bits == 8 or (grey and not alpha):  # as far as Pillow goes
        for kind in ("png", "tiff"):
            with Image.open(tmp_path / f"a.{kind}") as opened:
                np.testing.assert_array_equal(np.asarray(opened), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("tool", "kind"), [("pngcheck", "png"), ("tiffinfo", "tiff")])
def test_tools_that_check_files_find_nothing_wrong(tmp_path: Path, tool: str, kind: Format, bits: int) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    (tmp_path / f"a.{kind}").write_bytes(encoded(picture(301, 1000, bits, alpha=True), kind))
    shown = subprocess.run([tool, tmp_path / f"a.{kind}"], capture_output=True, text=True, check=True)
    assert "warning" not in (shown.stdout + shown.stderr).lower()


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_16_bit_slope_keeps_more_than_8_bits_from_file_to_file(kind: Format) -> None:
    slope = torch.arange(65536).view(1, 256, 256).float() / 65535
    first = again(Picture(slope.repeat(3, 1, 1), bits=16), kind)
    second = again(first, kind)
    assert len(np.unique(numbers(second.pixels[0], 16))) == 65536


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_that_16_bits_become_8_is_said(kind: Format) -> None:
    notes = image.encode(io.BytesIO(), picture(8, 8, 16), kind)
    name = image.FORMATS[kind].name
    assert notes == (f"{name} holds 8 bits per channel: the picture's 16 were rounded to them.",)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_picture_gives_the_same_bytes_a_second_later(kind: Format) -> None:
    stored = picture(70, 130, 8, alpha=True)
    stored = Picture(stored.pixels, stored.alpha, icc=P3, exif=camera(), xmp=XMP)
    first = encoded(stored, kind)
    time.sleep(1.1)
    assert encoded(stored, kind) == first


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_quality_is_a_trade_of_size_for_likeness(kind: Format) -> None:
    stored = picture(96, 96)
    low, usual, high = (len(encoded(stored, kind, quality)) for quality in (20, None, 100))
    assert low < usual < high


def test_values_half_way_are_rounded_to_even_numbers() -> None:
    values = torch.tensor([-1.0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 2.0]).view(1, 1, 5).repeat(3, 1, 1)
    with Image.open(io.BytesIO(encoded(Picture(values), "png"))) as opened:
        assert np.asarray(opened)[0, :, 0].tolist() == [0, 0, 2, 2, 255]


def test_a_tiff_beyond_its_4_gb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Far(io.BytesIO):
        """A file whose next place is said to be 4 GB on."""

        def tell(self) -> int:
            return super().tell() + 2**32

    with pytest.raises(OutputUnwritable, match="The result is larger than the 4 GB that TIFF holds: choose PNG"):
        image.encode(Far(), picture(8, 8), "tiff")


def test_exif_that_lies_about_its_own_length_does_not_spoil_a_tiff() -> None:
    block = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x0f\x01\x02\0\xff\xff\xff\x7f\x01\0\0\0"
    stored = Picture(torch.full((3, 8, 8), 0.2), exif=block)
    assert torch.allclose(again(stored, "tiff").pixels, torch.tensor(0.2))


def test_a_resolution_that_is_no_number_does_not_spoil_a_tiff() -> None:
    across, down = (struct.pack("<HHI4s", tag, 2, 4, b"300") for tag in (0x011A, 0x011B))
    make, unit = struct.pack("<HHI4s", 0x010F, 2, 4, b"Me!"), struct.pack("<HHIHxx", 0x0128, 3, 1, 3)
    block = b"Exif\0\0II*\0\x08\0\0\0\4\0" + make + across + down + unit + bytes(4)
    back = again(Picture(torch.full((3, 8, 8), 0.2), exif=block), "tiff")
    assert torch.allclose(back.pixels, torch.tensor(0.2))
    assert b"Me!" in (back.exif or b"")


@pytest.mark.skipif(not peak.THERE, reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_writing_takes_no_more_memory_for_a_larger_picture(tmp_path: Path, kind: Format) -> None:
    code = (
        f"{peak.CODE}import sys, torch; from seesr_cli import image; torch.set_num_threads(1)\n"
        "def write(side):\n"
        "    colours, alpha = (torch.ones(1).expand(channels, side, side) for channels in (3, 1))\n"
        f"    image.encode(open({str(tmp_path / 'a')!r}, 'wb+'), image.Picture(colours, alpha, bits=16), {kind!r})\n"
        "write(600); before = peak()\n"
        "write(2000); print(peak() - before)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(shown.stdout) < 8_000_000  # the picture of 2000 x 2000 has 32 MB


def test_a_big_endian_bigtiff_is_read(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    samples = np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for order in "<>":
        for options in ({}, {"tile": (16, 16)}, {"rowsperstrip": 7, "compression": "zlib"}):
            tifffile.imwrite(tmp_path / "a.tif", samples, byteorder=order, bigtiff=True, photometric="rgb", **options)
            read = image.read(tmp_path / "a.tif")
            np.testing.assert_array_equal(np.moveaxis(numbers(read.pixels, 8), 0, -1), samples)
            assert image.probe(tmp_path / "a.tif") == ((40, 30), 8, False, False)


def test_directories_in_a_ring_end(tmp_path: Path) -> None:
    directory = b"\x02\0" + b"\0\1\3\0\1\0\0\0\x08\0\0\0" + b"\1\1\3\0\1\0\0\0\x08\0\0\0"
    ring = b"II*\0\x08\0\0\0" + b"".join(
        directory + (8 + 30 * ((i + 1) % 5000)).to_bytes(4, "little") for i in range(5000)
    )
    assert len(tiff.TiffFile(io.BytesIO(ring)).pages()) == 5000
    overlapping = b"II*\0\x08\0\0\0" + b"\xff\xff" * 500_000
    assert len(tiff.TiffFile(io.BytesIO(overlapping)).pages()) <= 1


def test_a_disk_that_is_full_has_its_sentence_in_every_format(tmp_path: Path) -> None:
    code = (
        "import torch, pathlib; from seesr_cli.image import Picture, write\n"
        "for name in ('a.png', 'a.jpg', 'a.webp', 'a.tif', 'a.avif'):\n"
        "    try: write(pathlib.Path('.') / name, Picture(torch.rand(3, 200, 200)))\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, preexec_fn=limited, check=True
    )
    assert done.stdout.count("OutputUnwritable") == 5
    assert done.stdout.count("make room, or choose another place with -o.") == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "side"), [("webp", 16384), ("jpeg", 65501), ("avif", 65537)])
def test_what_an_encoder_refuses_is_told_as_what_it_is(kind: Format, side: int) -> None:
    wide = Picture(torch.zeros(1, 1, 1).expand(3, 1, side), None, True)
    with pytest.raises(OutputUnwritable, match=rf"{side} x 1 pixels, cannot be made a {kind.upper()}.*--format png"):
        image.encode(io.BytesIO(), wide, kind)
