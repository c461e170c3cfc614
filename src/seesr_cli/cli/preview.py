"""`seesr upscale --preview`: a window of the result, before the whole is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..machine.share import Worker

if TYPE_CHECKING:
    from ..report.screen import Report
    from ..run.foresee import JobForecast
    from ..run.outcome import Outcome
    from ..run.outputs import Job
    from ..run.preview import Look
    from ..run.request import Request

DEFAULT_SIDE = 512


def look(at: Sequence[str] | None, side: int | None, seeds: tuple[int, ...]) -> "Look":
    """Return the content of the preview. Raises UsageError for a point or a side that cannot be."""
    from ..run.preview import LEAST_SIDE, MOST_SIDE, Look

    side = DEFAULT_SIDE if side is None else side
    if not LEAST_SIDE <= side <= MOST_SIDE:
        raise UsageError(f"--side {side} is out of range: give {LEAST_SIDE} to {MOST_SIDE}.")
    return Look(tuple(map(_point, at)) if at else (None,), side, seeds)


def _point(text: str) -> tuple[int, int]:
    try:
        x, y = map(int, text.split(","))
        if min(x, y) < 0:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--at {text} is no point: give two whole numbers with a comma between, as 1200,800."
        ) from None
    return x, y


def check_options(preview: bool, at: Sequence[str] | None, side: int | None, of_results: Mapping[str, object]) -> None:
    """Refuse options of previews without a preview, and options of results with one.

    of_results: values by option; None or False: not given.
    """
    if (at or side is not None) and not preview:
        raise UsageError(f"{'--at' if at else '--side'} says what a preview shows: add --preview.")
    given = [name for name, value in of_results.items() if value is not None and value is not False]
    if preview and given:
        raise UsageError(f"--preview makes no result, and {given[0]} is about results: leave one of them out.")


def only(jobs: "Sequence[Job]") -> "Job":
    """Return the only job. Raises UsageError if there are more."""
    if len(jobs) > 1:
        raise UsageError(f"--preview shows one picture, and {len(jobs)} are named: name the one to look at.")
    return jobs[0]


def preview(
    report: "Report",
    job: "Job",
    request: "Request",
    look: "Look",
    worker: Worker,
    weights: Path | None,
    foreseen: "Sequence[JobForecast | Outcome]",
    dry_run: bool,
) -> None:
    """Forecast the preview of the job's picture, make it, and report it.

    foreseen: the forecast of the whole picture, or its failure; empty if the picture comes by a pipe.
    """
    from ..records.journal import Journal
    from ..run.afar import loader
    from ..run.foresee import JobForecast
    from ..run.intent import Intent
    from ..run.preview import foresee_preview, preview
    from ..run.session import Session
    from ..weights import locate
    from ..weights.fingerprint import fingerprint

    forecasts = {}
    for each in foreseen:
        if isinstance(each, JobForecast):
            plan = foresee_preview(each, look)
            forecasts[job.source.path] = plan.forecast
            report.planned(plan, "preview" if dry_run else None)
            if dry_run:
                report.plans([plan], [Intent(plan.job, "preview")])
                report.total([plan], 0)
        elif dry_run:
            report.upscaled(each)
    if dry_run:
        return
    session = Session(
        request,
        loader(worker, request, weights),
        lambda: fingerprint(request.model, locate(request.model, weights)),
        report,
        forecasts,
        Journal.open,  # which only reads, as long as nothing is recorded
    )
    report.previewed(preview(session, job, look))
