"""Whatever a file holds, it ends in a right picture or in one sentence: everything Pillow can write, whole and damaged.

The damaged ones are read in a process of their own, with its memory limited and its warnings raised as errors.
"""

import io
import json
import os
import resource
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seesr_cli import image
from seesr_cli.errors import PictureUnreadable

MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "I",
    "I;16",
    "I;16B",
    "F",
    "RGB",
    "RGBA",
    "RGBX",
    "RGBa",
    "CMYK",
    "YCbCr",
    "LAB",
)
# What Pillow 13 writes wrong: 16-bit BigTIFF in big-endian order has its strips at 0.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "PNG": [{}, {"optimize": True}, {"bits": 1}, {"bits": 2}, {"bits": 4}, {"transparency": 3}],
    "JPEG": [
        {},
        {"progressive": True},
        {"subsampling": 2, "quality": 30},
        {"subsampling": 0, "optimize": True},
        {"keep_rgb": True},
        {"restart_marker_rows": 1, "comment": "a\nb"},
    ],
    "MPO": [{}],
    "TIFF": [
        *({"compression": name} for name in (None, "raw", "tiff_ccitt", "group3", "group4", "tiff_lzw")),
        *(
            {"compression": name}
            for name in ("tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "zstd", "webp", "lzma")
        ),
        {"big_tiff": True},
        {"big_tiff": True, "compression": "tiff_lzw"},
        {"tiffinfo": {317: 2}, "compression": "tiff_lzw"},
        {"tiffinfo": {262: 0}},
        {"tiffinfo": {274: 5}},
    ],
    "WEBP": [{}, {"lossless": True}, {"lossless": True, "exact": True}, {"quality": 1, "method": 6}],
    "GIF": [{}, {"interlace": False}, {"transparency": 3}, {"comment": b"c" * 600}],
    "BMP": [{}],
    "PPM": [{}],
    "JPEG2000": [{}, {"irreversible": True}, {"no_jp2": True}, {"num_resolutions": 1}, {"tile_size": (16, 16)}],
    "AVIF": [{"quality": 60}, {"subsampling": "4:4:4"}, {"subsampling": "4:0:0"}, {"quality": 100, "range": "limited"}],
    "HEIF": [{}, {"quality": -1}],
}
REFUSED = ("ICO", "PCX", "TGA", "EPS", "PDF", "ICNS", "DDS", "IM", "XBM", "SGI", "BLP", "QOI", "MSP", "PALM", "SPIDER")
SIZES = ((1, 1), (33, 21))
MORE_SIZES = (*SIZES, (500, 3), (1, 40), (128, 128))


def drawn(mode: str, size: tuple[int, int]) -> Image.Image:
    """Return colours, a slope and some transparency, in `mode`."""
    width, height = size
    down, across = np.mgrid[0:height, 0:width]
    channels = [
        across * 255 // max(width - 1, 1),
        down * 255 // max(height - 1, 1),
        (across + down) % 256,
        55 + down % 200,
    ]
    whole = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    if mode == "F":
        return Image.fromarray((np.asarray(whole.convert("L")) / 255).astype(np.float32))
    if mode.startswith("I"):
        deep = np.asarray(whole.convert("L")).astype(np.uint16) * 257
        types = {"I": "i4", "I;16": "u2", "I;16B": ">u2"}
        return Image.fromarray(deep.astype(types[mode]))
    if mode in ("La", "PA"):
        return whole.convert("LA").convert(mode)
    if mode == "LAB":
        return Image.merge("LAB", whole.split()[:3])
    return whole.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "P", "1") else whole.convert(mode)


