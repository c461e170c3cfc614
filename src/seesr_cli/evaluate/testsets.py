"""The published test sets: the places of their pictures in the archive, and their published means."""

import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import ResourcesError, WeightsInvalid
from ..files import disk_is_full, replacing
from ..settings import TestSetName


class TestSet(NamedTuple):
    """One set.

    inputs, references: its folders in the archive. pictures: how many it has. published: means of SeeSR, by metric, as
    its authors and OSEDiff's give them. again: what others measured of the same.
    """

    inputs: str
    references: str
    pictures: int
    published: Mapping[str, float] = {}  # never changed
    again: str = ""


SETS: Mapping[TestSetName, TestSet] = {
    "realsr": TestSet(
        "RealSRVal_crop128/test_LR",
        "RealSRVal_crop128/test_HR",
        100,
        {"psnr": 25.18, "ssim": 0.7216, "lpips": 0.3009, "dists": 0.2223},
        "Others measured a PSNR of 25.15 dB.",
    ),
    "drealsr": TestSet(
        "DrealSRVal_crop128/test_LR",
        "DrealSRVal_crop128/test_HR",
        93,
        {"psnr": 28.17, "ssim": 0.7691, "lpips": 0.3189, "dists": 0.2315},
        "Others measured a PSNR of 28.07 to 28.14 dB.",
    ),
    "div2k": TestSet("DIV2K_V2_val/lq", "DIV2K_V2_val/gt", 3000),
}

_SIDE = re.compile(r"_?(?:LR|HR|lq|gt)\d*$", re.IGNORECASE)
"""What some sets have behind the name of a picture, to say which of the two it is."""


class Folders(NamedTuple):
    """Where a set's pictures are; both of a pair have one name."""

    inputs: Path
    references: Path


def unpacked(archive: Path, chosen: TestSet, folder: Path) -> Folders:
    """Return a set's pictures, unpacked into `folder`; pictures that are already there are not written again.

    Raises WeightsInvalid for an archive that is damaged or holds other pictures, ResourcesError for a full disk.
    """
    found = Folders(folder / "input", folder / "reference")
    try:
        with zipfile.ZipFile(archive) as content:
            inputs, references = (_members(content, name) for name in (chosen.inputs, chosen.references))
            if not inputs or inputs.keys() != references.keys():
                raise WeightsInvalid(
                    f"{archive}: its folders {chosen.inputs} ({len(inputs)} pictures) and {chosen.references} "
                    f"({len(references)}) do not hold the pairs of the set; get the file anew."
                )
            for place, members in zip(found, (inputs, references), strict=True):
                place.mkdir(parents=True, exist_ok=True)
                for name, member in members.items():
                    _unpack(content, member, place / f"{name}{PurePosixPath(member.filename).suffix}")
    except (zipfile.BadZipFile, EOFError) as problem:
        raise WeightsInvalid(f"{archive}: not a whole archive ({problem}); get the file anew.") from problem
    except OSError as problem:
        if not disk_is_full(problem):
            raise
        raise ResourcesError(f"The disk of {folder} is full: make room, and run the same again.") from problem
    return found


def _members(content: zipfile.ZipFile, folder: str) -> dict[str, zipfile.ZipInfo]:
    """Return the pictures right in a folder of the archive, wherever that is, by what both of a pair are called."""
    return {
        _SIDE.sub("", path.stem): member
        for member in content.infolist()
        if (path := PurePosixPath(member.filename)).suffix.lower() == ".png"
        and f"/{path.parent}".endswith(f"/{folder}")
        and not path.name.startswith(".")
    }


def _unpack(content: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    """Write a member of the archive to `place`, unless a file of its size is there."""
    if place.is_file() and place.stat().st_size == member.file_size:
        return
    with content.open(member) as source, replacing(place, overwrite=True) as file:
        shutil.copyfileobj(source, file)
