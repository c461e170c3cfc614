"""The tables of docs/metadata.md are true: every cell is tried with files, and exiftool is the second source."""

import io
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from image.test_image_kept import KINDS, P3, chunk
from seesr_cli import image
from seesr_cli.settings import Format

needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
PAGE = (Path(__file__).parents[2] / "docs" / "metadata.md").read_text()

Tags = dict[str, Any]


def table(heading: str) -> dict[str, dict[str, str]]:
    """Return the cells of the table below a heading, by row and column."""
    lines = [line for line in PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:]}


FROM, TO = table("From the input"), table("To the result")
CELLS = [(kind, format_) for kind, row in FROM.items() for format_, cell in row.items() if cell != "–"]
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WebP": "webp", "AVIF": "avif", "HEIC": "heic"}
SUFFIXES |= {"JPEG 2000": "jp2", "GIF": "gif", "BMP": "bmp", "PPM": "ppm"}
PILLOW = {"WebP": "WEBP", "HEIC": "HEIF", "JPEG 2000": "JPEG2000"}


class Case(NamedTuple):
    """How a kind of metadata is put into a file, and what the result must say.

    tags: what exiftool writes. made: what Pillow is told to write. wanted: the result's tags by the place that the
    second table names; a tag with None must not be there. noted: words of the note.
    """

    tags: tuple[str, ...] = ()
    wanted: dict[str, Tags] | Tags | None = None
    noted: str | None = None
    row: str | None = None
    made: Callable[[str], bytes] | None = None