@contextmanager
def silent() -> Iterator[None]:
    """Keep the libraries below Python from writing to the terminal: libtiff says what it does not write."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@cache
def everything(modes: tuple[str, ...] = MODES, sizes: tuple[tuple[int, int], ...] = SIZES) -> dict[str, bytes]:
    """Return every file that Pillow agrees to write, by a name that says what it is."""
    if "HEIF" not in Image.SAVE:
        try:
            import pillow_heif
        except ImportError:
            pass
        else:
            pillow_heif.register_heif_opener()
    files: dict[str, bytes] = {}
    Image.init()
    for kind, options in (OPTIONS | {name: [{}] for name in REFUSED}).items():
        for mode in modes if kind in Image.SAVE else ():
            for option in options:
                for size in sizes:
                    file = io.BytesIO()
                    try:
                        with warnings.catch_warnings(action="ignore"), silent():
                            drawn(mode, size).save(file, kind, **option)
                    except Exception:  # not everything can be written: that is Pillow's to decide
                        continue
                    files[f"{kind} {mode} {option} {size[0]}x{size[1]}"] = file.getvalue()
    return files


def interlaced(samples: Any) -> bytes:
    """Return an interlaced PNG (ISO 15948, 8.2) of [H, W, 3] samples, which Pillow does not write."""
    raw = b""
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = samples[top::down, left::across]
        raw += b"".join(b"\0" + row.astype(f">u{samples.itemsize}").tobytes() for row in part if part.size)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">2I5B", samples.shape[1], samples.shape[0], 8 * samples.itemsize, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def as_pillow_shows(content: bytes) -> Image.Image:
    """Return what Pillow makes of a file, as RGBA or RGB of 8 bits."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as opened:
        return opened.convert("RGBA" if opened.has_transparency_data else "RGB")


@pytest.mark.parametrize("sizes", [SIZES, pytest.param(MORE_SIZES, marks=pytest.mark.slow)], ids=["some", "more"])
def test_everything_pillow_writes_is_the_right_picture_or_a_sentence(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...]
) -> None:
    outcomes: Counter[str] = Counter()
    for name, content in everything(MODES, sizes).items():
        kind, mode = name.split()[:2]
        try:
            picture = image.decode(content, tmp_path / "a")
        except PictureUnreadable as error:
            assert kind in REFUSED or "not read" in str(error) or "I;16B {'big_tiff'" in name, name  # noqa: PT017 - either of two ends is right
            outcomes["a sentence"] += 1
            continue
        assert kind not in REFUSED, name
        outcomes["a picture"] += 1
        (tmp_path / "a").write_bytes(content)
        header = image.probe(tmp_path / "a")
        assert header.size == picture.pixels.shape[-2:], name
        assert header[1:] == (picture.bits, picture.alpha is not None, picture.grey), name
        if picture.bits == 8 and mode not in ("CMYK", "LAB"):
            shown = np.asarray(as_pillow_shows(content)).astype(np.float32)
            values = picture.pixels.permute(1, 2, 0).numpy() * 255
            seen = shown[..., 3] > 0 if shown.shape[2] == 4 else np.full(shown.shape[:2], True)
            assert (picture.alpha is not None) == (shown.shape[2] == 4), name
            assert np.abs(values[seen] - shown[..., :3][seen]).max(initial=0) <= 1e-3, name
        elif mode in ("I;16", "I;16B", "I", "F") and kind not in ("JPEG2000", "HEIF"):
            original = np.asarray(drawn(mode, (picture.pixels.shape[2], picture.pixels.shape[1]))).astype(np.float32)
            if "274" not in name and "262" not in name:
                white = 1 if mode == "F" else 65535
                assert np.abs(picture.pixels[0].numpy() - original / white).max() < 1e-6, name
    print(dict(outcomes))
    assert outcomes["a picture"] > 400
    assert outcomes["a sentence"] > 50


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 9), (33, 40)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_interlaced_png_is_read(size: tuple[int, int], depth: type[np.unsignedinteger[Any]]) -> None:
    samples = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (*size, 3), dtype=depth)
    picture = image.decode(interlaced(samples), Path("a"))
    white = np.iinfo(depth).max
    np.testing.assert_array_equal((picture.pixels.permute(1, 2, 0) * white).round().numpy(), samples)


# --- damage -------------------------------------------------------------------------------------------------------


def truncated(content: bytes) -> Iterator[bytes]:
    """Yield the file cut off at every 97th byte."""
    yield from (content[:end] for end in range(1, len(content), 97))


