"""Show how far fewer steps, other solvers and guidance on an interval are from the picture of 50 ancestral steps.

    python benchmarks/solvers.py PHOTO... [--model miniature] [--weights DIR] [--guidance 5.5] [--size 64]
        [--pictures FOLDER]

Each photograph's middle is restored from the same start, with the same noise where a solver draws any, and decoded.
Printed are the distance to the picture of 50 DDPM steps (PSNR in decibels, mean over photographs), the processor
seconds of the steps, and two scales to judge the distance by: the same 50 steps with another seed for their noise, and
100 steps. Then what each preset costs of the published model, counted: the operations of a whole picture, in those of
`--preset published`. The presets' pictures are written to FOLDER.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from PIL import Image
from torch import Tensor

from seesr_cli.catalogue import MODELS, PRESETS, SEESR, preset
from seesr_cli.forecast.estimate import forecast
from seesr_cli.image import read
from seesr_cli.machine.available import Room
from seesr_cli.machine.device import choose
from seesr_cli.models import configs
from seesr_cli.models.graft import Conditioning
from seesr_cli.models.load import load_schedule_config
from seesr_cli.restore.denoise import Predictor, controlled, denoise, guided, tiled, watched, within
from seesr_cli.restore.prepare import prepare
from seesr_cli.restore.prompt import compose
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.sampling.noise import seeded
from seesr_cli.sampling.schedule import schedule
from seesr_cli.sampling.tiles import cover
from seesr_cli.settings import ModelName, Preset, Settings, Solver
from seesr_cli.sizes import sizes
from seesr_cli.weights import locate

NO_ROOM = Room(None, None, None)
"""Nothing is known of the memory, so that tiles are chosen by their work alone."""

SIDES = (512, 1024, 1536, 2048, 4096)
"""Of the results whose work is counted, pixels."""


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


def way_of(name: Preset) -> Way:
    """Return the way that a preset goes; its tiles are another matter."""
    chosen = preset(name, SEESR)
    return Way(chosen["solver"], chosen["steps"], chosen["guidance_within"] is not None)


PRESET_WAYS = {way_of(name): name for name in PRESETS}

WAYS = dict.fromkeys(
    (
        Way("ddpm", 50),
        Way("ddpm", 50, seed=1),
        Way("ddpm", 100),
        Way("ddpm", 50, interval=True),
        *(
            Way(solver, steps, spacing=spacing)
            for steps in (25, 12, 6)
            for spacing in ("leading", "trailing")
            for solver in ("ddpm", "dpm++")
        ),
        Way("dpm++", 25, interval=True),
        *PRESET_WAYS,
    )
)
"""Each once, in the order in which they are printed; the first is the one that others are held against."""


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
    pictures: Annotated[Path | None, typer.Option(help="Write the presets' pictures into this folder.")] = None,
) -> None:
    """Print the tables."""
    upscaler = Upscaler.load(MODELS[model], weights)
    config = load_schedule_config(MODELS[model], locate(MODELS[model], weights))
    settings = Settings(guidance=guidance, process_size=64)
    found: dict[Way, list[tuple[Tensor, float]]] = {way: [] for way in WAYS}
    for photo in photos:
        case = begun(upscaler, middle(read(photo).pixels[:3], size), settings)
        for way, results in found.items():
            results.append(restored(upscaler, config, case, way))
    truth = [picture for picture, _ in next(iter(found.values()))]
    for way, results in found.items():
        error = torch.stack(
            [(picture - true).square().mean() for (picture, _), true in zip(results, truth, strict=True)]
        )
        distance = float(-10 * error.clamp(min=1e-10).log10().mean())
        seconds = sum(seconds for _, seconds in results) / len(results)
        print(f"{way.name:32} {distance:6.2f} dB {seconds:8.2f} cpu-s  {PRESET_WAYS.get(way, '')}")
    for side in SIDES:
        counts = {name: operations(name, side) for name in PRESETS}
        shares = ", ".join(f"{name} {count / counts['published']:.2f}" for name, count in counts.items())
        print(f"{side}²: {counts['published'] / 1e12:.0f} TF of the published model; of it {shares}")
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for way, name in PRESET_WAYS.items():
            for photo, (picture, _) in zip(photos, found[way], strict=True):
                pixels = (255 * picture).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(pictures / f"{photo.stem}_{name}.png")


def operations(name: Preset, side: int) -> float:
    """Return the floating-point operations of a whole picture of the published model, of `side` pixels a side."""
    settings = replace(SEESR.defaults, **preset(name, SEESR))
    stations = sizes((side // 4, side // 4), settings, configs.networks(SEESR).multiple)
    return forecast(stations, settings, SEESR, choose("cpu", "fp32"), NO_ROOM).operations


def guided_at() -> frozenset[int]:
    """Return the timesteps that Stable Diffusion's schedule has within the interval of `--preset fast`.

    The miniature's own schedule has hardly any noise, so that these timesteps stand for the levels.
    """
    every = {**configs.networks(SEESR).schedule, "steps_offset": 0}
    return schedule(every, every["num_train_timesteps"]).within(*PRESETS["fast"]["guidance_within"])


def middle(picture: Tensor, size: int) -> Tensor:
    """Return the picture's middle square."""
    top, left = ((side - size) // 2 for side in picture.shape[-2:])
    return picture[:, max(0, top) : max(0, top) + size, max(0, left) : max(0, left) + size]


@torch.inference_mode()
def begun(upscaler: Upscaler, picture: Tensor, settings: Settings) -> Case:
    """Return a picture's start and predictors."""
    frame = prepare(picture, sizes((picture.shape[-2], picture.shape[-1]), settings, upscaler.vae.factor))
    reading = upscaler.reader.read(picture)
    prompt = compose(tuple(tag.name for tag in reading.tags), settings.prompt, settings.negative)
    conditioning = upscaler.conditioning(prompt, reading, settings)
    view = watched(upscaler.sampler.controlnet, frame.pixels, upscaler.vae.factor)
    both = guided(
        controlled(upscaler.sampler.unet, upscaler.sampler.controlnet, conditioning, view, settings.control),
        settings.guidance,
    )
    positive = Conditioning(conditioning.text[1:], conditioning.image[1:])
    alone = controlled(upscaler.sampler.unet, upscaler.sampler.controlnet, positive, view, settings.control)
    latent = upscaler.start(frame, settings, seeded(0))
    tiles = cover((latent.shape[-2], latent.shape[-1]), 96, 4, latent.device)
    return Case(latent, tiled(both, tiles), tiled(within(guided_at(), both, alone), tiles))


@torch.inference_mode()
def restored(upscaler: Upscaler, config: dict[str, Any], case: Case, way: Way) -> tuple[Tensor, float]:
    """Return the picture, [3, H, W] in [0, 1], and the processor seconds of its steps."""
    table = schedule(config | {"timestep_spacing": way.spacing}, way.steps, way.solver)
    began = time.process_time()
    *_, latent = denoise(
        case.latent, case.predict_within if way.interval else case.predict, table, seeded(way.seed + 7)
    )
    seconds = time.process_time() - began
    return upscaler.vae.decode(latent).clamp(0, 1)[0].cpu(), seconds


if __name__ == "__main__":
    typer.run(main)
