"""Places in a picture that metadata tell of move with the pixels; damaged metadata never stop a picture."""

import io
import random
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from image.test_image_kept import KINDS, P3, XMP, again, camera, chunk, encoded, exiftool, photograph, png
from seesr_cli import image
from seesr_cli.image import Picture, exif, iptc, xmp, xmp_packet
from seesr_cli.image.geometry import Move, turn
from seesr_cli.image.samples import upright
from seesr_cli.run.inputs import find

needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
DESCRIPTION = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" {}>{}</rdf:Description></rdf:RDF></x:xmpmeta>'
)


def packet(inner: str, **namespaces: str) -> bytes:
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in namespaces.items())
    return DESCRIPTION.format(declared, inner).encode()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_point_is_where_its_pixel_is_after_every_turn_and_cut(orientation: int) -> None:
    stored = np.zeros((16, 24, 1), np.float32)
    stored[3, 5] = 1
    turned = upright(stored, orientation)
    height, width = turned.shape[:2]
    part = (1, 2, height - 3, width - 1)
    cut = turned[1 : height - 3, 2 : width - 1]
    move = Move((16, 24), orientation, part, (2 * cut.shape[0], 2 * cut.shape[1]))
    assert move.turned == (height, width)
    x, y = move.point(5.5 / 24, 3.5 / 16)
    (row,), (column,) = np.nonzero(cut[..., 0])
    assert (x * cut.shape[1], y * cut.shape[0]) == pytest.approx((column + 0.5, row + 0.5))


