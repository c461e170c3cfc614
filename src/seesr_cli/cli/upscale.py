"""`seesr upscale`: pictures in, restored pictures out."""

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import UsageError, WeightsMissing
from ..files import cache_folder
from ..machine.imports import uncollected
from ..machine.share import Worker, divide
from ..settings import (
    DEFAULT_MODEL,
    EXACT_SIZES,
    LEAST_TILE,
    MAX_PIXELS,
    MODELS,
    MOST_BATCH,
    MOST_TILE,
    PRESETS,
    Colour,
    Format,
    Model,
    Preset,
    Settings,
    Sidecar,
    Solver,
    Start,
    check_batch_size,
    preset,
)
from . import options
from .weights import ensure

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..records.provenance import Recipe
    from ..report.screen import Report
    from ..run.foresee import JobForecast
    from ..run.outcome import Outcome
    from ..run.outputs import Job
    from ..run.request import Request

LOSSLESS = ("png", "tiff")

OUTPUT, TAGS, SAMPLING, TILING = "Result", "Tags", "Sampling", "Sizes"


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


def _size(name: str, help: str) -> Any:
    """Return the option of an exact size."""
    return typer.Option(name, help=help, rich_help_panel=OUTPUT)


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _presets() -> str:
    """Return what the presets set, in words."""

    def words(settings: dict[str, Any]) -> str:
        within = settings.get("guidance_within")
        parts = [settings["solver"], f"{settings['steps']} steps", f"--tile {settings['tile']}"]
        return ", ".join(parts + ([f"--guidance-within {within[0]:g},{within[1]:g}"] if within else []))

    return "; ".join(
        f"{name} ({words(settings) if settings else 'the defaults'})" for name, settings in PRESETS.items()
    )


