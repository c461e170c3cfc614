"""Show the variants of a picture, made with several seeds, on a sheet beside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import image
from ..errors import PictureError
from ..files import replacing
from ..image.sheet import Cell, check_free, sheet
from ..image.sheet import write as write_sheet
from ..image.shown import as_shown
from .inputs import InputFile, read_bytes
from .outputs import Job

_SIDE = 384
"""Pixels: of a variant on the sheet, and of the part in its middle that is shown as it is."""

_A_ROW = 4


def read_once(pictures: Sequence[InputFile]) -> Sequence[InputFile]:
    """Return the pictures for several variants; those from a pipe come with their content."""
    return [each._replace(content=read_bytes(each)) if each.stream else each for each in pictures]


def write_sheets(sheets: Sequence[Job], variants: Sequence[Sequence[Job]], seeds: Sequence[int]) -> list[str]:
    """Write the sheet of each picture of which two variants are there; return a sentence for each.

    sheets: jobs whose targets are the sheets. variants: for each seed, the jobs of the same pictures.
    """
    told = []
    for own, *others in zip(sheets, *variants, strict=True):
        there = [
            (seed, job.target) for seed, job in zip(seeds, others, strict=True) if job.target and job.target.is_file()
        ]
        if own.target is None or len(there) < 2:
            continue
        try:
            _write(own.target, there)
            told.append(f"{own.target} shows the {len(there)} variants.")
        except PictureError as error:
            told.append(str(error))
    return told


def _write(path: Path, variants: Sequence[tuple[int, Path]]) -> None:
    """Write one sheet: rows of whole variants, and under each the middle of it, pixel by pixel."""
    check_free(path)
    rows = []
    for first in range(0, len(variants), _A_ROW):
        read = [(seed, image.read(target)) for seed, target in variants[first : first + _A_ROW]]
        rows.append([Cell(as_shown(picture, _SIDE**2), f"seed {seed}") for seed, picture in read])
        rows.append([Cell(as_shown(_middle(picture), _SIDE**2), "its middle") for _, picture in read])
    with replacing(path, overwrite=True) as file:
        write_sheet(file, sheet(rows))


def _middle(picture: image.Picture) -> image.Picture:
    """Return a square in the middle of the picture."""
    height, width = picture.pixels.shape[-2:]
    top, left = max(0, (height - _SIDE) // 2), max(0, (width - _SIDE) // 2)
    rows, columns = slice(top, top + _SIDE), slice(left, left + _SIDE)
    alpha = None if picture.alpha is None else picture.alpha[:, rows, columns]
    return replace(picture, pixels=picture.pixels[:, rows, columns], alpha=alpha)