@needs_exiftool
@pytest.mark.parametrize("orientation", range(1, 9))
def test_faces_are_turned_with_the_picture(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "a.jpg").write_bytes(photograph())
    regions = (
        "-RegionInfo={AppliedToDimensions={W=24,H=16,Unit=pixel},RegionList=[{Area={X=0.25,Y=0.125,W=0.25,H=0.125,"
        "Unit=normalized},Name=Ann,Type=Face}]}"
    )
    people = "-RegionInfoMP={Regions=[{PersonDisplayName=Ann,Rectangle=0.125|, 0.0625|, 0.25|, 0.125}]}"
    tags = [f"-IFD0:Orientation#={orientation}", "-ExifIFD:SubjectArea=6 2 6 2", regions, people]
    tags += ["-FocalPlaneXResolution=1000", "-FocalPlaneYResolution=500"]
    subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, tmp_path / "a.jpg"], check=True)
    picture = image.read(tmp_path / "a.jpg")
    assert picture.notes == ()
    (tmp_path / "b.png").write_bytes(encoded(picture, "png"))
    found = exiftool(tmp_path / "b.png")
    mark = np.zeros((16, 24, 1), np.float32)
    mark[1:3, 3:9] = 1
    turned = upright(mark, orientation)[..., 0]
    rows, columns = np.nonzero(turned)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    height, width = turned.shape
    assert [found[f"XMP-mwg-rs:RegionArea{name}"] for name in "XYWH"] == pytest.approx(
        [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    )
    assert [found[f"XMP-mwg-rs:RegionAppliedToDimensions{name}"] for name in "WH"] == [width, height]
    rectangle = [float(number) for number in str(found["XMP-MP:RegionRectangle"]).split(",")]
    assert rectangle == pytest.approx([left / width, top / height, (right - left) / width, (bottom - top) / height])
    area = f"{(left + right) // 2} {(top + bottom) // 2} {right - left} {bottom - top}"
    assert found["ExifIFD:SubjectArea"] == area
    planes = (found["ExifIFD:FocalPlaneXResolution"], found["ExifIFD:FocalPlaneYResolution"])
    assert planes == ((500, 1000) if orientation > 4 else (1000, 500))


def region(width: int, height: int, orientation: int, x: float = 0.25, y: float = 0.125) -> Picture:
    """Return a picture of 24 x 16 as stored, whose region applies to another size."""
    regions = packet(
        f'<r:Regions rdf:parseType="Resource"><r:AppliedToDimensions d:w="{width}" d:h="{height}" d:unit="pixel"/>'
        f'<r:RegionList><rdf:Bag><rdf:li><rdf:Description r:Name="Ann"><r:Area a:x="{x}" a:y="{y}" a:w="0.25" '
        'a:h="0.125" a:unit="normalized"/></rdf:Description></rdf:li></rdf:Bag></r:RegionList></r:Regions>',
        r="http://www.metadataworkinggroup.com/schemas/regions/",
        a="http://ns.adobe.com/xmp/sType/Area#",
        d="http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    )
    return image.decode(photograph(camera(orientation=orientation), regions), Path("a"))


def test_regions_of_another_scale_stay_and_of_another_shape_go_with_a_note() -> None:
    assert b'd:w="24" d:h="16"' in (region(2400, 1600, 1).xmp or b"")
    assert b'a:x="0.25"' in (region(2400, 1600, 1).xmp or b"")
    other = region(2400, 2400, 1)
    assert b"Ann" not in (other.xmp or b"")
    assert other.notes == ("The regions (faces) that it names do not fit the picture: they were left out.",)


def test_regions_that_some_program_told_of_the_picture_as_it_is_shown_are_not_turned_again() -> None:
    shown = region(16, 24, 6)
    assert b'a:x="0.25"' in (shown.xmp or b"")
    assert b'd:w="16" d:h="24"' in (shown.xmp or b"")
    assert b'a:x="0.875"' in (region(24, 16, 6).xmp or b"")


def test_the_regions_of_iptc_are_moved_in_each_of_their_shapes() -> None:
    space = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

    def boundary(inner: str) -> str:
        whole = f'<e:RegionBoundary rdf:parseType="Resource">{inner}</e:RegionBoundary>'
        return f'<rdf:li rdf:parseType="Resource">{whole}</rdf:li>'

    points = "".join(
        f'<rdf:li rdf:parseType="Resource"><e:rbX>{x}</e:rbX><e:rbY>{y}</e:rbY></rdf:li>'
        for x, y in ((0, 0), (0.5, 0.25))
    )
    shapes = (
        "<e:rbUnit>relative</e:rbUnit><e:rbX>0</e:rbX><e:rbY>0.25</e:rbY><e:rbW>0.5</e:rbW><e:rbH>0.25</e:rbH>",
        "<e:rbUnit>pixel</e:rbUnit><e:rbX>0</e:rbX><e:rbY>4</e:rbY><e:rbW>12</e:rbW><e:rbH>4</e:rbH>",
        "<e:rbUnit>pixel</e:rbUnit><e:rbX>6</e:rbX><e:rbY>4</e:rbY><e:rbRx>3</e:rbRx>",
        f"<e:rbUnit>relative</e:rbUnit><e:rbVertices><rdf:Seq>{points}</rdf:Seq></e:rbVertices>",
    )
    whole = packet(f"<e:ImageRegion><rdf:Bag>{''.join(map(boundary, shapes))}</rdf:Bag></e:ImageRegion>", e=space)
    moved, notes = xmp.moved(whole, Move((16, 24), 6, (0, 0, 24, 16), (48, 32)))
    assert notes == ()
    for true in (
        "<e:rbX>0.5</e:rbX><e:rbY>0</e:rbY><e:rbW>0.25</e:rbW><e:rbH>0.5</e:rbH>",
        "<e:rbX>16</e:rbX><e:rbY>0</e:rbY><e:rbW>8</e:rbW><e:rbH>24</e:rbH>",
        "<e:rbX>24</e:rbX><e:rbY>12</e:rbY><e:rbRx>6</e:rbRx>",
        "<e:rbX>1</e:rbX><e:rbY>0</e:rbY></rdf:li>",
        "<e:rbX>0.75</e:rbX><e:rbY>0.5</e:rbY></rdf:li>",
    ):
        assert true in moved.decode(), true


# --- what else the file holds --------------------------------------------------------------------------------------


def test_a_still_picture_that_is_no_frame_of_its_animation_is_told_as_that(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for hidden in (True, False):
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=hidden)
        picture = image.read(tmp_path / "a.png")
        assert torch.equal(picture.pixels[:, 0, 0], torch.tensor([1.0, 0, 0]))
        animation = "It also holds an animation, of which this picture is no frame: only the picture was taken."
        assert picture.notes == (animation if hidden else "It holds several frames: the first was taken.",)


def test_hif_is_a_picture_in_a_folder(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (16, 8), "red").save(tmp_path / "DSC00001.heic")
    (tmp_path / "DSC00001.heic").rename(tmp_path / "DSC00001.HIF")
    found = find([str(tmp_path)], [], output=None, name=None)
    assert [picture.path.name for picture in found.pictures] == ["DSC00001.HIF"]
    assert image.read(tmp_path / "DSC00001.HIF").pixels.shape == (3, 8, 16)


def test_an_extended_packet_is_put_together_without_what_is_gone() -> None:
    more = packet(
        "<dc:source>elsewhere</dc:source><g:Data>AAAA</g:Data>",
        dc=xmp_packet.DC,
        g="http://ns.google.com/photos/1.0/depthmap/",
    )
    main = packet(f"<n:HasExtendedXMP>{'A' * 32}</n:HasExtendedXMP>", n="http://ns.adobe.com/xmp/note/")
    stored = photograph(xmp=main)
    for place in (0, 100):  # in two segments, the second one first
        piece = more[place : 100 if not place else None]
        body = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">2I", len(more), place) + piece
        stored = stored[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + stored[2:]
    picture = image.decode(stored, Path("a"))
    assert picture.notes == ("The file also held a depth map: only the picture itself was taken.",)
    assert b"elsewhere" in (picture.xmp or b"")
    assert b"AAAA" not in (picture.xmp or b"")
    assert b"HasExtended" not in (picture.xmp or b"")


# --- damage, and other ways to write -------------------------------------------------------------------------------


def test_a_packet_in_utf_16_is_changed_as_one_in_utf_8() -> None:
    text = XMP.decode()
    for encoding in ("utf-16", "utf-16-be", "utf-16-le"):
        moved, _ = xmp.moved(text.encode(encoding), turn((16, 24), 6))
        assert moved == xmp.moved(XMP, turn((16, 24), 6))[0]


def test_a_packet_that_is_damaged_or_hostile_is_left_behind_and_said() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a;</x:xmpmeta>'
    deep = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"<a>" * 300_000
    for damaged in (XMP[:300], bomb, deep, b"no XML", XMP.replace(b"Zo", b"\xff\xff"), b"<a/>"):
        picture = image.decode(png((1, 2, 3), chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + damaged)), Path("a.png"))
        assert picture.xmp is None
        assert picture.notes == ("Metadata that is damaged or too long was left behind.",)


def test_metadata_with_any_byte_changed_is_carried_or_left_behind() -> None:
    chance = random.Random(5)
    datasets = b"\x1c\2\x19\0\3abc\x1c\2\x78\0\4text\x1c\2\x37\0\x0819310501"
    block = camera(orientation=6)
    for _ in range(200):
        damaged = [bytearray(part) for part in (block, XMP, datasets, iptc.segments(datasets)[4 + len(iptc.HEAD) :])]
        for part in damaged:
            for _ in range(chance.randint(1, 4)):
                part[chance.randrange(len(part))] = chance.randrange(256)
        one, two, three, resources = map(bytes, damaged)
        segments = b"\xff\xed" + struct.pack(">H", len(resources) + len(iptc.HEAD) + 2) + iptc.HEAD + resources
        stored = photograph(one if one.startswith(exif.HEAD) else None, two)
        picture = image.decode(stored[:2] + segments + stored[2:], Path("a"))
        picture = replace(picture, iptc=iptc.sound(three))
        for kind in KINDS[:4]:
            again(picture, kind)
        image.limited(picture, "no-location")


def test_iptc_that_xmp_contradicts_is_named_and_xmp_stays() -> None:
    datasets = b"\x1c\2\x69\0\5Quays\x1c\2\x78\0\4Quay\x1c\2\xc8\0\1x"
    description = '<rdf:Alt><rdf:li xml:lang="x-default">Quay of B.</rdf:li></rdf:Alt>'
    inner = f"<p:Headline>Boats</p:Headline><d:description>{description}</d:description>"
    stated = packet(inner, p=xmp_packet.PHOTOSHOP, d=xmp_packet.DC)
    file = io.BytesIO()
    notes = image.encode(file, Picture(torch.zeros(3, 8, 8), iptc=datasets, xmp=stated), "png")
    assert notes == ("PNG has no place for what the file said as IPTC 2:200 and Headline: it was left out.",)
    assert b"Boats" in file.getvalue()


def test_a_resolution_is_found_again_in_every_format_and_from_one_to_the_next() -> None:
    picture = Picture(torch.zeros(3, 8, 8), resolution=image.picture.Resolution(300, 72.5))
    for kind in KINDS:
        found = again(picture, kind).resolution
        assert found is not None
        if kind == "jpeg":  # whole numbers
            assert found == (300, 72, True)
            continue
        assert found[:2] == pytest.approx((300, 72.5), abs=0.013)
        assert again(again(picture, kind), kind).resolution == found
    shape = replace(picture, resolution=image.picture.Resolution(2, 1, absolute=False))
    for kind in KINDS:
        found = again(shape, kind).resolution
        assert found is not None
        assert (found.across / found.down, found.absolute) == (2, False)


def test_adobe_rgb_that_a_file_states_otherwise_too_is_what_it_states() -> None:
    block = camera("<", 1)
    entry = struct.pack("<HHIHH", 0xA001, 3, 1, 2, 0)  # ColorSpace 2, in the place of the size
    adobe = block.replace(struct.pack("<HHII", 0xA002, 4, 1, 24), entry)
    assert adobe != block
    alone = image.decode(photograph(adobe), Path("a"))
    assert b"c\0o\0m\0p\0a\0t\0i\0b\0l\0e" in (alone.icc or b"")
    assert image.decode(photograph(adobe, icc=P3), Path("a")).icc == P3
    chunks = [chunk(b"sRGB", b"\0"), chunk(b"eXIf", adobe.removeprefix(exif.HEAD))]
    assert image.decode(png((1, 2, 3), *chunks), Path("a")).icc is None
