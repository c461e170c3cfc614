"""What belongs to a picture travels with it: EXIF, XMP, profile, colours, the edge of what is transparent."""

import contextlib
import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import peak
from seesr_cli import image
from seesr_cli.errors import PictureUnreadable
from seesr_cli.image import Picture, exif, formats, jp2, profiles, tiff
from seesr_cli.image.geometry import turn
from seesr_cli.restore.prepare import resize
from seesr_cli.settings import Format

KINDS: list[Format] = ["png", "jpeg", "webp", "tiff", "avif"]
needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")

XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 <rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
   xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6" tiff:ImageWidth='24'>
  <exif:PixelXDimension>24</exif:PixelXDimension><exif:PixelYDimension>16</exif:PixelYDimension>
  <dc:creator><rdf:Seq><rdf:li>Zo\xc3\xab</rdf:li></rdf:Seq></dc:creator>
 </rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def camera(order: str = "<", orientation: int = 6) -> bytes:
    """Return the EXIF of a camera: sizes, a maker's note whose offset counts from the block's start, a thumbnail."""

    def entry(tag: int, kind: int, values: int, value: bytes) -> bytes:
        return struct.pack(f"{order}HHI", tag, kind, values) + value.ljust(4, b"\0")

    def directory(*entries: bytes, link: int = 0) -> bytes:
        return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + struct.pack(f"{order}I", link)

    def short(number: int) -> bytes:
        return struct.pack(f"{order}H", number)

    def long(number: int) -> bytes:
        return struct.pack(f"{order}I", number)

    # Placed by hand: 8 first, 200 Exif, 300 note, 330 its text, 360 GPS, 420 second, 480 thumbnail, at the end.
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    thumbnail = buffer.getvalue()
    parts = {
        0: (b"II*\0" if order == "<" else b"MM\0*") + long(8),
        8: directory(
            entry(0x010F, 2, 6, long(100)),
            entry(0x0110, 2, 12, long(110)),
            entry(0x0112, 3, 1, short(orientation)),
            entry(0x8769, 4, 1, long(200)),
            entry(0x8825, 4, 1, long(360)),
            link=420,
        ),
        100: b"Canon\0",
        110: b"Canon EOS 5\0",
        200: directory(
            entry(0x9003, 2, 20, long(270)),
            entry(0x927C, 7, 60, long(300)),
            entry(0xA002, 4, 1, long(24)),
            entry(0xA003, 3, 1, short(16)),
        ),
        270: b"2001:02:03 04:05:06\0",
        300: directory(entry(0x0006, 2, 12, long(330))),
        330: b"Made by me!\0",
        360: directory(entry(1, 2, 2, b"N\0"), entry(2, 5, 3, long(390))),
        390: struct.pack(f"{order}6I", 48, 1, 51, 1, 29, 1),
        420: directory(entry(0x0201, 4, 1, long(480)), entry(0x0202, 4, 1, long(len(thumbnail)))),
        480: thumbnail,
    }
    block = bytearray(480 + len(thumbnail))
    for place, part in parts.items():
        block[place : place + len(part)] = part
    return exif.HEAD + bytes(block)


def exiftool(path: Path) -> dict[str, object]:
    shown = subprocess.run(["exiftool", "-j", "-G1", "-n", path], capture_output=True, check=True)
    return json.loads(shown.stdout)[0]


def encoded(picture: Picture, kind: Format, quality: int | None = None) -> bytes:
    file = io.BytesIO()
    image.encode(file, picture, kind, quality)
    return file.getvalue()


def again(picture: Picture, kind: Format) -> Picture:
    return image.decode(encoded(picture, kind), Path(f"a.{kind}"))


def enlarged(picture: Picture, scale: int = 2) -> Picture:
    pixels = picture.pixels.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return replace(picture, pixels=pixels)


def photograph(exif: bytes | None = None, xmp: bytes | None = None, icc: bytes | None = None) -> bytes:
    """Return a JPEG of 24 x 16 pixels as it is stored."""
    file = io.BytesIO()
    given = {"exif": exif, "xmp": xmp, "icc_profile": icc}
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(
        file, "JPEG", **{name: content for name, content in given.items() if content}
    )
    return file.getvalue()


# --- EXIF and XMP -------------------------------------------------------------------------------------------------


