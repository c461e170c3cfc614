"""`seesr tags`: print the tags of pictures."""

from typing import TYPE_CHECKING

import typer

from ..catalogue import DEFAULT_MODEL, MODELS
from ..machine.imports import uncollected
from . import options
from .weights import ensure

if TYPE_CHECKING:
    from ..restore.tag import Reader


def tags(
    inputs: options.Inputs = None,
    from_list: options.FromList = None,
    tolerant: options.Tolerant = False,
    model: options.Model = None,
    weights: options.Weights = None,
    yes: options.Yes = False,
    device: options.Device = "auto",
    dtype: options.Precision = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print the tags of pictures, with their scores and the thresholds they are above.

    A table on a terminal; in a pipe, tab-separated lines of picture, tag, score and threshold.
    """
    from ..report.screen import Report, announce
    from ..run import inputs as finding
    from ..run.tags import read_tags

    chosen = MODELS[model or DEFAULT_MODEL]
    sources = finding.find(inputs or [], from_list or [])
    ensure(chosen, weights, yes, quiet)
    if not quiet:
        announce(len(sources.pictures))
    with uncollected():
        from ..machine.available import cores
        from ..machine.device import keep_to
        from ..restore.tag import load_reader

    def load() -> "Reader":
        keep_to(cores())
        return load_reader(chosen, weights, device, dtype)

    with Report(len(sources.pictures), as_json=as_json, quiet=quiet, debug=debug) as report:
        for note in sources.notes:
            report.note(note)
        for outcome in read_tags(sources.pictures, chosen.name, load, report, tolerant=tolerant):
            report.tagged(outcome)
        if sources.strangers:
            report.note(finding.left_alone(sources.strangers))
    if report.failed:
        raise typer.Exit(1)
