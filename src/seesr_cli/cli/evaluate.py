"""`seesr evaluate`: measure results."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..catalogue import DEFAULT_MODEL
from ..errors import UsageError
from ..settings import ModelName, TestSetName
from . import options
from .testset import restored
from .weights import ensure_metrics

AGAINST, WRITTEN, TEST_SET = "What to measure against", "Result", "A published test set"

Results = Annotated[
    Path | None, typer.Argument(metavar="RESULTS", help="A folder of results, or one result.", show_default=False)
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


SetName = Annotated[
    TestSetName | None,
    typer.Option(
        "--set",
        help="A published test set: fetch it, restore it with --model, and measure that, in the place of RESULTS.",
        show_default=False,
        rich_help_panel=TEST_SET,
    ),
]
SetModel = Annotated[
    ModelName,
    typer.Option(
        "--model",
        help=f"What restores the set. {options.default('seesr')}",
        show_default=False,
        rich_help_panel=TEST_SET,
    ),
]
To = Annotated[
    Path | None,
    typer.Option(
        "--to",
        metavar="DIR",
        help=f"Where the set's results go; those that are there are kept. {options.default('realsr-seesr')}",
        show_default=False,
        rich_help_panel=TEST_SET,
    ),
]
EngineName = Annotated[
    Literal["own", "pyiqa"],
    typer.Option(
        "--engine",
        help="What computes the metrics: this program, or an installed pyiqa, called as the papers call it. "
        + options.default("own"),
        show_default=False,
    ),
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
    results: Results = None,
    reference: Reference = None,
    source: Input = None,
    against: Against = None,
    metrics: Metrics = "fast",
    engine_name: EngineName = "own",
    csv: Csv = None,
    out: Out = None,
    set_name: SetName = None,
    model: SetModel = DEFAULT_MODEL,
    to: To = None,
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
    if set_name is not None:
        if there != {"result"} or results is not None:
            raise UsageError("--set brings its own pictures: leave RESULTS, --reference and --input out.")
        there = frozenset({"result", *given})
    names, notes = protocol.chosen(metrics, there)
    own = engine_name == "own"
    if set_name is not None:
        if own:
            _networks(names, weights, yes, quiet)  # before hours of restoring
        results = to or Path(f"{set_name}-{model}")
        source, reference = restored(
            set_name, model, results, weights=weights, device=device, yes=yes, quiet=quiet, debug=debug
        )
    if results is None:
        raise UsageError("There is nothing to measure: name a folder of results, or a test set with --set.")
    pairs = pair(results, reference, source, against)
    names, more = protocol.enough(names, metrics, len(pairs))
    learned, folder = _networks(names, weights, yes, quiet) if own else ([], None)

    from ..evaluate import summary
    from ..evaluate.measure import Engine, measure
    from ..evaluate.testsets import SETS
    from ..files import replacing
    from ..machine.available import cores
    from ..machine.device import choose
    from ..report import evaluation

    engine: Engine | None = None
    pyiqa, checksums = None, {}
    if not own:
        from ..evaluate.published import LICENCE, Pyiqa

        engine = pyiqa = Pyiqa(names, choose(device).device)
        more += (LICENCE,)
    elif folder is not None:
        from ..evaluate.paper.load import Learned, checksums_of

        engine, checksums = Learned(learned, folder, choose(device).device), checksums_of(learned, folder)
    notes += more
    if not quiet:
        for text in notes:
            evaluation.note(text)
    at_once = cores() if engine is None else 1  # networks compute with all threads by themselves
    measured = list(evaluation.watched(measure(pairs, names, engine, at_once), len(pairs), quiet))
    wholes = summary.of_folders(measured) if pyiqa is None else summary.of_paths(measured, pyiqa.fid)
    published = SETS[set_name] if set_name is not None else None
    content = summary.document(measured, names, wholes, notes, checksums, published, pyiqa.version if pyiqa else None)
    if out is not None:
        with replacing(out, overwrite=True) as file:
            file.write(json.dumps(content, indent=1, allow_nan=False).encode())
    if csv is not None:
        with replacing(csv, overwrite=True) as file:
            file.write(summary.table(measured, names).encode("utf-8", "surrogateescape"))
    if as_json:
        evaluation.document(content)
    else:
        evaluation.show(measured, names, wholes, published)
    if any(one.failures for one in measured):
        raise typer.Exit(1)


def _networks(names: Sequence[str], weights: Path | None, yes: bool, quiet: bool) -> tuple[list[str], Path | None]:
    """Return those metrics that are networks, and the folder with these. Raises WeightsMissing."""
    from ..evaluate.protocol import METRICS

    learned = [name for name in names if METRICS[name].learned]
    return learned, ensure_metrics(learned, weights, yes, quiet) if learned else None


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
