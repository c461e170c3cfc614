"""`seesr evaluate`: measure results."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import options
from .weights import ensure_metrics

AGAINST, WRITTEN = "What to measure against", "Result"

Results = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="A folder of results, or one result.", show_default=False)
]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", metavar="HR", help="The true pictures, as large.", rich_help_panel=AGAINST),
]
Input = Annotated[
    Path | None,
    typer.Option("--input", metavar="LR", help="The pictures that were restored.", rich_help_panel=AGAINST),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against", metavar="RESULTS2", help="Another run's results, to compare with.", rich_help_panel=AGAINST
    ),
]
Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="NAMES",
        help="fast (psnr, ssim, niqe, consistency, drift), paper (lpips, dists, fid, musiq, maniqa, clipiqa: networks "
        f"to download), or names of these, with commas between. {options.default('fast')}",
        show_default=False,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write a line a picture, the worst first.", rich_help_panel=WRITTEN),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write everything that was measured, as JSON.", rich_help_panel=WRITTEN),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print everything as one JSON object.", rich_help_panel=options.REPORT)
]


Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="DIR",
        help=f"Folder with the networks of paper, where they were not pulled. {options.default('$SEESR_WEIGHTS')}",
        show_default=False,
        rich_help_panel=options.MODEL,
    ),
]


def evaluate(
    results: Results,
    reference: Reference = None,
    source: Input = None,
    against: Against = None,
    metrics: Metrics = "fast",
    csv: Csv = None,
    out: Out = None,
    weights: Weights = None,
    yes: options.Yes = False,
    device: options.Device = "auto",
    as_json: AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure results as the papers do, and how far they depart from their inputs.

    Pictures pair by name, with or without _x4, _result and _reference.
    """
    for path in (csv, out):
        _check_place(path)
    if csv is not None and csv == out:
        raise UsageError(f"--csv and --out both name {csv}: give two names.")
    from ..evaluate import protocol
    from ..evaluate.pairs import pair

    given: dict[protocol.Needs, Path | None] = {"reference": reference, "input": source}
    there = frozenset({"result", *(need for need, path in given.items() if path is not None)})
    names, notes = protocol.chosen(metrics, there)
    pairs = pair(results, reference, source, against)
    names, more = protocol.enough(names, metrics, len(pairs))
    learned = [name for name in names if protocol.METRICS[name].learned]
    folder = ensure_metrics(learned, weights, yes, quiet) if learned else None

    from ..evaluate import summary
    from ..evaluate.measure import measure
    from ..files import replacing
    from ..machine.available import cores
    from ..report import evaluation
    from ..report.screen import complain

    engine, checksums = None, {}
    if folder is not None:
        from ..evaluate.paper.load import Learned, checksums_of
        from ..machine.device import choose

        engine, checksums = Learned(learned, folder, choose(device).device), checksums_of(learned, folder)
    notes += more
    if not quiet:
        for text in notes:
            evaluation.note(text)
    at_once = cores() if engine is None else 1  # networks compute with all threads by themselves
    measured = []
    for one in evaluation.watched(measure(pairs, names, engine, at_once), len(pairs), quiet):
        measured.append(one)
        for text in one.failures:
            complain(text)
        for text in () if quiet else one.notes:
            evaluation.note(text)
    wholes = summary.of_folders(measured)
    content = summary.document(measured, names, wholes, notes, checksums)
    if out is not None:
        with replacing(out, overwrite=True) as file:
            file.write(json.dumps(content, indent=1, allow_nan=False).encode())
    if csv is not None:
        with replacing(csv, overwrite=True) as file:
            file.write(summary.table(measured, names).encode("utf-8", "surrogateescape"))
    if as_json:
        evaluation.document(content)
    else:
        evaluation.show(measured, names, wholes)
    if any(one.failures for one in measured):
        raise typer.Exit(1)


def _check_place(path: Path | None) -> None:
    """Raise UsageError for a file that could not be written; after an hour it would be too late."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"The folder {path.absolute().parent} is not there: make it, or name another.")
    if path.suffix.lower() not in (".json", ".csv", ".txt") and os.path.lexists(path):
        raise UsageError(f"{path} is already there and may be something else: end the name with .json or .csv.")