def flipped(content: bytes, times: int) -> Iterator[bytes]:
    """Yield the file with one to eight bytes changed."""
    random = np.random.default_rng(len(content))
    for _ in range(times):
        changed = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 9)):
            changed[place] = random.integers(0, 256)
        yield bytes(changed)


def lying(kind: str, content: bytes, size: tuple[int, int]) -> Iterator[bytes]:
    """Yield the file of 33 x 21 pixels with every mention of that size replaced by another, however counted."""
    for order in "<>":
        for layout in "HI":
            for first, second in ((33, 21), (21, 33)):
                stated = struct.pack(f"{order}2{layout}", first, second)
                other = struct.pack(
                    f"{order}2{layout}", *(min(side, 2**16 - 1 if layout == "H" else 2**32 - 1) for side in size)
                )
                if stated in content:
                    yield checked(kind, content.replace(stated, other))
    # TIFF counts each side in an entry of its own.
    for order in "<>":
        changed = content
        for tag, side, wanted in ((256, 33, size[0]), (257, 21, size[1])):
            for number, layout in ((3, "Hxx"), (4, "I")):
                if wanted < 2**16 or layout == "I":
                    entry = struct.pack(f"{order}HHI{layout}", tag, number, 1, side)
                    changed = changed.replace(entry, struct.pack(f"{order}HHII", tag, 4, 1, wanted))
        if changed != content:
            yield changed
    if b" 33 21\n" in content or b"\n33 21\n" in content:
        yield content.replace(b"33 21", b"%d %d" % size)
    if content[12:16] == b"VP8X":
        yield (
            content[:24]
            + (size[0] % 2**24).to_bytes(3, "little")
            + (size[1] % 2**24).to_bytes(3, "little")
            + content[30:]
        )


def checked(kind: str, content: bytes) -> bytes:
    """Return a PNG whose header's checksum is right again; other files as they are."""
    return content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:] if kind == "PNG" else content


