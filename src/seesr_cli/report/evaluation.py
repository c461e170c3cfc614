"""Print measurements: a table on a terminal, tab-separated lines in a pipe, progress and notes on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ..evaluate.measure import Measured
from ..evaluate.protocol import METRICS
from ..evaluate.statistics import Interval, interval, mean
from ..evaluate.summary import Whole, comparison, single, values_of, worst_first
from ..evaluate.testsets import TestSet
from ..wording import printable

_WORST = 5
"""Pictures that are named below the table."""


def watched(measured: Iterable[Measured], total: int, quiet: bool) -> Iterator[Measured]:
    """Yield the measurements, and print failures and notes as they come, above a progress bar on a terminal."""
    console = _console()
    hidden = quiet or not sys.stderr.isatty() or console.is_dumb_terminal
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("Measuring", total=total)
        for one in measured:
            for text in one.failures:
                console.print(Text.assemble(("Error: ", "bold red"), printable(text)), soft_wrap=True)
            for text in () if quiet else one.notes:
                console.print(Text(printable(text)), soft_wrap=True)
            bar.advance(task)
            yield one


def note(text: str) -> None:
    """Say something on stderr."""
    _console().print(Text(printable(text)), soft_wrap=True)


def show(
    measured: Sequence[Measured], metrics: Sequence[str], wholes: Mapping[str, Whole], published: TestSet | None = None
) -> None:
    """Print mean and interval of every metric, and how it compares with the rival; on a terminal the worst pictures."""
    rivals = any(one.pair.against for one in measured)
    beside = dict(published.published) if published is not None else {}
    own, compared = {}, {}
    for metric in metrics:
        own[metric] = _own(measured, metric, wholes.get(metric))
        if rivals:
            compared[metric] = _compared(measured, metric, wholes.get(metric))
        if beside:
            own[metric].append(_number(beside.get(metric), METRICS[metric].digits))
    if not sys.stdout.isatty():
        for metric in metrics:
            print("\t".join([metric, *own[metric][:3], *compared.get(metric, []), *own[metric][3:]]))
        return
    console = Console(highlight=False)
    headings = ("pictures", "mean", "95 % interval", *(("published",) if beside else ()))
    console.print(_table("metric", headings, own))
    if rivals:
        console.print(_table("\nagainst the others", ("difference", "95 % interval", "+/=/-", "p"), compared))
        console.print(Text("+/=/-: pictures where these results are better, equal, worse."))
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


def _table(first: str, headings: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for metric, cells in rows.items():
        table.add_row(f"{METRICS[metric].title} {'↑' if METRICS[metric].higher else '↓'}", *cells)
    return table


def _own(measured: Sequence[Measured], metric: str, whole: Whole | None) -> list[str]:
    """Return the number of pictures, mean, and interval."""
    digits, values = METRICS[metric].digits, values_of(measured, metric)
    if METRICS[metric].of_folder:
        count = sum(bool(one.features) for one in measured) or len(measured)
        return [str(count), _number(whole.results if whole else None, digits), "-"]
    average = mean(values)
    infinite = average is None and bool(values)
    return [str(len(values)), "infinite" if infinite else _number(average, digits), _interval(interval(values), digits)]


def _compared(measured: Sequence[Measured], metric: str, whole: Whole | None) -> list[str]:
    """Return difference, interval, pictures that are better/equal/worse, and p."""
    digits, found = METRICS[metric].digits, comparison(measured, metric)
    if whole is not None and whole.rivals is not None:
        return [f"{whole.results - whole.rivals:+.{digits}f}", *["-"] * 3]
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