@needs_exiftool
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_exiftool_finds_every_tag_of_the_camera_in_every_format(tmp_path: Path, kind: Format, order: str) -> None:
    (tmp_path / "in.jpg").write_bytes(photograph(camera(order), XMP))
    result = enlarged(image.read(tmp_path / "in.jpg"))
    (tmp_path / f"out.{kind}").write_bytes(encoded(result, kind))
    before, after = exiftool(tmp_path / "in.jpg"), exiftool(tmp_path / f"out.{kind}")
    groups = ("IFD0:", "ExifIFD:", "GPS:", "Canon:", "XMP-")
    expected = {name: value for name, value in before.items() if name.startswith(groups)}
    assert expected["Canon:CanonImageType"] == "Made by me!"
    expected |= {
        "IFD0:Orientation": 1,
        "ExifIFD:ExifImageWidth": 32,
        "ExifIFD:ExifImageHeight": 48,
        "XMP-tiff:Orientation": 1,
        "XMP-tiff:ImageWidth": 32,
        "XMP-exif:ExifImageWidth": 32,
        "XMP-exif:ExifImageHeight": 48,
    }
    if kind == "avif":  # its own boxes say how it is turned
        del expected["IFD0:Orientation"]
    assert {name: after.get(name) for name in expected} == expected
    assert not [name for name in after if "Thumbnail" in name or name.startswith("IFD1:")]
    assert "ExifTool:Warning" not in after


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_only_orientation_sizes_and_thumbnail_of_the_exif_change(kind: Format) -> None:
    before = camera()
    after = again(enlarged(image.decode(photograph(before), Path("a"))), kind).exif
    assert after is not None
    kept = before[: len(exif.HEAD) + 480]  # the thumbnail stood behind
    assert len(after) == len(kept)
    fields = {42, 43, *range(70, 74), *range(234, 238), *range(246, 250)}  # orientation, link, width, height
    changed = {place - len(exif.HEAD) for place, (a, b) in enumerate(zip(kept, after, strict=True)) if a != b}
    assert changed <= fields


@pytest.mark.parametrize("kind", KINDS)
def test_xmp_is_kept_to_the_byte_where_it_says_nothing_of_turn_and_size(kind: Format) -> None:
    packet = XMP.replace(b"tiff:Orientation", b"dc:one").replace(b"tiff:ImageWidth", b"dc:two")
    packet = packet.replace(b"exif:Pixel", b"dc:Pixel")
    assert again(image.decode(photograph(xmp=packet), Path("a")), kind).xmp == packet


def test_xmp_that_is_too_long_for_jpeg_is_left_out_and_said() -> None:
    long = XMP.replace(b"Zo", b"Z" + b"o" * 70000)
    picture = Picture(torch.zeros(3, 8, 8), xmp=long)
    file = io.BytesIO()
    assert image.encode(file, picture, "jpeg") == ("JPEG cannot hold this picture's XMP: it was left out.",)
    assert image.decode(file.getvalue(), Path("a")).xmp is None
    assert b"o" * 70000 in (again(picture, "png").xmp or b"")


def test_that_xmp_beyond_one_segment_is_left_behind_is_said() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG", xmp=XMP)
    more = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"<x/>"
    content = file.getvalue()[:2] + b"\xff\xe1" + struct.pack(">H", len(more) + 2) + more + file.getvalue()[2:]
    picture = image.decode(content, Path("a.jpg"))
    assert picture.xmp is not None
    assert picture.notes == ("Metadata that is damaged or too long was left behind.",)


def test_a_size_beyond_16_bits_is_stated_as_a_long_number() -> None:
    block, _ = exif.moved(camera(), turn((70000, 80000), 1))
    reading = tiff.TiffFile(io.BytesIO(block.removeprefix(exif.HEAD)))
    entries, _ = reading.directory(200)
    assert reading.numbers(entries, 0xA002) == (80000,)
    assert reading.numbers(entries, 0xA003) == (70000,)


def test_the_exif_of_a_tiff_is_read_from_either_byte_order_and_bigtiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    for order in "<>":
        for big in (False, True):
            tags = [(271, 2, 0, "A camera", True)]
            tifffile.imwrite(
                tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8), byteorder=order, bigtiff=big, extratags=tags
            )
            picture = image.read(tmp_path / "a.tif")
            assert picture.exif is not None
            carried = Image.Exif()
            carried.load(picture.exif)
            assert carried[271] == "A camera"


