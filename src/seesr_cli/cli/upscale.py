"""`seesr upscale`: pictures in, restored pictures out."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..settings import DEFAULT_MODEL, MODELS, Colour, Start
from . import options
from .weights import ensure

if TYPE_CHECKING:
    from ..pipeline import Upscaler

OUTPUT, SAMPLING, TILING = "Result", "Sampling", "Sizes"


def _setting(field: str, *names: str, help: str, panel: str, metavar: str | None = None) -> Any:
    """Return the option of a setting; its help ends with the published default, and that of models that differ."""
    published = getattr(MODELS[DEFAULT_MODEL].defaults, field)
    others = [
        f"{name} {_plain(value)}"
        for name, model in MODELS.items()
        if (value := getattr(model.defaults, field)) != published
    ]
    default = options.default("; ".join([_plain(published), *others]))
    return typer.Option(*names, help=f"{help} {default}", rich_help_panel=panel, metavar=metavar, show_default=False)


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def upscale(
    inputs: options.Inputs,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file (.png, .jpg, .webp or .tif) for one picture, or a folder, made if need be. "
            + options.default("photo_x4.png beside photo.jpg"),
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    scale: Annotated[
        float | None, _setting("scale", "--scale", "-s", help="How many times as large, 1 to 16.", panel=OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Make results again that are already there. Inputs are never overwritten.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    tags: Annotated[
        bool,
        typer.Option(
            "--tags/--no-tags",
            help="Write photo_x4.json too: tags and their scores, prompt, model and settings. "
            + options.default("no-tags"),
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    model: options.Model = "seesr",
    weights: options.Weights = None,
    yes: options.Yes = False,
    device: options.Device = "auto",
    dtype: options.Precision = "auto",
    steps: Annotated[int | None, _setting("steps", "--steps", help="Denoising steps.", panel=SAMPLING)] = None,
    guidance: Annotated[
        float | None,
        _setting(
            "guidance",
            "--guidance",
            help="Weight of the prompt over the negative one; 1 and below leave that one out.",
            panel=SAMPLING,
        ),
    ] = None,
    control: Annotated[
        float | None,
        _setting("control", "--control", help="How closely the result is held to the input.", panel=SAMPLING),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="TEXT", help="Words to add behind the tags.", rich_help_panel=SAMPLING),
    ] = None,
    negative: Annotated[
        str | None,
        _setting("negative", "--negative", help="Words to move away from.", panel=SAMPLING, metavar="TEXT"),
    ] = None,
    start: Annotated[
        Start | None,
        _setting("start", "--start", help="Begin at the noised input (lr) or at pure noise.", panel=SAMPLING),
    ] = None,
    colour: Annotated[
        Colour | None,
        _setting("colour", "--colour", help="How the result takes the colours of the input.", panel=SAMPLING),
    ] = None,
    seed: Annotated[
        int | None,
        _setting("seed", "--seed", help="The same seed gives the same picture.", panel=SAMPLING),
    ] = None,
    process_size: Annotated[
        int | None,
        _setting(
            "process_size",
            "--process-size",
            help="Results with a side below this are made larger and reduced at the end, in pixels.",
            panel=TILING,
        ),
    ] = None,
    tile: Annotated[
        int | None,
        _setting("tile", "--tile", help="Side of a tile, in latent pixels; less needs less memory.", panel=TILING),
    ] = None,
    overlap: Annotated[
        int | None, _setting("overlap", "--overlap", help="Overlap of tiles, in latent pixels.", panel=TILING)
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Restore pictures: photo.jpg becomes photo_x4.png beside it, four times as wide and high.

    Results that are already there are left alone, so the same command again goes on where it was stopped.
    """
    chosen = MODELS[model]
    given: dict[str, Any] = {
        "scale": scale,
        "steps": steps,
        "guidance": guidance,
        "control": control,
        "prompt": prompt,
        "negative": negative,
        "start": start,
        "colour": colour,
        "process_size": process_size,
        "tile": tile,
        "overlap": overlap,
        "seed": seed,
    }
    settings = replace(chosen.defaults, **{name: value for name, value in given.items() if value is not None})

    # Only now: Pillow takes a while, and torch seconds.
    from .. import batch, jobs
    from ..report import Report

    sources = jobs.find(inputs)
    planned = jobs.plan(sources.pictures, output, settings.scale)
    if overwrite or not all(map(jobs.is_there, planned)):
        ensure(chosen, weights, yes, quiet)

    def load() -> "Upscaler":
        from ..pipeline import Upscaler

        return Upscaler.load(chosen, weights, device, dtype)

    with Report(len(planned), as_json=as_json, quiet=quiet, debug=debug) as report:
        for note in sources.notes:
            report.note(note)
        for outcome in batch.run(planned, chosen, settings, load, report, overwrite=overwrite, sidecar=tags):
            report.upscaled(outcome)
    if report.failed:
        raise typer.Exit(1)
