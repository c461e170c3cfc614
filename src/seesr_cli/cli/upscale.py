"""`seesr upscale`: restore the pictures that are named."""

import os
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from ..catalogue import DEFAULT_MODEL, MODELS
from ..errors import UsageError, WeightsMissing
from ..machine.imports import uncollected
from ..machine.share import Worker, divide
from ..settings import MAX_PIXELS
from . import options, typed
from . import preview as previewing
from .weights import ensure

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..records.provenance import Recipe
    from ..report.screen import Report
    from ..run.foresee import JobForecast
    from ..run.intent import Intent
    from ..run.outcome import Outcome
    from ..run.outputs import Job
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
    passed_over = typed.sizes_passed_over(context)
    if compare is not None:
        _check_page(compare, overwrite)
    names = typed.device_names(device, devices)
    of_results = {"--compare": compare, "--check": check, "--keep-latents": keep_latents or None}
    previewing.check_options(preview, at, side, [name for name, value in of_results.items() if value is not None])
    from ..machine.available import cores
    from ..report.screen import Report, announce
    from ..run.inputs import find, left_alone
    from ..run.intent import MAKES_NOTHING
    from ..run.naming import VARIANT_PATTERN, sheet_name
    from ..run.outputs import is_there, plan_results
    from ..run.request import Request
    from ..run.variants import read_once, write_sheets

    # 2. Put what is asked together: the model's defaults or --like, the preset over them, and options over both.
    recipe = _recipe(like) if like else None
    chosen = MODELS[model or (recipe.model if recipe else DEFAULT_MODEL)]
    given = {
        "scale": scale,
        "width": width,
        "height": height,
        "long_edge": long_edge,
        "megapixels": megapixels,
        "steps": steps,
        "solver": solver,
        "guidance": guidance,
        "guidance_within": typed.interval(guidance_within),
        "control": control,
        "prompt": prompt,
        "negative": negative,
        "add_tags": tuple(add_tag) if add_tag else None,
        "drop_tags": tuple(drop_tag) if drop_tag else None,
        "tag_threshold": tag_threshold,
        "start": start,
        "colour": colour,
        "colour_strength": colour_strength,
        "process_size": process_size,
        "tile": typed.tile_side(tile),
        "overlap": overlap,
        "seed": seed[0] if seed else None,
    } | dict.fromkeys(passed_over)
    settings = typed.merged_settings(chosen, recipe.settings if recipe else chosen.defaults, preset_name, given)
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
        metadata=metadata or (recipe.metadata if recipe else "keep"),
        keep_time=keep_time,
        max_pixels=max_pixels,
        batch_size=typed.batch_size(batch_size),
        alone=alone,
        graphs=graphs,
    )

    # 3. Find the pictures, and plan their results.
    if recipe and (output is None or not Path(output).suffix):
        kind = kind or recipe.kind
    sources = find(inputs or [], from_list or [], output=output, name=name)
    seeds = typed.seeds(seed, variants, settings.seed)
    several = len(seeds) > 1 and not preview
    pictures = read_once(sources.pictures) if several and not dry_run else sources.pictures
    runs = [
        Run(
            replace(request, settings=replace(settings, seed=each)),
            plan_results(pictures, output, name, typed.size_label(settings), kind, each, several),
        )
        for each in (seeds if several else seeds[:1])
    ]
    jobs = [job for run in runs for job in run.jobs]
    typed.check_quality(quality, jobs)
    if preview:
        look = previewing.look(at, side, seeds)
        job, worker = previewing.only(jobs), divide(names[:1], 1, 1, cores())[0]
        if not dry_run:
            ensure(chosen, weights, yes, quiet)
        if not quiet:
            announce(1)
        foreseen = _foresee([job], request, worker, weights)
        with Report(0 if dry_run else 1, events=as_json, quiet=quiet, debug=debug) as report:
            previewing.preview(report, job, request, look, worker, weights, foreseen, dry_run)
        if report.failed:
            raise typer.Exit(1)
        return
    wanted = [intent for run in runs for intent in _intents(run, weights)] if dry_run else []
    pending = [each.job for each in wanted if each.words not in MAKES_NOTHING]
    if not dry_run:
        pending = [job for job in jobs if overwrite or not is_there(job)]
    if pending and not dry_run:
        ensure(chosen, weights, yes, quiet)
    workers = divide(names, at_once, len(pictures), cores())

    # 4. Forecast, restore and report.
    if pending and not quiet:
        announce(len(pending))
    foreseen = _foresee(pending, request, workers[0], weights)
    told = 0 if dry_run else len(jobs)
    with Report(told, events=as_json, quiet=quiet, debug=debug, share=workers[0].share) as report:
        for note in sources.notes:
            report.note(note)
        forecasts = _tell_forecasts(report, foreseen, wanted)
        outcomes = [] if dry_run else _restore(report, runs, workers, weights, forecasts)
        if several and not dry_run:
            pattern = sheet_name(name or VARIANT_PATTERN)
            sheets = plan_results(pictures, output, pattern, typed.size_label(settings), "png")
            for sentence in write_sheets(sheets, [run.jobs for run in runs], seeds):
                report.note(sentence)
        if sources.strangers:
            report.note(left_alone(sources.strangers))
        if compare is not None and not dry_run:
            _write_page(compare, jobs, outcomes, overwrite)
            report.note(f"{compare} shows the pictures before and after.")
        if chosen.bundled and report.done:
            report.note(f"Made with the {chosen.name}: {chosen.about}.")
        below = [] if check is None else _inconsistent(outcomes, check)
        for path, psnr in below:
            report.note(f"{path} departs from its input: its consistency is {psnr:.2f} dB, below --check {check:g}.")
    if report.failed or below:
        raise typer.Exit(1)