def base(format_: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return a picture of 24 x 16 pixels in this format."""
    file = io.BytesIO()
    picture = Image.linear_gradient("L").resize((24, 16)).convert(mode)
    picture.save(file, PILLOW.get(format_, format_), **options)
    return file.getvalue()


def several(format_: str) -> bytes:
    """Return two pictures in one file."""
    file = io.BytesIO()
    first, second = (Image.new("RGB", (24, 16), colour) for colour in ("red", "blue"))
    first.save(file, {"JPEG": "MPO"}.get(format_, PILLOW.get(format_, format_)), save_all=True, append_images=[second])
    return file.getvalue()


def with_credentials(format_: str) -> bytes:
    """Return a picture with what looks like content credentials, in the format's place for them."""
    content, manifest = base(format_), b"jumbjumdc2pa"
    if format_ == "JPEG":
        segment = b"JP\0\1\0\0\0\1" + manifest
        return content[:2] + b"\xff\xeb" + struct.pack(">H", len(segment) + 2) + segment + content[2:]
    if format_ == "PNG":
        return content[:33] + chunk(b"caBX", manifest) + content[33:]
    if format_ == "TIFF":
        return base(format_, tiffinfo={52545: manifest})
    if format_ == "WebP":
        more = content[8:] + b"C2PA" + struct.pack("<I", len(manifest)) + manifest
        return b"RIFF" + struct.pack("<I", len(more)) + more
    uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + manifest
    return content + struct.pack(">I4s", len(uuid) + 8, b"uuid") + uuid


def with_resolution(format_: str) -> bytes:
    if format_ in ("JPEG", "PNG", "TIFF", "BMP"):
        return base(format_, dpi=(300, 200))
    content = base(format_)
    if format_ != "JPEG 2000":
        return content  # in EXIF
    # A box for the resolution (ISO 15444-1, I.5.3.7), down and across, per metre, in the header box.
    captured = struct.pack(">4HBB", 7874, 1, 11811, 1, 0, 0)
    box = struct.pack(">I4sI4s", 26, b"res ", 18, b"resc") + captured
    place = content.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", content, place)
    end = place + length
    return content[:place] + struct.pack(">I", length + 26) + content[place + 4 : end] + box + content[end:]


def with_profile(format_: str) -> bytes:
    """Return a picture with the profile of P3, where exiftool cannot add one."""
    return base(format_, icc_profile=P3) if format_ in ("AVIF", "HEIC") else base(format_)


def with_comment(format_: str) -> bytes:
    return base(format_, comment=b"scanned by hand") if format_ == "JPEG 2000" else base(format_)


BESIDES = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"
 xmlns:c="http://ns.google.com/photos/1.0/container/" xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:item="http://ns.google.com/photos/1.0/container/item/" GDepth:Near="1.5" GCamera:MicroVideo="1">
<c:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><c:Item item:Semantic="GainMap" item:Mime="image/jpeg"/></rdf:li>
</rdf:Seq></c:Directory><dc:title><rdf:Alt><rdf:li xml:lang="x-default">Quay</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>"""

# By row of the first table. Numbers are as exiftool's -n gives them; results are twice as large.
RESOLUTIONS = {
    "pHYs": {"PNG-pHYs:PixelsPerUnitX": 11811, "PNG-pHYs:PixelsPerUnitY": 7874, "PNG-pHYs:PixelUnits": 1},
    "JFIF": {"JFIF:XResolution": 300, "JFIF:YResolution": 200, "JFIF:ResolutionUnit": 1},
    "EXIF": {"IFD0:XResolution": 300, "IFD0:YResolution": 200, "IFD0:ResolutionUnit": 2},
    "TIFF": {"IFD0:XResolution": 300, "IFD0:YResolution": 200, "IFD0:ResolutionUnit": 2},
}
SAID = "The file also held {}: only the picture itself was taken."
CASES: dict[str, Case] = {
    "EXIF: camera, lens, time, author": Case(
        ("-IFD0:Make=Canon", "-ExifIFD:LensModel=50mm", "-DateTimeOriginal=2001:02:03 04:05:06", "-IFD0:Artist=Zoë"),
        {
            "IFD0:Make": "Canon",
            "ExifIFD:LensModel": "50mm",
            "ExifIFD:DateTimeOriginal": "2001:02:03 04:05:06",
            "IFD0:Artist": "Zoë",
        },
    ),
    "EXIF: place on earth (GPS)": Case(
        ("-GPSLatitude=48.5", "-GPSLatitudeRef=N", "-GPSLongitude=2.25", "-GPSLongitudeRef=W"),
        {"GPS:GPSLatitude": 48.5, "GPS:GPSLongitude": 2.25, "GPS:GPSLongitudeRef": "W"},
    ),
    "EXIF: size and orientation": Case(
        ("-ExifIFD:ExifImageWidth=24", "-ExifIFD:ExifImageHeight=16", "-IFD0:Orientation#=1", "-IFD0:Make=Me"),
        {"ExifIFD:ExifImageWidth": 48, "ExifIFD:ExifImageHeight": 32},
    ),
    "EXIF: place of the subject": Case(
        ("-ExifIFD:SubjectArea=6 4 8 6", "-ExifIFD:SubjectLocation=6 4"),
        {"ExifIFD:SubjectArea": "12 8 16 12", "ExifIFD:SubjectLocation": "12 8"},
    ),
    "EXIF: pixels on the sensor": Case(
        ("-FocalPlaneXResolution=1000", "-FocalPlaneYResolution=1500.5"),
        {"ExifIFD:FocalPlaneXResolution": 2000, "ExifIFD:FocalPlaneYResolution": 3001},
    ),
    "EXIF: thumbnail": Case(
        ("-ThumbnailImage<=THUMBNAIL", "-IFD0:Make=Me"), {"IFD1:ThumbnailLength": None, "IFD0:Make": "Me"}
    ),
    "XMP: title, rating, keywords": Case(
        ("-XMP-dc:Title=Quay", "-XMP-xmp:Rating=4", "-XMP-dc:Subject=a", "-XMP-dc:Subject=b"),
        {"XMP-dc:Title": "Quay", "XMP-xmp:Rating": 4, "XMP-dc:Subject": ["a", "b"]},
    ),
    "XMP: size and orientation": Case(
        ("-XMP-tiff:ImageWidth=24", "-XMP-exif:ExifImageHeight=16", "-XMP-tiff:Orientation#=1"),
        {"XMP-tiff:ImageWidth": 48, "XMP-exif:ExifImageHeight": 32, "XMP-tiff:Orientation": 1},
    ),
    "XMP: faces and other regions": Case(
        (
            "-RegionInfo={AppliedToDimensions={W=24,H=16,Unit=pixel},RegionList=[{Area={X=0.25,Y=0.5,W=0.2,H=0.4,"
            "Unit=normalized},Name=Ann,Type=Face}]}",
            "-RegionInfoMP={Regions=[{PersonDisplayName=Ann,Rectangle=0.15|, 0.3|, 0.2|, 0.4}]}",
        ),
        {
            "XMP-mwg-rs:RegionAppliedToDimensionsW": 48,
            "XMP-mwg-rs:RegionAppliedToDimensionsH": 32,
            "XMP-mwg-rs:RegionAreaX": 0.25,
            "XMP-mwg-rs:RegionName": "Ann",
            "XMP-MP:RegionRectangle": "0.15, 0.3, 0.2, 0.4",
        },
    ),
    "XMP: panorama": Case(
        ("-XMP-GPano:FullPanoWidthPixels=48", "-XMP-GPano:CroppedAreaTopPixels=3"),
        {"XMP-GPano:FullPanoWidthPixels": 96, "XMP-GPano:CroppedAreaTopPixels": 6},
    ),
    "XMP: gain map, depth map, video": Case(
        ("-XMP<=PACKET",),
        {
            "XMP-hdrgm:Version": None,
            "XMP-Container:DirectoryItemSemantic": None,
            "XMP-GDepth:Near": None,
            "XMP-GCamera:MicroVideo": None,
            "XMP-dc:Title": "Quay",
        },
        SAID.format("a gain map for bright screens, a depth map and a video"),
    ),
    "XMP: settings of a raw developer": Case(
        ("-XMP-crs:Exposure2012=+1.00", "-XMP-crs:CropTop=0.2", "-XMP-crs:HasCrop=True", "-XMP-dc:Title=Quay"),
        {"XMP-crs:Exposure2012": None, "XMP-crs:CropTop": None, "XMP-crs:HasCrop": None, "XMP-dc:Title": "Quay"},
        SAID.format("settings of a raw developer"),
    ),
    "XMP: thumbnail": Case(
        ("-XMP-xmp:Thumbnails={Format=JPEG,Width=8,Height=8,Image=/9j/}", "-XMP-dc:Title=Quay"),
        {"XMP-xmp:ThumbnailsImage": None, "XMP-xmp:ThumbnailWidth": None, "XMP-dc:Title": "Quay"},
    ),
    "colours that were converted (CMYK)": Case(
        ("-XMP-photoshop:ColorMode#=4", "-XMP-photoshop:ICCProfileName=Coated", "-ExifIFD:ColorSpace#=65535"),
        {"XMP-photoshop:ColorMode": 3, "XMP-photoshop:ICCProfileName": "sRGB", "ExifIFD:ColorSpace": 1},
        "Its inks (CMYK) have no profile: they were converted plainly.",
        made=lambda format_: base(format_, "CMYK"),
    ),
    "IPTC-IIM: caption, keywords, author": Case(
        (
            "-IPTC:CodedCharacterSet=UTF8",
            "-IPTC:Keywords=harbour",
            "-IPTC:Keywords=archive",
            "-IPTC:Caption-Abstract=Quay of Brügge",
            "-IPTC:By-line=A. Nobody",
        ),
        {
            "IPTC": {
                "IPTC:Keywords": ["harbour", "archive"],
                "IPTC:Caption-Abstract": "Quay of Brügge",
                "IPTC:By-line": "A. Nobody",
            },
            "XMP": {
                "XMP-dc:Subject": ["harbour", "archive"],
                "XMP-dc:Description": "Quay of Brügge",
                "XMP-dc:Creator": "A. Nobody",
            },
        },
        row="IPTC-IIM",
    ),
    "comment": Case(
        ("-Comment=scanned by hand",),
        {
            "comment": {"File:Comment": "scanned by hand"},
            "text": {"PNG:Comment": "scanned by hand"},
            "XMP": {"XMP-exif:UserComment": "scanned by hand"},
        },
        row="comment",
        made=with_comment,
    ),
    "texts: title, author, software": Case(
        ("-PNG:Title=Quay ☂", "-PNG:Author=Me", "-PNG:Software=scan 1", "-PNG:Source=flatbed"),
        {
            "text": {
                "PNG:Title": "Quay ☂",
                "PNG:Author": "Me",
                "PNG:Software": "scan 1",
                "PNG:Source": "flatbed",
            },
            "XMP": {"XMP-dc:Title": "Quay ☂", "XMP-dc:Creator": "Me", "XMP-xmp:CreatorTool": "scan 1"},
        },
        row="texts",
    ),
    "resolution": Case(
        (),
        RESOLUTIONS,
        row="resolution",
        made=with_resolution,
    ),
    "colour profile": Case((), {"ICC_Profile:ProfileDescription": "RGB as the file stated it"}, made=with_profile),
    "Adobe RGB that only EXIF tells of": Case(
        ("-InteropIndex=R03", "-ExifIFD:ColorSpace#=65535"),
        {
            "ICC_Profile:ProfileDescription": "RGB compatible with Adobe RGB (1998)",
            "InteropIFD:InteropIndex": "R03",
            "ExifIFD:ColorSpace": 65535,
        },
    ),
    "further pictures, or an animation": Case((), {}, "", made=several),
    "content credentials (C2PA)": Case((), {}, SAID.format("content credentials (C2PA)"), made=with_credentials),
}
IN_EXIF_ALONE = ("WebP", "AVIF", "HEIC")  # resolution


def arguments(kind: str, format_: str) -> tuple[str, ...]:
    """Return what exiftool is told to write into the input of a cell."""
    if kind == "resolution":
        stated = ("-IFD0:XResolution=300", "-IFD0:YResolution=200", "-IFD0:ResolutionUnit#=2")
        return stated if format_ in IN_EXIF_ALONE else ()
    if kind == "comment":
        return {"PNG": ("-PNG:Comment=scanned by hand",), "JPEG 2000": ()}.get(format_, CASES[kind].tags)
    if kind == "colour profile":
        return () if format_ in ("AVIF", "HEIC") else ("-ICC_Profile<=PROFILE",)
    return CASES[kind].tags


class Tried(NamedTuple):
    """A result of a cell: what exiftool finds in it, and the notes of its reading and its writing."""

    tags: Tags
    notes: tuple[str, ...]


def is_there(format_: str) -> bool:
    if format_ != "HEIC":
        return True
    heif = pytest.importorskip("pillow_heif") if image.formats.HAS_HEIF else None
    if heif:
        heif.register_heif_opener()
    return heif is not None


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, Format], Tried]:
    """Make the inputs and the results of all cells; exiftool writes all at once, and reads all at once."""
    folder = tmp_path_factory.mktemp("metadata")
    (folder / "PROFILE").write_bytes(P3 or b"")
    (folder / "PACKET").write_bytes(BESIDES)
    (folder / "THUMBNAIL").write_bytes(base("JPEG"))
    cells = [(kind, format_) for kind, format_ in CELLS if is_there(format_)]
    names = {cell: f"{number}.{SUFFIXES[cell[1]]}" for number, cell in enumerate(cells)}
    written = []
    for (kind, format_), name in names.items():
        make = CASES[kind].made
        (folder / name).write_bytes(make(format_) if make else base(format_))
        if tags := arguments(kind, format_):
            written += ["-q", "-overwrite_original", *tags, name, "-execute"]
    (folder / "arguments").write_text("\n".join(written))
    subprocess.run(["exiftool", "-charset", "utf8", "-@", "arguments"], cwd=folder, check=True, capture_output=True)
    notes: dict[str, tuple[str, ...]] = {}
    for name in names.values():
        picture = image.read(folder / name)
        larger = replace(picture, pixels=picture.pixels.repeat_interleave(2, 1).repeat_interleave(2, 2), alpha=None)
        for kind_ in KINDS:
            with (folder / f"{name}.{kind_}").open("wb+") as file:
                notes[f"{name}.{kind_}"] = picture.notes + image.encode(file, larger, kind_)
    command = ["exiftool", "-j", "-n", "-G1", "-a", "-charset", "utf8", *sorted(notes)]
    shown = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    found = {Path(one["SourceFile"]).name: one for one in json.loads(shown.stdout)}
    return {
        (*cell, kind_): Tried(found[f"{name}.{kind_}"], notes[f"{name}.{kind_}"])
        for cell, name in names.items()
        for kind_ in KINDS
    }


@needs_exiftool
@pytest.mark.parametrize(("kind", "format_"), CELLS)
def test_every_cell_of_the_tables_is_so(tried: dict[tuple[str, str, Format], Tried], kind: str, format_: str) -> None:
    if not is_there(format_):
        pytest.skip("HEIC is not read here")
    case, cell = CASES[kind], FROM[kind][format_]
    assert cell in ("carried", "made true", "said", "left out")
    for output in KINDS:
        tags, notes = tried[kind, format_, output]
        wanted: Tags = case.wanted or {}
        if case.row:
            wanted = wanted[TO[case.row][image.FORMATS[output].name.replace("WEBP", "WebP")]]
        found = {name: tags.get(name) for name in wanted}
        assert found == wanted, output
        assert "ExifTool:Warning" not in tags, output
        if kind == "texts: title, author, software" and output != "png":
            name = image.FORMATS[output].name
            assert notes == (f"{name} has no place for what the file said as Source: it was left out.",)
        elif kind == "further pictures, or an animation":
            assert len(notes) == 1
            assert re.search("several frames|a second picture", notes[0])
        else:
            assert notes == ((case.noted,) if case.noted else ()), output


def test_the_table_has_every_kind_and_every_format_that_is_written() -> None:
    assert list(FROM) == list(CASES)
    for row in TO.values():
        assert [name.lower() for name in row] == KINDS
