"""Compare a model with enlargement without a network on photographs, degraded by the project's own degradation.

    python benchmarks/quality.py FOLDER [--model miniature] [--weights DIR] [--seed 0] [--size 512] [--each]

The middle square of each photograph is degraded x4, mildly (a blur, slight noise, JPEG of about 85) and strongly
(second order, JPEG of 40 to 60). A row for bicubic, Lanczos, bicubic with an unsharp mask, and the model: what
`seesr evaluate` measures, the gain in PSNR over bicubic, the worst square's, and the largest drift of colour.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console
from torch import Tensor

from seesr_cli.catalogue import MODELS
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import ModelName
from seesr_cli.training import evaluation, photographs
from seesr_cli.training.pairs import enlarge
from seesr_cli.training.photographs import in_8_bits


def main(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Photographs, the larger the better.")],
    model: Annotated[ModelName, typer.Option(help="Which model.")] = "miniature",
    weights: Annotated[Path | None, typer.Option(help="Folder with the model's weights.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other degradations.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Side of the squares in pixels.")] = 512,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own if absent.")] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Only every fifth photograph, those the recipe keeps aside.")
    ] = False,
    each: Annotated[bool, typer.Option("--each", help="Also print one line per square.")] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for enlarged, restored and clean, side by side.")] = None,
) -> None:
    """Print the table for the photographs of FOLDER."""
    progress = Console(stderr=True)
    pictures = photographs.read(folder)
    if held_out:
        pictures = photographs.split(pictures).held_out
    description = MODELS[model]
    upscaler = Upscaler.load(description, weights)
    settings = description.defaults if steps is None else replace(description.defaults, steps=steps)
    outcomes = []
    started = time.monotonic()
    for trial in evaluation.trials(pictures, size, seed):
        restored = upscaler.upscale(trial.degraded, settings).pixels
        outcomes.append(outcome := evaluation.judge(trial, restored))
        bicubic, gain = outcome.methods["bicubic"].psnr, outcome.gain("restored")
        line = f"{trial.name:24} {trial.strength:7} bicubic {bicubic:.2f} dB, gain {gain:+.2f} dB"
        (print if each else progress.print)(line)
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            _side_by_side(
                (enlarge(trial.degraded, 4), restored, trial.clean), save / f"{trial.name}_{trial.strength}.png"
            )
    print(evaluation.table(evaluation.summarise(outcomes)))
    progress.print(f"{len(outcomes)} squares in {time.monotonic() - started:.0f} s")


def _side_by_side(pictures: tuple[Tensor, ...], path: Path) -> None:
    arrays = [in_8_bits(picture) for picture in pictures]
    sheet = Image.new("RGB", (sum(array.shape[1] for array in arrays), arrays[0].shape[0]))
    for index, array in enumerate(arrays):
        sheet.paste(Image.fromarray(array), (index * arrays[0].shape[1], 0))
    sheet.save(path)


if __name__ == "__main__":
    typer.run(main)