@needs_exiftool
def test_a_tiff_read_and_written_keeps_what_exiftool_wrote(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.tif")
    tags = [
        "-Artist=Me",
        "-DateTimeOriginal=2001:02:03 04:05:06",
        "-GPSLatitude=48",
        "-InteropIndex=R03",
        "-XMP:Label=x",
    ]
    subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, tmp_path / "a.tif"], check=True)
    before = exiftool(tmp_path / "a.tif")
    for kind in KINDS:
        (tmp_path / f"b.{kind}").write_bytes(encoded(image.read(tmp_path / "a.tif"), kind))
        after = exiftool(tmp_path / f"b.{kind}")
        for name in (
            "IFD0:Artist",
            "ExifIFD:DateTimeOriginal",
            "GPS:GPSLatitude",
            "InteropIFD:InteropIndex",
            "XMP-xmp:Label",
        ):
            assert after.get(name) == before[name], (kind, name)


# --- profiles -----------------------------------------------------------------------------------------------------

P3 = profiles.from_code(12, 13, grey=False)


@pytest.mark.parametrize("kind", KINDS)
def test_display_p3_goes_in_and_display_p3_comes_out(kind: Format) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (250, 20, 30)).save(file, "PNG", icc_profile=P3)
    picture = image.decode(file.getvalue(), Path("a.png"))
    result = again(picture, kind)
    assert result.icc == picture.icc == P3
    assert torch.allclose(result.pixels[:, 8, 8] * 255, torch.tensor([250.0, 20.0, 30.0]), atol=3)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(colour: tuple[int, ...], *chunks: bytes, mode: str = "RGB") -> bytes:
    """Return a PNG of one colour with `chunks` behind its header."""
    file = io.BytesIO()
    Image.new(mode, (4, 4), colour).save(file, "PNG")
    return file.getvalue()[:33] + b"".join(chunks) + file.getvalue()[33:]


def as_srgb(picture: Picture) -> list[int]:
    """Return the first pixel in sRGB, as littleCMS converts it."""
    assert picture.icc is not None
    pixel = Image.new("RGB", (1, 1), tuple(int(value) for value in (picture.pixels[:, 0, 0] * 255).round()))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
    converted = ImageCms.profileToProfile(pixel, profile, ImageCms.createProfile("sRGB"))
    assert converted is not None
    return list(np.asarray(converted)[0, 0])


@pytest.mark.parametrize("long", [False, True])
def test_jpeg_2000_keeps_what_is_in_its_boxes(long: bool) -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        if long:
            return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
        return struct.pack(">I4s", len(content) + 8, kind) + content

    file = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 100, 50)).save(file, "JPEG2000")
    stored, p3, block = file.getvalue(), profiles.from_code(12, 13, grey=False), camera("<", 6).removeprefix(exif.HEAD)
    assert p3 is not None
    start, size = stored.index(b"ihdr") - 4, 22
    header = box(b"jp2h", stored[start : start + size] + box(b"colr", b"\2\0\0" + p3))
    described = box(b"uuid", jp2.EXIF + block) + box(b"uuid", jp2.XMP + XMP) + box(b"uuid", bytes(20))
    content = stored[: stored.index(b"jp2h") - 4] + header + described + stored[stored.index(b"jp2c") - 4 :]
    picture = image.decode(content, Path("a.jp2"))
    assert picture.icc == p3
    assert picture.exif == exif.moved(exif.tidy(block) or b"", turn((4, 6), 6))[0]
    assert b'tiff:Orientation="1"' in (picture.xmp or b"")
    assert picture.pixels.shape == (3, 6, 4)  # turned as EXIF says
    for end in range(start, len(content), 7):
        with contextlib.suppress(PictureUnreadable):
            image.decode(content[:end], Path("a.jp2"), tolerant=True)


def in_digits(kind: str, raw: bytes) -> bytes:
    """Return `raw` as ImageMagick puts it into a PNG's text."""
    digits = raw.hex().encode()
    lines = b"\n".join(digits[place : place + 72] for place in range(0, len(digits), 72))
    return b"\n%s\n%8d\n%s\n" % (kind.encode(), len(raw), lines)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iTXt, compressed"])
