"""The runs of a command: forecast them, restore their pictures, and tell of the results."""

from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import WeightsMissing
from ..machine.imports import uncollected
from ..machine.share import Worker
from . import typed

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..report.screen import Report
    from ..run.cluster import Asked
    from ..run.foresee import JobForecast
    from ..run.inputs import InputFile
    from ..run.intent import Intent
    from ..run.outcome import Outcome
    from ..run.outputs import Job
    from ..run.request import Request
    from ..settings import Format


class PlannedRun(NamedTuple):
    """The options for every picture, and the jobs; each variant of the pictures has a run of its own."""

    request: "Request"
    jobs: "Sequence[Job]"


def plan(
    request: "Request",
    pictures: "Sequence[InputFile]",
    output: str | None,
    name: str | None,
    kind: "Format | None",
    seeds: Sequence[int],
) -> list[PlannedRun]:
    """Return a run for each of `seeds`; with several of them, names of results tell the seed. Raises UsageError."""
    from ..run.outputs import plan_results

    label = typed.size_label(request.settings)
    return [
        PlannedRun(
            replace(request, settings=replace(request.settings, seed=seed)),
            plan_results(pictures, output, name, label, kind, seed, len(seeds) > 1),
        )
        for seed in seeds
    ]


def foresee(
    pending: "Sequence[Job]", request: "Request", worker: Worker, weights: Path | None
) -> "list[JobForecast | Outcome]":
    """Return the forecasts of the jobs; without jobs the answer comes without torch."""
    if not pending:
        return []
    with uncollected():
        from ..machine.device import choose, keep_to
        from ..run import foresee as forecasts
        from ..weights import locate

    try:
        folder: Path | None = locate(request.model, weights)
    except WeightsMissing:
        folder = None
    keep_to(worker.threads)
    place = choose(worker.device, request.dtype, request.model.name)
    return list(forecasts.foresee(pending, request, place, folder, worker.share))


def intents(runs: Sequence[PlannedRun], weights: Path | None) -> "list[Intent]":
    """Return the plan of the runs for each picture."""
    from ..run import intent
    from ..weights import locate
    from ..weights.fingerprint import fingerprint

    model = runs[0].request.model
    known = cache(lambda: fingerprint(model, locate(model, weights)))
    return [each for run in runs for each in intent.intents(run.jobs, run.request, known)]


def to_make(wanted: "Sequence[Intent]") -> "list[Job]":
    """Return the jobs for which a run would make something."""
    from ..run.intent import MAKES_NOTHING

    return [each.job for each in wanted if each.words not in MAKES_NOTHING]


def tell_forecasts(
    report: "Report", foreseen: "Sequence[JobForecast | Outcome]", wanted: "Sequence[Intent]", fits_here: bool
) -> "dict[Path, Forecast]":
    """Report the forecasts, and return them by source. Raises ResourcesError if memory or disk is too small.

    wanted: in a dry run, what would be done about each picture.
    fits_here: whether the pictures must fit into this machine.
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
    if plans and fits_here:
        from ..forecast.check import check

        check([(plan.job.source.path, plan.forecast) for plan in plans], plans[0].forecast.case.room)
    return {plan.job.source.path: plan.forecast for plan in plans}


def restore(
    report: "Report",
    runs: Sequence[PlannedRun],
    workers: "Sequence[Worker] | Asked",
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
    runs: Sequence[PlannedRun],
    workers: "Sequence[Worker] | Asked",
    weights: Path | None,
    forecasts: "dict[Path, Forecast]",
) -> "Generator[Outcome]":
    """Yield the Outcomes of the pictures, restored in this process, or by several workers in other processes."""
    from ..run import batch, cluster
    from ..run import workers as processes
    from ..run.afar import loader
    from ..weights import locate
    from ..weights.fingerprint import fingerprint

    request = runs[0].request

    def known() -> str:
        return fingerprint(request.model, locate(request.model, weights))

    load = None if isinstance(workers, cluster.Asked) else cache(loader(workers[0], request, weights))
    for run in runs:
        if isinstance(workers, cluster.Asked):
            yield from cluster.run(run.jobs, run.request, workers, weights, known, report, forecasts)
        elif len(workers) > 1:
            yield from processes.run(run.jobs, run.request, workers, weights, known, report, forecasts)
        else:
            assert load is not None
            yield from batch.run(run.jobs, run.request, load, known, report, forecasts)


def write_sheets(
    report: "Report",
    runs: Sequence[PlannedRun],
    pictures: "Sequence[InputFile]",
    output: str | None,
    name: str | None,
    seeds: Sequence[int],
) -> None:
    """Write a sheet with the variants of each picture, and report it. output, name, seeds: as for `plan`."""
    from ..run import variants
    from ..run.naming import VARIANT_PATTERN, sheet_name
    from ..run.outputs import plan_results

    label = typed.size_label(runs[0].request.settings)
    sheets = plan_results(pictures, output, sheet_name(name or VARIANT_PATTERN), label, "png")
    for sentence in variants.write_sheets(sheets, [run.jobs for run in runs], seeds):
        report.note(sentence)


def are_consistent(report: "Report", outcomes: "Sequence[Outcome]", least: float) -> bool:
    """Report the results whose consistency is below `least` dB; return whether there are no such results."""
    below = _inconsistent(outcomes, least)
    for path, psnr in below:
        report.note(f"{path} departs from its input: its consistency is {psnr:.2f} dB, below --check {least:g}.")
    return not below


def _inconsistent(outcomes: "Sequence[Outcome]", least: float) -> list[tuple[Path, float]]:
    """Return the results below `least` dB, the least first; results of earlier runs are read."""
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
