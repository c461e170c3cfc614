"""Show how far fewer steps, other solvers and guidance on an interval are from the picture of 50 ancestral steps.

    python benchmarks/solvers.py PHOTO... [--model miniature] [--weights DIR] [--guidance 5.5] [--size 64]

Each photograph's middle is restored from the same start, with the same noise where a solver draws any, and decoded.
Printed are the distance to the picture of 50 DDPM steps (PSNR in decibels, mean over photographs), the processor
seconds of the steps, and two scales to judge the distance by: the same 50 steps with another seed for their noise, and
100 steps.
"""

import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor

from seesr_cli.denoise import Predictor, controlled, denoise, guided, tiled, watched, within
from seesr_cli.image import read
from seesr_cli.models.graft import Guide
from seesr_cli.models.load import load_schedule_config
from seesr_cli.noise import seeded
from seesr_cli.pipeline import Upscaler
from seesr_cli.prepare import prepare
from seesr_cli.prompt import compose
from seesr_cli.schedule import schedule
from seesr_cli.settings import MODELS, ModelName, Settings, Solver
from seesr_cli.sizes import sizes
from seesr_cli.tiles import cover
from seesr_cli.weights import locate

INTERVAL = frozenset(range(73, 813))
"""The timesteps at which noise/signal is within 0.28 and 5.42 in Stable Diffusion's schedule, where guidance helps most
(arXiv 2404.07724). The miniature's own schedule has hardly any noise, so that the timesteps stand for the levels."""


class Way(NamedTuple):
    """One way to get from the start to the picture."""

    solver: Solver
    steps: int
    interval: bool = False
    seed: int = 0
    spacing: str = "leading"

    @property
    def name(self) -> str:
        """What is printed."""
        marks = (", guided within" if self.interval else "") + (", other noise" if self.seed else "")
        return f"{self.solver} {self.steps} {self.spacing}{marks}"


WAYS = (
    Way("ddpm", 50),
    Way("ddpm", 50, seed=1),
    Way("ddpm", 100),
    Way("ddpm", 50, interval=True),
    *(
        Way(solver, steps, spacing=spacing)
        for steps in (25, 12, 6)
        for spacing in ("leading", "trailing")
        for solver in ("ddpm", "dpm++", "unipc")
    ),
    Way("dpm++", 25, interval=True),
)


class Case(NamedTuple):
    """A photograph, as far as its start."""

    latent: Tensor
    predict: Predictor
    predict_within: Predictor


def main(
    photos: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    model: Annotated[ModelName, typer.Option(help="Which model.")] = "miniature",
    weights: Annotated[Path | None, typer.Option(help="Folder with the model's weights.")] = None,
    guidance: Annotated[float, typer.Option(min=1.01, help="Weight of the prompt.")] = 5.5,
    size: Annotated[int, typer.Option(min=16, help="Side of the middle that is restored, pixels.")] = 64,
) -> None:
    """Print the table."""
    upscaler = Upscaler.load(MODELS[model], weights)
    config = load_schedule_config(MODELS[model], locate(MODELS[model], weights))
    settings = Settings(guidance=guidance, process_size=64)
    found: dict[Way, list[tuple[Tensor, float]]] = {way: [] for way in WAYS}
    for photo in photos:
        case = begun(upscaler, middle(read(photo).pixels[:3], size), settings)
        for way, results in found.items():
            results.append(restored(upscaler, config, case, way))
    truth = [picture for picture, _ in found[WAYS[0]]]
    for way, results in found.items():
        error = torch.stack(
            [(picture - true).square().mean() for (picture, _), true in zip(results, truth, strict=True)]
        )
        distance = float(-10 * error.clamp(min=1e-10).log10().mean())
        seconds = sum(seconds for _, seconds in results) / len(results)
        print(f"{way.name:36} {distance:6.2f} dB {seconds:8.2f} cpu-s")


def middle(picture: Tensor, size: int) -> Tensor:
    """Return the picture's middle square."""
    top, left = ((side - size) // 2 for side in picture.shape[-2:])
    return picture[:, max(0, top) : max(0, top) + size, max(0, left) : max(0, left) + size]


@torch.inference_mode()
def begun(upscaler: Upscaler, picture: Tensor, settings: Settings) -> Case:
    """Return a picture's start and predictors."""
    frame = prepare(picture, sizes((picture.shape[-2], picture.shape[-1]), settings, upscaler.coder.factor))
    reading = upscaler.reader.read(picture)
    prompt = compose(tuple(tag.name for tag in reading.tags), settings.prompt, settings.negative)
    guide = upscaler.guide(prompt, reading, settings)
    view = watched(upscaler.controlnet, frame.pixels, upscaler.coder.factor)
    both = guided(controlled(upscaler.unet, upscaler.controlnet, guide, view, settings.control), settings.guidance)
    positive = Guide(guide.text[1:], guide.image[1:])
    alone = controlled(upscaler.unet, upscaler.controlnet, positive, view, settings.control)
    latent = upscaler.start(frame, settings, seeded(0))
    tiles = cover((latent.shape[-2], latent.shape[-1]), 96, 4, latent.device)
    return Case(latent, tiled(both, tiles), tiled(within(INTERVAL, both, alone), tiles))


@torch.inference_mode()
def restored(upscaler: Upscaler, config: dict[str, Any], case: Case, way: Way) -> tuple[Tensor, float]:
    """Return the picture, [3, H, W] in [0, 1], and the processor seconds of its steps."""
    table = schedule(config | {"timestep_spacing": way.spacing}, way.steps, way.solver)
    began = time.process_time()
    *_, latent = denoise(
        case.latent, case.predict_within if way.interval else case.predict, table, seeded(way.seed + 7)
    )
    seconds = time.process_time() - began
    return upscaler.coder.decode(latent).clamp(0, 1)[0].cpu(), seconds


if __name__ == "__main__":
    typer.run(main)