def test_exif_and_xmp_in_a_png_s_text_are_found_in_whichever_chunk(kind: bytes) -> None:
    def text(keyword: bytes, content: bytes) -> bytes:
        if kind != b"tEXt" and kind != b"iTXt":
            content = zlib.compress(content)
        head = {b"tEXt": b"", b"zTXt": b"\0", b"iTXt": b"\0\0\0\0"}.get(kind, b"\1\0\0\0")
        return chunk(kind[:4], keyword + b"\0" + head + content)

    block = exif.moved(exif.tidy(camera(orientation=1)) or b"", turn((4, 4), 1))[0]
    packet = XMP.replace(b"tiff:Orientation", b"tiff:Direction").replace(b"tiff:ImageW", b"tiff:W")
    packet = packet.replace(b"exif:Pixel", b"exif:Point")
    exif_text = text(b"Raw profile type exif", in_digits("exif", block))
    for xmp_text in (
        text(b"XML:com.adobe.xmp", packet),
        text(b"Raw profile type xmp", in_digits("xmp", packet)),
        text(b"Raw profile type APP1", in_digits("app1", b"http://ns.adobe.com/xap/1.0/\0" + packet)),
    ):
        picture = image.decode(png((1, 2, 3), exif_text, xmp_text), Path("a.png"))
        assert picture.exif == block
        assert picture.xmp == packet


def test_colours_that_a_png_states_by_number_become_a_profile() -> None:
    picture = image.decode(png((200, 100, 50), chunk(b"cICP", bytes([12, 13, 0, 1]))), Path("a.png"))
    assert picture.icc == P3
    # The published way from P3 to sRGB (CSS Color 4, 18): both have the same curve.
    matrix = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    light = matrix @ ((np.array([200, 100, 50]) / 255 + 0.055) / 1.055) ** 2.4
    assert np.allclose(as_srgb(picture), 255 * (1.055 * light ** (1 / 2.4) - 0.055), atol=2)


@pytest.mark.parametrize("chunks", [[], [chunk(b"sRGB", b"\0")], [chunk(b"gAMA", struct.pack(">I", 45455))]])
def test_a_png_that_says_srgb_in_any_way_has_no_profile(chunks: list[bytes]) -> None:
    assert image.decode(png((1, 2, 3), *chunks), Path("a.png")).icc is None


def test_another_gamma_becomes_a_profile_with_it() -> None:
    picture = image.decode(png((128, 128, 128), chunk(b"gAMA", struct.pack(">I", 55556))), Path("a.png"))
    assert picture.pixels[0, 0, 0] * 255 == 128
    light = (128 / 255) ** 1.8
    assert abs(as_srgb(picture)[0] - 255 * (1.055 * light ** (1 / 2.4) - 0.055)) < 2


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_linear_light_gets_srgbs_curve_and_a_profile_that_says_so(mode: str) -> None:
    colour = (55, 55, 55) if mode == "RGB" else (55,)
    picture = image.decode(png(colour, chunk(b"gAMA", struct.pack(">I", 100000)), mode=mode), Path("a.png"))
    wanted = 255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055)
    assert abs(float(picture.pixels[0, 0, 0]) * 255 - wanted) < 0.01
    assert picture.icc is not None
    assert not profiles.is_linear(picture.icc)
    assert picture.notes == (
        "Its colours are linear light: they were put on sRGB's curve, and its profile says so now.",
    )
    if mode == "RGB":
        assert abs(as_srgb(picture)[0] - wanted) < 2


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_refused_and_not_misread(transfer: int) -> None:
    with pytest.raises(PictureUnreadable, match=r"high-dynamic-range picture \(PQ or HLG\): export it as SDR\.$"):
        image.decode(png((1, 2, 3), chunk(b"cICP", bytes([9, transfer, 0, 1]))), Path("a.png"))


@pytest.mark.parametrize("content", [b"x", b"p\0\0" + b"broken", b"p\0\0" + zlib.compress(bytes(2**25))])
def test_a_profile_that_is_broken_or_a_bomb_does_not_stop_a_sound_picture(content: bytes) -> None:
    picture = image.decode(png((1, 2, 3), chunk(b"iCCP", content)), Path("a.png"))
    assert picture.icc is None
    assert picture.notes == ("Metadata that is damaged or too long was left behind.",)


