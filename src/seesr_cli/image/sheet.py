"""Put pictures on a sheet under labels, and write it as a PNG that is recognised later."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..errors import OutputUnwritable

_MADE_BY = "Software"
_OURS = "seesr sheet"
"""What `_MADE_BY`, one of PNG's own keywords (ISO 15948, 11.3.3.2), says in a sheet."""

_LETTERS, _BAR, _GAP = 16, 26, 6
_GROUND, _INK = (32, 32, 32), (235, 235, 235)


class Cell(NamedTuple):
    """A picture on a sheet, RGB or RGBA in sRGB, with its label."""

    picture: Image.Image
    label: str


def sheet(rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Return the cells in rows, the longest row first; the ground shows through transparent pixels."""
    font = ImageFont.load_default(_LETTERS)
    widths = [
        max(max(cell.picture.width, int(font.getlength(cell.label)) + 1) for cell in column if cell)
        for column in zip_longest(*rows)
    ]
    heights = [_BAR + max(cell.picture.height for cell in row) for row in rows]
    made = Image.new("RGB", (sum(widths) + _GAP * (len(widths) - 1), sum(heights) + _GAP * (len(rows) - 1)), _GROUND)
    drawn = ImageDraw.Draw(made)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for cell, width in zip(row, widths, strict=False):
            drawn.text((left, top + _BAR // 2), cell.label, _INK, font, anchor="lm")
            shown = cell.picture
            made.paste(shown, (left, top + _BAR), shown if shown.mode == "RGBA" else None)
            left += width + _GAP
        top += height + _GAP
    return made


def write(file: BinaryIO, made: Image.Image) -> None:
    """Write a sheet as a PNG that `is_ours` knows."""
    about = PngImagePlugin.PngInfo()
    about.add_text(_MADE_BY, _OURS)
    made.save(file, "PNG", pnginfo=about)


def is_ours(path: Path) -> bool:
    """Return whether the file at `path` is such a sheet, which another run may replace."""
    try:
        with Image.open(path, formats=("PNG",)) as opened:
            return opened.info.get(_MADE_BY) == _OURS
    except (OSError, ValueError, SyntaxError):
        return False


def check_free(path: Path) -> None:
    """Raise OutputUnwritable if another file than such a sheet is at `path`."""
    if (path.exists() or path.is_symlink()) and not is_ours(path):
        raise OutputUnwritable(
            f"{path} is already there and no sheet of seesr: move it, or choose another place with -o."
        )
