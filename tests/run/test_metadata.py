"""What a run lets go on of a picture's metadata, and the time of its file."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from image.test_image_kept import exiftool
from run.test_batch import job, restore
from seesr_cli import image
from seesr_cli.records import provenance
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import Settings
from watching import Log

needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
REGIONS = (
    "-RegionInfo={AppliedToDimensions={W=40,H=20,Unit=pixel},RegionList=["
    "{Area={X=0.5,Y=0.5,W=0.2,H=0.4,Unit=normalized},Name=Middle,Type=Face},"
    "{Area={X=0.05,Y=0.5,W=0.1,H=0.2,Unit=normalized},Name=Edge,Type=Face}]}"
)
EVERYTHING = (
    "-GPSLatitude=48.5", "-GPSLatitudeRef=N", "-IFD0:Artist=Me", "-ExifIFD:LensModel=50mm", "-IPTC:City=Oslo",
    "-XMP-iptcExt:LocationShownCity=Oslo",
    "-IPTC:Headline=Quay", "-XMP-photoshop:City=Oslo", "-XMP-exif:GPSLongitude=2",
    "-XMP-dc:Title=Quay", "-Comment=by hand", "-JFIF:XResolution=300", "-JFIF:YResolution=300",
    "-JFIF:ResolutionUnit#=1", "-InteropIndex=R03", "-ExifIFD:SubjectLocation=20 10",
)  # fmt: skip
PLACES = ("GPS", "City", "Location")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph that says all there is to say."""
    path = tmp_path / "a.jpg"
    Image.effect_noise((40, 20), 60).convert("RGB").save(path)
    arguments = ["-q", "-overwrite_original", "-n", *EVERYTHING, REGIONS]
    subprocess.run(["exiftool", *arguments, path], check=True)
    return path


def made(upscaler: Upscaler, log: Log, photo: Path, kind: str, **options: Any) -> dict[str, Any]:
    """Return what exiftool finds in the result."""
    target = photo.with_name(f"result.{kind}")
    settings = options.pop("settings", Settings(steps=1, process_size=64, scale=2))
    (outcome,) = restore(upscaler, log, job(photo, target), settings=settings, **options)
    assert outcome.state == "done"
    found = exiftool(target)
    return {name: value for name, value in found.items() if name.partition(":")[0] not in ("System", "Composite")}


@needs_exiftool
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_without_location_nothing_tells_of_a_place_and_the_rest_stays(
    upscaler: Upscaler,
    log: Log,
    photo: Path,
    kind: str,
) -> None:
    found = made(upscaler, log, photo, kind, metadata="no-location")
    told = [name for name in found if any(place in name for place in PLACES) and "SubjectLocation" not in name]
    assert told == []
    assert b"Oslo" not in photo.with_name(f"result.{kind}").read_bytes()
    assert found["IFD0:Artist"] == "Me"
    assert found["ExifIFD:LensModel"] == "50mm"
    assert found["ExifIFD:SubjectLocation"] == "40 20"
    assert found["XMP-dc:Title"] == "Quay"
    assert "IPTC:Headline" in found or "XMP-photoshop:Headline" in found
    everything = made(upscaler, log, photo, kind, metadata="keep", overwrite=True)
    assert everything["GPS:GPSLatitude"] == 48.5
    assert everything["XMP-photoshop:City"] == "Oslo"


@needs_exiftool
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "avif"])
def test_without_metadata_only_the_profile_goes_on(
    upscaler: Upscaler,
    log: Log,
    photo: Path,
    kind: str,
) -> None:
    found = made(upscaler, log, photo, kind, metadata="none")
    words = ("XMP", "GPS", "IPTC", "ExifIFD", "Interop", "PNG-pHYs")
    assert [name for name in found if name.startswith(words) or "Artist" in name] == []
    assert [name for name, value in found.items() if "Resolution" in name and value == 300] == []
    assert "File:Comment" not in found
    assert found["ICC_Profile:ProfileDescription"] == "RGB compatible with Adobe RGB (1998)"
    packet = image.read(photo.with_name(f"result.{kind}")).xmp
    assert packet is None or provenance.extract(packet) is None


@needs_exiftool
def test_a_face_that_is_cut_away_is_named_no_more_and_the_others_are_where_they_are(
    upscaler: Upscaler,
    log: Log,
    photo: Path,
) -> None:
    settings = Settings(steps=1, process_size=64, width=40, height=40)  # the middle half of the width
    found = made(upscaler, log, photo, "png", settings=settings)
    assert found["XMP-mwg-rs:RegionName"] == "Middle"
    assert found["XMP-mwg-rs:RegionAreaX"] == 0.5
    assert found["XMP-mwg-rs:RegionAreaW"] == 0.4
    assert found["XMP-mwg-rs:RegionAreaH"] == 0.4
    assert found["XMP-mwg-rs:RegionAppliedToDimensionsW"] == 40
    assert found["ExifIFD:SubjectLocation"] == "20 20"


def test_a_result_has_the_time_of_its_picture_if_that_is_asked_for(
    tmp_path: Path,
    upscaler: Upscaler,
    log: Log,
) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 16), "red").save(source)
    os.utime(source, ns=(10**18, 10**18 + 5_000_000_000))
    for keep_time, name in ((True, "b.png"), (False, "c.png")):
        settings = Settings(steps=1, process_size=64)
        (outcome,) = restore(upscaler, log, job(source, tmp_path / name), settings=settings, keep_time=keep_time)
        assert outcome.state == "done"
        assert (tmp_path / name).stat().st_mtime_ns == 10**18 + 5_000_000_000 or not keep_time
        (again,) = restore(upscaler, log, job(source, tmp_path / name), settings=settings, keep_time=keep_time)
        assert again.state == "skipped"
    assert (tmp_path / "c.png").stat().st_mtime > 10**9 + 100


def test_other_metadata_is_another_result(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 16), "red").save(source, dpi=(300, 300))
    states = []
    settings = Settings(steps=1, process_size=64)
    for metadata in ("keep", "none", "none"):
        (outcome,) = restore(upscaler, log, job(source), settings=settings, metadata=metadata)
        states.append(outcome.state)
    assert states == ["done", "done", "skipped"]


def test_a_result_says_what_metadata_it_was_to_have(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 16), "red").save(source)
    settings = Settings(steps=1, process_size=64)
    restore(upscaler, log, job(source), settings=settings, metadata="no-location")
    packet = image.read(tmp_path / "a_x4.png").xmp
    assert packet is not None
    found = provenance.extract(packet)
    assert found is not None
    assert provenance.settings_of(found, "a_x4.png").metadata == "no-location"
    del found["output"]["metadata"]  # as earlier versions
    assert provenance.settings_of(found, "a_x4.png").metadata == "keep"