def test_a_png_with_texts_of_megabytes_is_read() -> None:
    words = b"parameters\0\0" + zlib.compress(b"a masterpiece, " * 10**6)
    picture = image.decode(png((1, 2, 3), *[chunk(b"zTXt", words)] * 5), Path("a.png"))
    assert [len(text.content) for text in picture.texts] == [15 * 10**6]
    assert picture.notes == ("Metadata that is damaged or too long was left behind.",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grey_profile_is_never_put_on_three_channels(kind: Format) -> None:
    grey = profiles.from_gamma(1 / 1.8, None, grey=True)
    assert profiles.space(grey) == b"GRAY"
    result = again(Picture(torch.full((3, 8, 8), 0.5), grey=True, icc=grey), kind)
    with Image.open(io.BytesIO(encoded(Picture(torch.full((3, 8, 8), 0.5), grey=True, icc=grey), kind))) as opened:
        assert profiles.space(opened.info["icc_profile"]) == (b"GRAY" if opened.mode == "L" else b"RGB ")
    assert result.icc is not None
    assert abs(float(result.pixels.mean()) - 0.5) < 0.01


def test_a_profile_for_other_pixels_is_left_behind_and_said() -> None:
    grey = profiles.from_gamma(1 / 1.8, None, grey=True)
    picture = image.decode(photograph(icc=grey), Path("a"))
    assert picture.icc is None
    assert picture.notes == ("Its colour profile is not one for its pixels: it was left behind.",)


def test_what_is_said_of_a_made_profile_littlecms_understands() -> None:
    assert P3 is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(P3)).profile
    assert profile.xcolor_space.strip() == "RGB"
    # The published Display P3 in D50: red 0.5151 0.2412 -0.0011 (CSS Color 4, matrices).
    assert profile.red_colorant is not None
    assert np.allclose(profile.red_colorant[0], [0.5151, 0.2412, -0.0011], atol=2e-3)


