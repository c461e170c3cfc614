"""`seesr upscale`: restore the pictures that are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..catalogue import DEFAULT_MODEL, MODELS, Model
from ..errors import UsageError
from ..machine.share import divide
from ..settings import MAX_PIXELS, Settings
from . import options, runs, typed
from . import preview as previewing
from .compare import check_page, write_page
from .weights import ensure

if TYPE_CHECKING:
    from ..records.provenance import Recipe
    from ..run.request import Request


def upscale(
    context: typer.Context,
    inputs: options.Inputs = None,
    from_list: options.FromList = None,
    output: options.Output = None,
    scale: options.Scale = None,
    width: options.Width = None,
    height: options.Height = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    kind: options.OutputFormat = None,
    quality: options.Quality = None,
    metadata: options.KeepMetadata = None,
    keep_time: options.KeepTime = False,
    name: options.NamePattern = None,
    overwrite: options.Overwrite = False,
    tags: options.Tags = "none",
    compare: options.Compare = None,
    check: options.Check = None,
    keep_latents: options.KeepLatents = False,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    preview: options.Preview = False,
    at: options.At = None,
    side: options.Side = None,
    dry_run: options.DryRun = False,
    tolerant: options.Tolerant = False,
    like: options.Like = None,
    tags_from: options.TagsFrom = None,
    add_tag: options.AddTag = None,
    drop_tag: options.DropTag = None,
    tag_threshold: options.TagThreshold = None,
    model: options.Model = None,
    weights: options.Weights = None,
    yes: options.Yes = False,
    device: options.Device = "auto",
    devices: options.Devices = None,
    at_once: options.Jobs = 1,
    cluster: options.Cluster = None,
    retries: options.Retries = 2,
    alone: options.Alone = False,
    dtype: options.Precision = "auto",
    preset_name: options.PresetName = None,
    steps: options.Steps = None,
    solver: options.SolverName = None,
    guidance: options.Guidance = None,
    guidance_within: options.GuidanceWithin = None,
    control: options.Control = None,
    prompt: options.Prompt = None,
    negative: options.Negative = None,
    start: options.StartAt = None,
    colour: options.ColourMethod = None,
    colour_strength: options.ColourStrength = None,
    seed: options.Seed = None,
    variants: options.Variants = None,
    process_size: options.ProcessSize = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    batch_size: options.BatchSize = None,
    graphs: options.UseGraphs = False,
    as_json: options.AsJsonEvents = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Restore pictures: photo.jpg becomes photo_x4.png beside it, four times as wide and high.

    Folders are searched with all folders in them. The same command again does only what is missing or has changed.
    """
    # 1. Refuse what needs no picture to be wrong. Imports come after that: Pillow takes a while, and torch seconds.
    typed.check_streams(output, as_json, dry_run)
    given = typed.settings_given(context)
    if compare is not None:
        check_page(compare, overwrite)
    names = typed.device_names(device, devices)
    previewing.check_options(
        preview,
        at,
        side,
        {"--compare": compare, "--check": check, "--keep-latents": keep_latents, "--cluster": cluster},
    )
    asked = typed.cluster(cluster, retries, at_once, device, devices, output) if cluster is not None else None
    from ..machine.available import cores
    from ..report.screen import Report, announce
    from ..run.inputs import find, left_alone
    from ..run.outputs import is_there
    from ..run.variants import read_once

    # 2. Put what is asked together: the model's defaults or --like, the preset over them, and options over both.
    recipe = _recipe(like) if like else None
    chosen = MODELS[model or (recipe.model if recipe else DEFAULT_MODEL)]
    settings = typed.merged_settings(chosen, recipe.settings if recipe else chosen.defaults, preset_name, given)
    request = _request(context.params, chosen, settings, recipe)

    # 3. Find the pictures, and plan their results: a run for each variant.
    sources = find(inputs or [], from_list or [], output=output, name=name)
    seeds = typed.seeds(seed, variants, settings.seed)
    several = len(seeds) > 1 and not preview
    pictures = read_once(sources.pictures) if several and not dry_run else sources.pictures
    if recipe and (output is None or not Path(output).suffix):
        kind = kind or recipe.kind
    planned = runs.plan(request, pictures, output, name, kind, seeds if several else seeds[:1])
    jobs = [job for run in planned for job in run.jobs]
    typed.check_quality(quality, jobs)
    look = previewing.look(at, side, seeds) if preview else None
    wanted = runs.intents(planned, weights) if dry_run and not preview else []
    if preview:
        pending = [previewing.only(jobs)]
    else:
        pending = runs.to_make(wanted) if dry_run else [job for job in jobs if overwrite or not is_there(job)]
    if pending and not dry_run:
        ensure(chosen, weights, yes, quiet)
    own = at_once if asked is None else 1 if asked.address else asked.actors
    workers = divide(names, 1 if preview else own, len(pictures), cores())

    # 4. Forecast, restore and report.
    if pending and not quiet:
        announce(len(pending))
    foreseen = runs.foresee(pending, request, workers[0], weights)
    told = 0 if dry_run else len(jobs)
    with Report(told, events=as_json, quiet=quiet, debug=debug, share=workers[0].share) as report:
        if look is not None:
            previewing.preview(report, jobs[0], request, look, workers[0], weights, foreseen, dry_run)
            raise typer.Exit(1 if report.failed else 0)
        for note in sources.notes:
            report.note(note)
        fits_here = asked is None or not asked.address  # what other machines have is not known
        forecasts = runs.tell_forecasts(report, foreseen, wanted, fits_here)
        outcomes = [] if dry_run else runs.restore(report, planned, asked or workers, weights, forecasts)
        if several and not dry_run:
            runs.write_sheets(report, planned, pictures, output, name, seeds)
        if sources.strangers:
            report.note(left_alone(sources.strangers))
        if compare is not None and not dry_run:
            write_page(compare, jobs, outcomes, overwrite)
            report.note(f"{compare} shows the pictures before and after.")
        if chosen.bundled and report.done:
            report.note(f"Made with the {chosen.name}: {chosen.about}.")
        consistent = check is None or runs.are_consistent(report, outcomes, check)
    if report.failed or not consistent:
        raise typer.Exit(1)


def _request(asked: Mapping[str, Any], model: Model, settings: Settings, recipe: "Recipe | None") -> "Request":
    """Return the options for every picture of a run.

    asked: the values of all options by the names of their parameters. recipe: that of --like.
    """
    from ..run.request import Request

    direct = ("overwrite", "tags_from", "keep_latents", "tolerant", "keep_time", "max_pixels", "alone", "graphs")
    return Request(
        model,
        settings,
        dtype=asked["dtype"] if recipe is None or asked["dtype"] != "auto" else recipe.dtype,
        quality=asked["quality"] if recipe is None or asked["quality"] is not None else recipe.quality,
        metadata=asked["metadata"] or (recipe.metadata if recipe else "keep"),
        sidecar=asked["tags"],
        like=recipe,
        batch_size=typed.batch_size(asked["batch_size"]),
        **{name: asked[name] for name in direct},
    )


def _recipe(result: Path) -> "Recipe":
    """Return how the picture `result` was made. Raises UsageError if its metadata do not tell."""
    from .. import image
    from ..records import provenance

    xmp = image.read(result).xmp
    record = provenance.extract(xmp) if xmp else None
    if record is None:
        raise UsageError(f"{result} does not say how it was made: --like takes a result of seesr, unchanged.")
    return provenance.settings_of(record, result)