def _foresee(
    pending: "Sequence[Job]", request: "Request", worker: Worker, weights: Path | None
) -> "list[JobForecast | Outcome]":
    """Return the forecasts of the jobs; without jobs the answer comes without torch."""
    if not pending:
        return []
    with uncollected():
        from ..machine.device import choose, keep_to
        from ..run.foresee import foresee
        from ..weights import locate

    try:
        folder: Path | None = locate(request.model, weights)
    except WeightsMissing:
        folder = None
    keep_to(worker.threads)
    place = choose(worker.device, request.dtype, request.model.name)
    return list(foresee(pending, request, place, folder, worker.share))


class Run(NamedTuple):
    """What is asked for every picture, and where the results go. Each variant of the pictures has its own."""

    request: "Request"
    jobs: "Sequence[Job]"


def _intents(run: Run, weights: Path | None) -> "list[Intent]":
    """Return what a run would do about each picture."""
    request = run.request
    from ..run.intent import intents
    from ..weights import locate
    from ..weights.fingerprint import fingerprint

    return list(intents(run.jobs, request, lambda: fingerprint(request.model, locate(request.model, weights))))


def _tell_forecasts(
    report: "Report", foreseen: "Sequence[JobForecast | Outcome]", wanted: "Sequence[Intent]"
) -> "dict[Path, Forecast]":
    """Report the forecasts, and return them by source. Raises ResourcesError if memory or disk is too small.

    wanted: in a dry run, what would be done about each picture.
    """
    from ..run.foresee import JobForecast
    from ..run.intent import MAKES_NOTHING

    plans = [plan for plan in foreseen if isinstance(plan, JobForecast)]
    words = {each.job: each.words for each in wanted}
    for plan in plans:
        report.planned(plan, words.get(plan.job))
    if wanted:
        for outcome in foreseen:
            if not isinstance(outcome, JobForecast):
                report.upscaled(outcome)
        report.plans(plans, wanted)
        report.total(plans, sum(each.words in MAKES_NOTHING for each in wanted))
    if plans:
        from ..forecast.check import check

        check([(plan.job.source.path, plan.forecast) for plan in plans], plans[0].forecast.case.room)
    return {plan.job.source.path: plan.forecast for plan in plans}