# --- transparency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(33, 47), (1, 9), (9, 1), (2, 2)])
def test_what_lies_under_nothing_does_not_show_at_the_edge(size: tuple[int, int]) -> None:
    height, width = size
    samples = np.zeros((height, width, 4), np.uint8)  # black under what is transparent
    samples[: (height + 1) // 2, : (width + 1) // 2] = (250, 240, 10, 255)
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG")
    picture = image.decode(file.getvalue(), Path("a.png"))
    assert picture.alpha is not None
    pixels, alpha = resize(picture.pixels, (4 * height, 4 * width)), resize(picture.alpha, (4 * height, 4 * width))
    colour = torch.tensor([250, 240, 10]).view(3, 1, 1) / 255
    for ground in (0.0, 1.0):
        shown, wanted = (layer * alpha + ground * (1 - alpha) for layer in (pixels, colour))
        assert (shown - wanted).abs().max() < 0.5 / 255


def test_visible_colours_stay_as_they_are_and_a_picture_of_nothing_too() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    samples[..., 3] *= np.random.default_rng(1).integers(0, 2, (40, 30), dtype=np.uint8)
    for stored in (samples, samples * np.array([1, 1, 1, 0], np.uint8)):
        file = io.BytesIO()
        Image.fromarray(stored).save(file, "PNG")
        picture = image.decode(file.getvalue(), Path("a.png"))
        seen = stored[..., 3] > 0 if stored is samples else np.full((40, 30), True)
        read = (picture.pixels * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(read[seen], stored[..., :3][seen])


@pytest.mark.skipif(not peak.THERE, reason="memory is read from /proc")
@pytest.mark.parametrize("gamma", [45455, 100000])
def test_reading_takes_no_more_memory_than_it_says(tmp_path: Path, gamma: int) -> None:
    for side in (8, 2500):
        samples = np.zeros((side, side, 4), np.uint8)
        samples[: side // 2, ::3] = 255
        file = io.BytesIO()
        Image.fromarray(samples).save(file, "PNG")
        linear = chunk(b"gAMA", struct.pack(">I", gamma))
        (tmp_path / str(side)).write_bytes(file.getvalue()[:33] + linear + file.getvalue()[33:])
    code = (
        f"{peak.CODE}import sys, torch; from pathlib import Path; from seesr_cli import image\n"
        "torch.set_num_threads(1); small, large = (Path(name).read_bytes() for name in sys.argv[1:])\n"
        "image.decode(small, Path('a')); before = peak()\n"
        "image.decode(large, Path('a')); print(peak() - before)"
    )
    names = [str(tmp_path / side) for side in ("8", "2500")]
    shown = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert int(shown.stdout) < 2 * Path(names[1]).stat().st_size + 60 * 2500**2


# --- tolerance, loading, HEIC -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_picture_cut_off_is_read_as_far_as_it_goes_where_that_is_asked(kind: str) -> None:
    file = io.BytesIO()
    noise = Image.effect_noise((96, 96), 60).convert("RGB")
    noise.save(file, kind)
    cut = file.getvalue()[: int(len(file.getvalue()) * 0.7)]
    with pytest.raises(PictureUnreadable, match="is damaged or incomplete"):
        image.decode(cut, Path("a"))
    picture = image.decode(cut, Path("a"), tolerant=True)
    assert picture.notes == ("It is cut off or damaged: what could be read was taken.",)
    difference = picture.pixels.permute(1, 2, 0).numpy() * 255 - np.asarray(noise)
    assert np.abs(difference[:32]).mean() < (12 if kind == "JPEG" else 1)
    assert image.decode(file.getvalue(), Path("a"), tolerant=True).notes == ()


def test_a_picture_of_which_nothing_is_there_is_refused_even_so() -> None:
    content = png((10, 20, 30))
    with pytest.raises(PictureUnreadable, match="nothing of it can be seen: copy it again"):
        image.decode(content[: content.index(b"IDAT") + 6], Path("a"), tolerant=True)


def test_a_wrong_checksum_of_pixels_is_damage() -> None:
    content = bytearray(png((10, 20, 30)))
    content[content.index(b"IEND") - 5] ^= 1  # the last byte of the checksum before it
    with pytest.raises(PictureUnreadable, match=r"is damaged or incomplete \(a checksum is wrong\)"):
        image.decode(bytes(content), Path("a"))
    assert image.decode(bytes(png((10, 20, 30))), Path("a")).notes == ()


def test_a_file_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(image.MOST_BYTES + 1)  # a hole: no room on disk
    with pytest.raises(PictureUnreadable, match="is larger than the 1024 MB that are read: export it smaller"):
        image.load(tmp_path / "a.png")


def test_heic_is_read_with_the_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    stored = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    stored.save(tmp_path / "a.heic", exif=camera(orientation=6), xmp=XMP, icc_profile=P3, quality=95)
    picture = image.read(tmp_path / "a.heic")
    assert picture.pixels.shape == (3, 64, 48)
    assert (picture.icc, image.probe(tmp_path / "a.heic").size) == (P3, (64, 48))
    turned = torch.from_numpy(np.rot90(np.asarray(stored), -1).copy()).permute(2, 0, 1) / 255
    assert (picture.pixels - turned).abs().mean() < 0.02
    assert picture.exif is not None
    assert b"Made by me!" in picture.exif
    assert picture.xmp is not None
    assert b"Zo\xc3\xab" in picture.xmp


def test_that_more_than_8_bits_were_read_as_8_is_said() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = pillow_heif.from_bytes(mode="RGB;16", size=(8, 8), data=bytes(range(128)) * 3)
    heic, jpeg2000 = io.BytesIO(), io.BytesIO()
    deep.save(heic, format="HEIF")
    Image.new("RGB", (8, 8), "red").save(jpeg2000, "JPEG2000", no_jp2=True)
    wider = bytearray(jpeg2000.getvalue())
    wider[42:51:3] = bytes([11] * 3)  # one less than the bits of each component (ISO 15444-1, A.5.1)
    for content, bits in ((heic.getvalue(), 10), (bytes(wider), 12), (jpeg2000.getvalue(), 8)):
        notes = image.decode(content, Path("a")).notes
        assert notes == ((f"Its {bits} bits per channel were read as 8.",) if bits > 8 else ())


def test_without_the_extra_a_heic_file_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    monkeypatch.setattr(formats, "HAS_HEIF", False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(PictureUnreadable, match=r"is a HEIC picture: install .*: pip install 'seesr-cli\[heif\]'\.$"):
        image.read(tmp_path / "a.heic")