def upscale(
    inputs: options.Inputs = None,
    from_list: options.FromList = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file for one picture (its suffix is the format), a folder, made if need be, or - for stdout. "
            + options.default("photo_x4.png beside photo.jpg"),
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    scale: Annotated[
        float | None, _setting("scale", "--scale", "-s", help="How many times as large, 1 to 16.", panel=OUTPUT)
    ] = None,
    width: Annotated[int | None, _size("--width", "Width of the result in pixels, in the place of a scale.")] = None,
    height: Annotated[
        int | None, _size("--height", "Height of the result; with --width, what is over is cut off.")
    ] = None,
    long_edge: Annotated[int | None, _size("--long-edge", "Longer side of the result.")] = None,
    megapixels: Annotated[float | None, _size("--megapixels", "Pixels of the result, in millions.")] = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help=f"Of the results' files. {options.default('that of the suffix, or png')}",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            min=1,
            max=100,
            help=f"Of JPEG, WebP and AVIF, 1 to 100. {options.default('95; avif 85')}",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="PATTERN",
            help="Names of the results, with {stem}, {name}, {scale} and {suffix}. "
            + options.default("{stem}_x{scale}{suffix}"),
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
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
        Sidecar,
        typer.Option(
            "--tags",
            help="Write photo_x4.txt, for people to edit, or photo_x4.json, with all that is known, beside each "
            f"result; json where nothing is said. {options.default('none')}",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = "none",
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="PAGE",
            help="Write a page (.html) that shows every picture before and after.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    keep_latents: Annotated[
        bool,
        typer.Option(
            "--keep-latents",
            help="Leave each result's latent beside it: another --colour or --format costs no sampling then.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(
            "--max-pixels",
            min=1,
            help=f"A result with more pixels than this is refused. {options.default(f'{MAX_PIXELS:,}')}",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = MAX_PIXELS,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what every picture will become, and what it will take, and end there.",
            rich_help_panel=options.REPORT,
        ),
    ] = False,
    tolerant: options.Tolerant = False,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="RESULT",
            help="Take model, settings, tags and seed from the metadata of an earlier result; options win over them.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    tags_from: Annotated[
        Path | None,
        typer.Option(
            "--tags-from",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Take the tags from the sidecars in this folder, as you edited them.",
            rich_help_panel=TAGS,
        ),
    ] = None,
    add_tag: Annotated[
        list[str] | None,
        typer.Option("--add-tag", metavar="WORDS", help="Add a tag to every picture's.", rich_help_panel=TAGS),
    ] = None,
    drop_tag: Annotated[
        list[str] | None,
        typer.Option("--drop-tag", metavar="WORDS", help="Leave a tag out of every picture's.", rich_help_panel=TAGS),
    ] = None,
    tag_threshold: Annotated[
        float | None,
        typer.Option(
            "--tag-threshold",
            help=f"Score above which a tag counts, 0 to 1. {options.default('each tag has its own')}",
            show_default=False,
            rich_help_panel=TAGS,
        ),
    ] = None,
    model: options.Model = None,
    weights: options.Weights = None,
    yes: options.Yes = False,
    device: options.Device = "auto",
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="LIST",
            help="Several devices, each at work on pictures of its own: 0,1 are the first two GPUs.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    at_once: Annotated[
        int,
        typer.Option(
            "--jobs",
            min=1,
            help="Pictures at a time on each device; on a CPU they divide its cores. Each needs its own memory.",
            rich_help_panel=options.MODEL,
        ),
    ] = 1,
    dtype: options.Precision = "auto",
    preset_name: Annotated[
        Preset | None,
        typer.Option(
            "--preset",
            help=f"Settings that go together: {_presets()}. Options win over it, and it over --like. For the model "
            f"seesr; published for all. {options.default('published')}",
            show_default=False,
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    steps: Annotated[int | None, _setting("steps", "--steps", help="Denoising steps.", panel=SAMPLING)] = None,
    solver: Annotated[
        Solver | None,
        _setting(
            "solver", "--solver", help="How steps are made: as published, or without noise between.", panel=SAMPLING
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        _setting(
            "guidance",
            "--guidance",
            help="Weight of the prompt over the negative one; 1 and below leave that one out.",
            panel=SAMPLING,
        ),
    ] = None,
    guidance_within: Annotated[
        str | None,
        typer.Option(
            "--guidance-within",
            metavar="LEAST,MOST",
            help="Guide only where noise/signal is between these, as 0.28,5.42; elsewhere a step is half the work. "
            + options.default("everywhere"),
            show_default=False,
            rich_help_panel=SAMPLING,
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
        str | None,
        _setting(
            "tile",
            "--tile",
            help="Side of a tile, in latent pixels; less needs less memory. auto: of the model's own side and overlap, "
            "others that showed no seams with it and, up to 1024 x 1024 pixels, one tile for all, the least work.",
            panel=TILING,
            metavar="SIDE|auto",
        ),
    ] = None,
    overlap: Annotated[
        int | None, _setting("overlap", "--overlap", help="Overlap of tiles, in latent pixels.", panel=TILING)
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Most tiles, of one picture or of several with frames of one size, that the networks compute at once. "
            "auto: on CUDA what memory holds, up to 8, elsewhere 1; for --like as many as there were. "
            + options.default("auto"),
            show_default=False,
            rich_help_panel=TILING,
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the networks' blocks, with torch.compile: minutes for each size of tile at the first run, "
            "kept for later ones. On a CPU it gained nothing, and on GPUs it was not measured.",
            rich_help_panel=options.MODEL,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object per event, a line each.", rich_help_panel=options.REPORT),
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Restore pictures: photo.jpg becomes photo_x4.png beside it, four times as wide and high.

    Folders are searched with all folders in them. The same command again does only what is missing or has changed.
    """
    if as_json and output == "-":
        raise UsageError("--json and -o - both want stdout: write the picture to a file.")
    if output == "-" and not dry_run and sys.stdout.isatty():
        raise UsageError("-o - would write the picture on the terminal: send it on with | or >, or name a file.")
    if compare is not None:
        _check_page(compare, overwrite)
    names = _devices(device, devices)
    if compiled:  # torch looks at this once, while it is imported
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    # Only now: Pillow takes a while, and torch seconds.
    from ..machine.available import cores
    from ..report.screen import Report
    from ..run import inputs as finding
    from ..run import outputs
    from ..run.foresee import JobForecast
    from ..run.outcome import Outcome
    from ..run.request import Request

    recipe = _recipe(like) if like else None
    chosen = MODELS[model or (recipe.model if recipe else DEFAULT_MODEL)]
    settings = _merged(
        chosen,
        recipe.settings if recipe else chosen.defaults,
        preset(preset_name, chosen) if preset_name else {},
        {
            "scale": scale,
            "width": width,
            "height": height,
            "long_edge": long_edge,
            "megapixels": megapixels,
            "steps": steps,
            "solver": solver,
            "guidance": guidance,
            "guidance_within": _interval(guidance_within),
            "control": control,
            "prompt": prompt,
            "negative": negative,
            "add_tags": tuple(add_tag) if add_tag else None,
            "drop_tags": tuple(drop_tag) if drop_tag else None,
            "tag_threshold": tag_threshold,
            "start": start,
            "colour": colour,
            "process_size": process_size,
            "tile": _side(tile),
            "overlap": overlap,
            "seed": seed,
        },
    )
    request = Request(
        chosen,
        settings,
        dtype=dtype if recipe is None or dtype != "auto" else recipe.dtype,
        quality=quality if recipe is None or quality is not None else recipe.quality,
        overwrite=overwrite,
        sidecar=tags,
        tags_from=tags_from,
        like=recipe,
        keep_latents=keep_latents,
        tolerant=tolerant,
        max_pixels=max_pixels,
        batch_size=_batch_size(batch_size),
        compiled=compiled,
    )
    if recipe and (output is None or not Path(output).suffix):
        kind = kind or recipe.kind
    sources = finding.find(inputs or [], from_list or [], output=output, name=name)
    planned = outputs.plan_results(sources.pictures, output, name, _label(settings), kind)
    if quality is not None and (whole := next((job for job in planned if job.kind in LOSSLESS), None)):
        raise UsageError(
            f"--quality has no meaning for {whole.kind}, which loses nothing: leave it out, or use --format."
        )
    pending = [job for job in planned if overwrite or not outputs.is_there(job)]
    if pending and not dry_run:
        ensure(chosen, weights, yes, quiet)
    crew = divide(names, at_once, len(planned), cores())
    foreseen = _foreseen(pending, request, crew[0], weights)
    outcomes: list[Outcome] = []
    with Report(
        0 if dry_run else len(planned), events=as_json, quiet=quiet, debug=debug, share=crew[0].share
    ) as report:
        for note in sources.notes:
            report.note(note)
        plans = [plan for plan in foreseen if isinstance(plan, JobForecast)]
        for plan in plans:
            report.planned(plan)
        if dry_run:
            for outcome in foreseen:
                if isinstance(outcome, Outcome):
                    report.upscaled(outcome)
            report.plans(plans)
            report.total(plans, len(planned) - len(pending))
        if plans:
            from ..forecast.estimate import check

            check([(plan.job.source.path, plan.forecast) for plan in plans], plans[0].forecast.case.room)
        if not dry_run:
            forecasts = {plan.job.source.path: plan.forecast for plan in plans}
            with closing(_outcomes(planned, request, crew, weights, report, forecasts)) as coming:
                for outcome in coming:
                    report.upscaled(outcome)
                    outcomes.append(replace(outcome, content=b"", error=None))
        if sources.strangers:
            report.note(finding.left_alone(sources.strangers))
        if compare is not None and not dry_run:
            places = {job.source.path: place for place, job in enumerate(planned)}
            outcomes.sort(key=lambda outcome: places[outcome.source])  # several workers are done in any order
            _show(compare, outcomes, overwrite)
            report.note(f"{compare} shows the pictures before and after.")
    if report.failed:
        raise typer.Exit(1)


def _devices(one: str, several: str | None) -> list[str]:
    """Return the devices that were typed, GPUs by number alone being CUDA's. Raises UsageError."""
    if several is None:
        return [one]
    if one != "auto":
        raise UsageError("--device and --devices both say where to compute: give one of them.")
    names = [name.strip() for name in several.split(",")]
    if not all(names):
        raise UsageError(f"--devices {several} is no list: give devices with commas between, as 0,1.")
    return [f"cuda:{name}" if name.isdecimal() else name for name in names]


def _foreseen(
    pending: "list[Job]", request: "Request", worker: Worker, weights: Path | None
) -> "list[JobForecast | Outcome]":
    """Return what the pictures will take; nothing where there is nothing to do, which is answered without torch."""
    if not pending:
        return []
    with uncollected():
        from ..machine.device import choose, keep_to
        from ..run.foresee import foresee
        from ..weights import locate

    try:
        folder = locate(request.model, weights)
    except WeightsMissing:
        folder = None
    keep_to(worker.threads)
    place = choose(worker.device, request.dtype)
    return list(foresee(pending, request, place, folder, worker.share))


def _outcomes(
    planned: "Sequence[Job]",
    request: "Request",
    crew: tuple[Worker, ...],
    weights: Path | None,
    report: "Report",
    forecasts: "dict[Path, Forecast]",
) -> "Generator[Outcome]":
    """Yield what becomes of the pictures, restored here or, by more than one worker, in other processes."""
    from ..run import batch, workers
    from ..weights import locate
    from ..weights.fingerprint import fingerprint

    def known() -> str:
        return fingerprint(request.model, locate(request.model, weights))

    if len(crew) > 1:
        yield from workers.run(planned, request, crew, weights, known, report, forecasts)
    else:
        load = workers.loader(crew[0], request, weights)
        yield from batch.run(planned, request, load, known, report, forecasts)


def _check_page(page: Path, overwrite: bool) -> None:
    """Return if a page may be written at `page`, else raise UsageError: at the end of a night it would be late."""
    from ..report import page as compare

    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--compare {page} is no name of a page: end it with .html.")
    if os.path.lexists(page) and not overwrite and not compare.is_ours(page):
        raise UsageError(f"{page} is already there and no page of seesr: give --compare another name, or --overwrite.")


def _show(page: Path, outcomes: "list[Outcome]", overwrite: bool) -> None:
    """Write the page that shows what became of the pictures."""
    from ..report import page as compare

    entries = [
        compare.Entry(
            outcome.source,
            outcome.target,
            outcome.state,
            outcome.message,
            outcome.seconds,
            outcome.size_in,
            outcome.size_out,
            tuple((tag.name, tag.score) for tag in outcome.tags),
            outcome.prompt,
            {"model": outcome.record["model"]["name"], **outcome.record["settings"]} if outcome.record else {},
            outcome.notes,
        )
        for outcome in outcomes
    ]
    compare.write(page, entries, page.stem, overwrite=overwrite or compare.is_ours(page))


def _merged(model: Model, settings: Settings, preset: dict[str, Any], given: dict[str, Any]) -> Settings:
    """Return `settings` with the preset's, and over both what was typed; a typed size replaces another kind of size.

    Raises UsageError for what was typed and would mean nothing.
    """
    typed = {name: value for name, value in given.items() if value is not None}
    if any(name in typed for name in ("scale", *EXACT_SIZES)):
        settings = replace(settings, width=None, height=None, long_edge=None, megapixels=None)
    tile = (preset | typed).get("tile", settings.tile)
    if tile == "auto":
        if "overlap" in typed:
            raise UsageError(
                "--overlap has no meaning with --tile auto, which chooses it too: give a number to --tile."
            )
        preset = preset | {"overlap": model.defaults.overlap}  # not used: one run, one digest in the journal
    merged = replace(settings, **(preset | typed))
    if "guidance_within" in typed and merged.guidance <= 1:
        raise UsageError(
            f"--guidance-within has no meaning at --guidance {merged.guidance:g}, which is none: leave it out, or give "
            "more than 1."
        )
    return merged


def _side(text: str | None) -> int | Literal["auto"] | None:
    """Return the side of a tile that was typed. Raises UsageError."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--tile {text} is not known: give auto, or {LEAST_TILE} to {MOST_TILE}.") from None


def _batch_size(text: str | None) -> int | None:
    """Return the number of tiles in one call that was typed; None for "auto". Raises UsageError."""
    if text is None or text == "auto":
        return None
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"--batch-size {text} is not known: give auto, or 1 to {MOST_BATCH}.") from None
    check_batch_size(number)
    return number


def _interval(text: str | None) -> tuple[float, float] | None:
    """Return the interval that was typed. Raises UsageError."""
    if text is None:
        return None
    try:
        least, most = map(float, text.split(","))
    except ValueError:
        raise UsageError(
            f"--guidance-within {text} is no interval: give two numbers with a comma between, as 0.28,5.42."
        ) from None
    return least, most


def _label(settings: Settings) -> str:
    """Return what stands for the size in the names of results: 4, 2.5, w3000, w3000h2000, l4096, m12.5."""
    marks = {"width": "w", "height": "h", "long_edge": "l", "megapixels": "m"}
    exact = [
        f"{mark}{getattr(settings, name):g}" for name, mark in marks.items() if getattr(settings, name) is not None
    ]
    return "".join(exact) or f"{settings.scale:g}"


def _recipe(result: Path) -> "Recipe":
    """Return how the picture `result` was made. Raises UsageError where it does not say so."""
    from .. import image
    from ..records import provenance

    xmp = image.read(result).xmp
    record = provenance.extract(xmp) if xmp else None
    if record is None:
        raise UsageError(f"{result} does not say how it was made: --like takes a result of seesr, unchanged.")
    return provenance.settings_of(record, result)
