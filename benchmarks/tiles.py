"""Show what tiles cost, and what they do to the picture beside one pass.

    python benchmarks/tiles.py PHOTO... [--model miniature] [--weights DIR] [--size 128]

Each photograph's middle is restored in one pass and in tiles. Printed are work (of the published networks, relative to
tiles of 96 that overlap by 4), the difference to the one pass in grey levels (root of the mean square), and the seam:
how much larger than elsewhere the difference's step is between pixels that the border of a tile's share lies between.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from seesr_cli.catalogue import MODELS
from seesr_cli.image import read
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.sampling.tiles import cover, work
from seesr_cli.settings import ModelName

WAYS = ((96, 4), (96, 16), (64, 4), (64, 8), (64, 16))


def main(
    photos: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    model: Annotated[ModelName, typer.Option(help="Which model.")] = "miniature",
    weights: Annotated[Path | None, typer.Option(help="Folder with the model's weights.")] = None,
    size: Annotated[int, typer.Option(min=64, help="Side of the middle that is restored, pixels.")] = 128,
) -> None:
    """Print the table, and the work at usual sizes."""
    upscaler = Upscaler.load(MODELS[model], weights)
    settings = replace(MODELS[model].defaults, tile=512, overlap=0, colour="none")
    factor = upscaler.vae.factor
    found: dict[tuple[int, int], list[tuple[float, float]]] = {way: [] for way in WAYS}
    for photo in photos:
        pixels = read(photo).pixels[:3]
        top, left = ((side - size) // 2 for side in pixels.shape[-2:])
        picture = pixels[:, top : top + size, left : left + size]
        whole = upscaler.upscale(picture, settings).pixels
        for tile, overlap in WAYS:
            tiled = upscaler.upscale(picture, replace(settings, tile=tile, overlap=overlap)).pixels
            change = 255 * (tiled - whole)
            side = 4 * size // factor
            starts = {part.left for part in cover((side, side), tile, overlap)} - {0}
            found[tile, overlap].append((float(change.square().mean().sqrt()), seam(change, starts, overlap, factor)))
    for (tile, overlap), pairs in found.items():
        change, step = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        print(f"{tile}/{overlap}: {change:.3f} grey levels from one pass, steps at seams {step:.2f} x those elsewhere")
    for side in (64, 96, 128, 192, 256, 512, 1024):
        base = work((side, side), 96, 4)
        row = (f"{tile}/{overlap} {work((side, side), tile, overlap) / base:.2f}" for tile, overlap in WAYS)
        one = work((side, side), side, 0) / base
        print(f"{8 * side:5}²: {base / 1000:8.1f} TF a step at 96/4; of it {', '.join(row)}, one pass {one:.2f}")


def seam(change: Tensor, starts: set[int], overlap: int, factor: int) -> float:
    """Return how much larger the steps of `change` are in the middle of overlaps than elsewhere."""
    steps = change.diff(dim=-1).abs().mean(dim=(0, 1))
    there = torch.zeros_like(steps, dtype=torch.bool)
    for start in starts:
        there[start * factor - factor : (start + overlap) * factor + factor] = True
    return float(steps[there].mean() / steps[~there].mean())


if __name__ == "__main__":
    typer.run(main)