def hazards() -> dict[str, bytes]:
    """Return small files that ask for much."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(*chunks: bytes, width: int = 4, height: int = 4) -> bytes:
        head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
        rows = zlib.compress(bytes((min(width, 10**4) + 1) * min(height, 10**4)))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

    bomb = zlib.compress(bytes(100_000_000))
    directory = b"\x02\0" + b"\0\1\3\0\1\0\0\0\x08\0\0\0" + b"\1\1\3\0\1\0\0\0\x08\0\0\0"
    ring = [directory + (8 + 30 * ((place + 1) % 5000)).to_bytes(4, "little") for place in range(5000)]
    jpeg = io.BytesIO()
    Image.new("RGB", (33, 21)).save(jpeg, "JPEG")
    jpeg_size = jpeg.getvalue().index(b"\0\x15\0\x21")
    return {
        "text bomb": png(chunk(b"zTXt", b"k\0\0" + bomb)),
        "profile bomb": png(chunk(b"iCCP", b"k\0\0" + bomb)),
        "XMP bomb": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)),
        "EXIF bomb": png(chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)),
        "many texts": png(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000)))] * 200),
        "pixel bomb": png(width=60000, height=60000),
        "pixel bomb within the limit": png(width=5000, height=5000),
        "thin": png(width=1, height=100_000),
        "JPEG of 65000 x 65000": jpeg.getvalue()[:jpeg_size]
        + struct.pack(">2H", 65000, 65000)
        + jpeg.getvalue()[jpeg_size + 4 :],
        "JPEG of 5000 x 5000": jpeg.getvalue()[:jpeg_size]
        + struct.pack(">2H", 5000, 5000)
        + jpeg.getvalue()[jpeg_size + 4 :],
        "ring of directories": b"II*\0\x08\0\0\0" + b"".join(ring),
        "directories over each other": b"II*\0\x08\0\0\0" + b"\xff\xff" * 500_000,
        "noise": np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes(),
        "nothing but zeros": bytes(100_000),
        "HTML": b"<!DOCTYPE html><html><body>Not found</body></html>",
    }


def sweep(cases: Iterator[tuple[str, bytes]], seconds: float) -> dict[str, Any]:
    """Decode every case, strictly and tolerantly, and return what became of them and what the worst one cost."""
    outcomes: Counter[str] = Counter()
    slowest, wrong = (0.0, ""), []
    for name, content in cases:
        for tolerant in (False, True):
            start = time.process_time()
            try:
                picture = image.decode(content, Path("a"), tolerant)
                outcomes["pictures"] += 1
                if not (picture.pixels.isfinite().all() and picture.pixels.min() >= 0 and picture.pixels.max() <= 1):
                    wrong.append(f"{name}: values out of range")
            except PictureUnreadable as error:
                outcomes["sentences"] += 1
                if "\n" in str(error) or not str(error).startswith("a ") or not str(error).endswith("."):
                    wrong.append(f"{name}: {error!s}")
            except BaseException as error:  # what must not be
                wrong.append(f"{name} ({tolerant}): {error!r}")
            slowest = max(slowest, (time.process_time() - start, name))
    if slowest[0] > seconds:
        wrong.append(f"{slowest[1]}: took {slowest[0]:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"outcomes": outcomes, "wrong": wrong, "slowest": slowest, "peak MB": peak}


def cases(wide: bool) -> Iterator[tuple[str, bytes]]:
    """Yield damaged files with a name each: of every kind one, or, `wide`, of every way to write it."""
    taken: set[str] = set()
    for name, content in everything(MODES if wide else ("RGB",), ((33, 21),)).items():
        kind = name.split()[0] + ("compressed" if "tiff_" in name else "")  # libtiff decodes those, and speaks up
        if kind in REFUSED or (kind in taken and not wide):
            continue
        taken.add(kind)
        yield from ((f"{name} cut", cut) for cut in truncated(content))
        yield from ((f"{name} flipped", changed) for changed in flipped(content, 15 if wide else 4))
        large = 2500 if wide else 800
        for size in ((60000, 60000), (large, large), (0, 0), (2**32 - 1, 2**32 - 1)):
            yield from ((f"{name} lying {size}", false) for false in lying(name.split()[0], content, size))
    yield from hazards().items()


BOUND = 2**31
"""What the process may take beyond what it has when the libraries are there: 100 million pixels, 20 bytes each."""


def run_sweep(wide: bool) -> dict[str, Any]:
    """Run `sweep` in a process of its own whose memory is limited, and return what it found."""
    code = (
        "import json, resource, sys, warnings, torch; from image import test_corpus\n"
        "from seesr_cli import image\n"
        f"torch.set_num_threads(1); list(zip(test_corpus.cases({wide}), range(1)))\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + test_corpus.BOUND\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); warnings.simplefilter('error')\n"
        f"print(json.dumps(test_corpus.sweep(test_corpus.cases({wide}), 20)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
def test_a_damaged_file_of_every_kind_is_a_picture_or_a_sentence() -> None:
    found = run_sweep(wide=False)
    assert found["wrong"] == []
    assert found["outcomes"]["pictures"] > 100
    assert found["outcomes"]["sentences"] > 100


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
def test_damage_to_everything_pillow_writes_is_a_picture_or_a_sentence() -> None:
    found = run_sweep(wide=True)
    print(json.dumps(found))
    assert found["wrong"] == []


NAMES = [
    "a\nb",
    "it's",
    'a "quoted" one',
    "\udcff\udcfe",
    "n" * 255,
    " ",
    "-",
    "*?[x]",
    "a\tb\x1b[31m",
    "é" * 100,
    "%s{0}",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_the_name_of_a_picture(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.new("RGB", (4, 4), "red").save(tmp_path / "plain.png")
    path.write_bytes((tmp_path / "plain.png").read_bytes())
    assert image.read(path).pixels[0].min() == 1
    assert image.probe(path).size == (4, 4)
    path.write_bytes(b"no picture")
    for reader in (image.read, image.probe):
        with pytest.raises(PictureUnreadable, match="is not a picture that can be read"):
            reader(path)


def test_a_name_with_a_zero_byte_has_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PictureUnreadable, match="cannot be read"):
        image.load(tmp_path / "a\0b")
