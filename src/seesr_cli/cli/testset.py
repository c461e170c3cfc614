"""`seesr evaluate --set`: fetch a published test set and restore it, before it is measured."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..catalogue import MODELS
from ..settings import ModelName, TestSetName
from . import typed
from .runs import PlannedRun, outcomes_of
from .weights import ensure, ensure_test_sets

if TYPE_CHECKING:
    from ..evaluate.testsets import Folders


def restored(
    name: TestSetName,
    model: ModelName,
    results: Path,
    *,
    weights: Path | None,
    device: str,
    yes: bool,
    quiet: bool,
    debug: bool,
) -> "Folders":
    """Return where the pictures of a set are, after restoring them into the folder `results`.

    What is there of an earlier run, made from the same pictures with the same weights, is kept. Exits with 1 if a
    picture failed: a mean over fewer pictures is not the published one. Raises WeightsMissing.
    """
    archive = ensure_test_sets(weights, yes, quiet)
    from ..evaluate.testsets import SETS, unpacked
    from ..machine.available import cores
    from ..machine.share import divide
    from ..report.screen import Report
    from ..run.inputs import find
    from ..run.outputs import is_there, plan_results
    from ..run.request import Request
    from ..weights.shelf import default

    folders = unpacked(archive, SETS[name], default().root / "testsets" / name)
    chosen = MODELS[model]
    if chosen.bundled:
        weights = None
    request = Request(chosen, chosen.defaults)
    pictures = find([str(folders.inputs)], [], output=str(results), name=None).pictures
    jobs = plan_results(pictures, f"{results}/", scale_label=typed.size_label(chosen.defaults), kind="png")
    if any(not is_there(job) for job in jobs):
        ensure(chosen, weights, yes, quiet)
    workers = divide([device], 1, len(jobs), cores())
    with Report(len(jobs), quiet=quiet, debug=debug) as report:
        if len(jobs) != SETS[name].pictures:
            report.note(f"The set has {len(jobs)} pictures, and the published one {SETS[name].pictures}.")
        with closing(outcomes_of(report, [PlannedRun(request, jobs)], workers, weights, {})) as coming:
            for outcome in coming:
                report.upscaled(replace(outcome, target=None))  # stdout is for what is measured
    if report.failed:
        raise typer.Exit(1)
    return folders
