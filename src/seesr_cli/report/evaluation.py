"""Print measurements: a table on a terminal, tab-separated lines in a pipe, progress and notes on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ..evaluate.measure import Measured
from ..evaluate.protocol import METRICS
from ..evaluate.statistics import Comparison, Interval, interval, mean
from ..evaluate.summary import Whole, comparison, single, values_of, worst_first
from ..evaluate.testsets import TestSet
from ..wording import printable

_WORST = 5
"""Pictures that are named below the table."""


def watched(measured: Iterable[Measured], total: int, quiet: bool) -> Iterator[Measured]:
    """Yield the measurements, with a progress bar if stderr is a terminal."""
    console = _console()
    animated = not quiet and sys.stderr.isatty() and not console.is_dumb_terminal
    yield from track(measured, "Measuring", total, console=console, transient=True, disable=not animated)


def note(text: str) -> None:
    """Say something on stderr."""
    _console().print(Text(printable(text)), soft_wrap=True)


def show(
    measured: Sequence[Measured], metrics: Sequence[str], wholes: Mapping[str, Whole], published: TestSet | None = None
) -> None:
    """Print mean and interval of every metric, and how it compares with the rival; on a terminal the worst pictures."""
    rivals = any(one.pair.against for one in measured)
    beside = dict(published.published) if published is not None else {}
    if not sys.stdout.isatty():
        for metric in metrics:
            known = [_number(beside.get(metric), METRICS[metric].digits)] if beside else []
            print("\t".join([metric, *_cells(measured, metric, wholes.get(metric), rivals), *known]))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    compared = ("difference", "95 % interval", "better/equal/worse", "p") if rivals else ()
    for name in ("pictures", "mean", "95 % interval", *compared, *(("published",) if beside else ())):
        table.add_column(name, justify="right")
    for metric in metrics:
        arrow = "↑" if METRICS[metric].higher else "↓"
        known = [_number(beside.get(metric), METRICS[metric].digits)] if beside else []
        cells = _cells(measured, metric, wholes.get(metric), rivals)
        table.add_row(f"{METRICS[metric].title} {arrow}", *cells, *known)
    console = Console(highlight=False)
    console.print(table)
    if beside and published is not None:
        console.print(Text(f"Published: of SeeSR, by its authors. {published.again}"))
    if len(measured) > 1 and (first := next(iter(single(metrics)), None)):
        title, digits = METRICS[first].title, METRICS[first].digits
        worst = [one for one in worst_first(measured, first) if first in one.values][:_WORST]
        if worst:
            names = ", ".join(f"{printable(one.pair.name)} {one.values[first]:.{digits}f}" for one in worst)
            console.print(Text(f"Worst by {title}: {names}"))


def document(content: dict[str, Any]) -> None:
    """Print all measurements as one JSON object."""
    print(json.dumps(content, allow_nan=False), flush=True)


def _cells(measured: Sequence[Measured], metric: str, whole: Whole | None, rivals: bool) -> list[str]:
    """Return the number of pictures, mean, interval, and the comparison."""
    if METRICS[metric].of_folder:
        return _whole(len([one for one in measured if one.features]), whole, METRICS[metric].digits, rivals)
    digits, values = METRICS[metric].digits, values_of(measured, metric)
    average = mean(values)
    cells = [str(len(values)), "infinite" if average is None and values else _number(average, digits)]
    cells.append(_interval(interval(values), digits))
    if rivals:
        cells += _compared(comparison(measured, metric), digits)
    return cells


def _whole(count: int, whole: Whole | None, digits: int, rivals: bool) -> list[str]:
    """Return the cells of a metric that all pictures have together."""
    cells = [str(count), _number(whole.results if whole else None, digits), "-"]
    if rivals:
        difference = "-"
        if whole is not None and whole.rivals is not None:
            difference = f"{whole.results - whole.rivals:+.{digits}f}"
        cells += [difference, *["-"] * 3]
    return cells


def _compared(found: Comparison | None, digits: int) -> list[str]:
    if found is None:
        return ["-"] * 4
    counts = f"{found.wins}/{found.ties}/{found.losses}"
    return [f"{found.difference:+.{digits}f}", _interval(found.interval, digits), counts, f"{found.p:.4f}"]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(found: Interval | None, digits: int) -> str:
    return "-" if found is None else f"{found.low:.{digits}f} to {found.high:.{digits}f}"


def _console() -> Console:
    return Console(stderr=True, highlight=False)