def _restore(
    report: "Report",
    runs: Sequence[Run],
    workers: Sequence[Worker],
    weights: Path | None,
    forecasts: "dict[Path, Forecast]",
) -> "list[Outcome]":
    """Restore the pictures, report each, and return the Outcomes without contents and exceptions."""
    outcomes = []
    with closing(outcomes_of(report, runs, workers, weights, forecasts)) as coming:
        for outcome in coming:
            report.upscaled(outcome)
            outcomes.append(replace(outcome, content=b"", error=None))
    return outcomes


def outcomes_of(
    report: "Report",
    runs: Sequence[Run],
    workers: Sequence[Worker],
    weights: Path | None,
    forecasts: "dict[Path, Forecast]",
) -> "Generator[Outcome]":
    """Yield the Outcomes of the pictures, restored in this process, or by several workers in other processes."""
    from ..run import batch
    from ..run import workers as processes
    from ..run.afar import loader
    from ..weights import locate
    from ..weights.fingerprint import fingerprint

    request = runs[0].request

    def known() -> str:
        return fingerprint(request.model, locate(request.model, weights))

    load = cache(loader(workers[0], request, weights))
    for run in runs:
        if len(workers) > 1:
            yield from processes.run(run.jobs, run.request, workers, weights, known, report, forecasts)
        else:
            yield from batch.run(run.jobs, run.request, load, known, report, forecasts)


def _check_page(page: Path, overwrite: bool) -> None:
    """Raise UsageError if no page may be written at `page`; at the end of a night it would be too late."""
    from ..report.page import is_ours

    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--compare {page} is no name of a page: end it with .html.")
    if os.path.lexists(page) and not overwrite and not is_ours(page):
        raise UsageError(f"{page} is already there and no page of seesr: give --compare another name, or --overwrite.")


def _write_page(page: Path, jobs: "Sequence[Job]", outcomes: "Sequence[Outcome]", overwrite: bool) -> None:
    """Write the page that compares the pictures before and after, in the order of the jobs."""
    from ..report.page import PageEntry, is_ours, write

    places = {job.source.path: place for place, job in enumerate(jobs)}
    entries = [
        PageEntry(
            source=outcome.source,
            target=outcome.target,
            state=outcome.state if outcome.kept_seconds is None else "done",
            message=outcome.message,
            seconds=outcome.seconds if outcome.kept_seconds is None else outcome.kept_seconds,
            size_in=outcome.size_in,
            size_out=outcome.size_out,
            tags=tuple((tag.name, tag.score) for tag in outcome.tags),
            prompt=outcome.prompt,
            settings={"model": outcome.record["model"]["name"], **outcome.record["settings"]} if outcome.record else {},
            notes=outcome.notes,
        )
        for outcome in sorted(outcomes, key=lambda outcome: places[outcome.source])
    ]
    write(page, entries, page.stem, overwrite=overwrite or is_ours(page))


def _inconsistent(outcomes: "Sequence[Outcome]", least: float) -> list[tuple[Path, float]]:
    """Return the results whose consistency is below `least` dB, the least first; those of earlier runs are read."""
    from ..errors import PictureError
    from ..evaluate.consistency import consistency
    from ..evaluate.pixels import read

    found = []
    for outcome in outcomes:
        psnr = outcome.consistency
        if outcome.state == "skipped" and outcome.target is not None:
            with suppress(PictureError):  # a person's own file may be anything
                psnr = consistency(read(outcome.target)[0], read(outcome.source)[0]).psnr
        if psnr is not None and psnr < least:
            found.append((outcome.target or outcome.source, psnr))
    return sorted(found, key=lambda one: one[1])


def _recipe(result: Path) -> "Recipe":
    """Return how the picture `result` was made. Raises UsageError if its metadata do not tell."""
    from .. import image
    from ..records import provenance

    xmp = image.read(result).xmp
    record = provenance.extract(xmp) if xmp else None
    if record is None:
        raise UsageError(f"{result} does not say how it was made: --like takes a result of seesr, unchanged.")
    return provenance.settings_of(record, result)
