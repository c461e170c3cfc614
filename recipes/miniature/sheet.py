"""Make a sheet to look at: a row for each picture, with input, the miniature's result, its teacher's, and the original.

    python recipes/miniature/sheet.py PICTURE... --out SHEET.jpg [--weights DIR] [--strength strong] [--window 288]

The middle square of 512 pixels is degraded x4 by the project's own degradation; what is shown is a window of it, in
full size. Without the packages of `requirements.txt` the teacher's column is left out.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from imitation import RealESRGAN
from PIL import Image, ImageDraw, ImageFont

from seesr_cli.catalogue import MINIATURE
from seesr_cli.evaluate.pixels import Pixels
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.training import evaluation
from seesr_cli.training.degradation import Strength
from seesr_cli.training.pairs import enlarge
from seesr_cli.training.photographs import Photograph, in_8_bits

GAP, LINE = 8, 26
"""Pixels between pictures, and for the names of the columns."""


def main(
    pictures: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Photographs of 512 pixels or more.")
    ],
    out: Annotated[Path, typer.Option(help="The sheet.")],
    weights: Annotated[Path | None, typer.Option(help="Folder of a miniature; the bundled one if absent.")] = None,
    strength: Annotated[Strength, typer.Option(help="How much the pictures are degraded.")] = Strength.STRONG,
    window: Annotated[int, typer.Option(min=64, max=512, help="Side of what is shown, in pixels.")] = 288,
) -> None:
    """Make the sheet."""
    photographs = []
    for path in pictures:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        photographs.append(Photograph(path.stem, pixels))
    upscaler, teacher = Upscaler.load(MINIATURE, weights, device="cpu"), _teacher()
    rows = []
    for trial in evaluation.trials(photographs):
        if trial.strength != strength:
            continue
        columns = {
            f"input, {trial.degraded.shape[-1]} pixels, enlarged": in_8_bits(enlarge(trial.degraded, 4)),
            "miniature": in_8_bits(upscaler.upscale(trial.degraded, MINIATURE.defaults).pixels),
        }
        if teacher is not None:
            columns["Real-ESRGAN x4plus"] = teacher(in_8_bits(trial.degraded))
        rows.append(columns | {"original": in_8_bits(trial.clean)})
    _draw(rows, window).save(out, quality=90)


def _teacher() -> RealESRGAN | None:
    try:
        return RealESRGAN(1)
    except ImportError:
        return None


def _draw(rows: list[dict[str, Pixels]], window: int) -> Image.Image:
    across = (window + GAP) * len(rows[0]) - GAP
    sheet = Image.new("RGB", (across, LINE + (window + GAP) * len(rows) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, columns in enumerate(rows):
        for column, (name, pixels) in enumerate(columns.items()):
            left, top = column * (window + GAP), LINE + row * (window + GAP)
            high, wide = ((side - window) // 2 for side in pixels.shape[:2])
            sheet.paste(Image.fromarray(pixels[high : high + window, wide : wide + window]), (left, top))
            if row == 0:
                draw.text((left, 4), name, "black", font)
    return sheet


if __name__ == "__main__":
    typer.run(main)
