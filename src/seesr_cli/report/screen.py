"""The only printer: results on stdout, for people and pipes alike; progress, notes and errors on stderr."""

import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..run.foresee import JobForecast
from ..run.intent import MAKES_NOTHING, Intent
from ..run.outcome import Outcome
from ..wording import bytes_in_words, duration, printable
from .progress import Progress

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..machine.share import Share

EVENTS = 1
"""The version of the objects that `--json` prints: fields may be added, but none leaves or changes its meaning."""


_WIDE = 100
"""Columns of a terminal from which on the plan shows sizes before, tiles and memory."""


class Report:
    """Tells a run while it goes on; a context, so that the terminal is left as it was found.

    Paths go to stdout as the bytes they are, a line each; with `as_json`, an object in ASCII per picture instead, and
    with `events` one per event.
    Progress is animated only where stderr is a terminal. `quiet` leaves results and errors; `debug` adds tracebacks.
    `share` says how many pictures are worked on at a time, in all and on one device.
    """

    def __init__(
        self,
        total: int,
        *,
        as_json: bool = False,
        events: bool = False,
        quiet: bool = False,
        debug: bool = False,
        share: "Share | None" = None,
    ) -> None:
        self._as_json = as_json
        self._events = events
        self._quiet = quiet
        self._debug = debug
        self._console = _console()
        self._total = total
        self._states: Counter[str] = Counter()
        self._began = time.monotonic()
        self._forecasts: dict[Path, Forecast] = {}
        self._planned: Counter[Path] = Counter()
        self._at_once, self._on_a_device = share or (1, 1)
        self._targets: dict[Path, Path | None] = {}
        self._nodes: dict[Path, str] = {}  # machines of a cluster, by the pictures that they are at work on
        self._progress: Progress | None = None
        if not quiet and sys.stderr.isatty() and not self._console.is_dumb_terminal:
            self._progress = Progress(self._console, total, self._at_once)

    @property
    def done(self) -> bool:
        """Whether a picture was restored."""
        return self._states["done"] > 0

    @property
    def failed(self) -> bool:
        """Whether a picture failed."""
        return self._states["failed"] > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.hide()
            self._progress = None
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.note(f"Interrupted. {self._summary()} The same command again does what is left.")
        elif kind is None and self._total > 1:
            self.note(self._summary())

    # What a run tells between outcomes (run.outcome.Watch).

    def planned(self, plan: JobForecast, action: str | None = None) -> None:
        """Tell the size and the cost of a picture's result, and count on its time.

        action: in a dry run, what would be done.
        """
        forecast = plan.forecast
        self._forecasts[plan.job.source.path] = forecast
        self._planned[plan.job.source.path] += 1
        if self._progress is not None:
            self._progress.planned(plan.job.source.path, forecast)
        self._event(
            "planned",
            plan.job.source.path,
            plan.job.target,
            {
                "input_size": _size_as_json(plan.sizes.picture),
                "output_size": _size_as_json(plan.sizes.result),
                "tiles": forecast.tiles,
                "operations": forecast.operations,
                "memory": forecast.expected._asdict(),
                "disk": forecast.disk,
                "seconds": round(forecast.total_seconds, 1) if forecast.timed else None,
                "rate": forecast.rates.source,
            }
            | ({} if action is None else {"action": action}),
        )

    def plans(self, plans: Sequence[JobForecast], intents: Sequence[Intent]) -> None:
        """Print a row for each picture, in order: the intent of the run, and its cost.

        A table on a terminal, tab-separated lines in a pipe. With events, pictures that are kept get theirs here; the
        others have theirs from `planned`.
        """
        planned = {plan.job: plan for plan in plans}
        kept = [intent for intent in intents if intent.words in MAKES_NOTHING]
        if self._events:
            for each in kept:
                self._event("planned", each.job.source.path, each.job.target, {"action": each.words})
            return
        rows = [(each, planned.get(each.job)) for each in intents if each.job in planned or each in kept]
        if not sys.stdout.isatty():
            for each, plan in rows:
                line = [*(cell.encode() for cell in _cells(plan)), each.words.encode(), os.fsencode(_result(each))]
                _write(b"\t".join([os.fsencode(each.job.source.path), *line]))
            return
        console = Console(highlight=False)
        wide = console.width >= _WIDE
        table = Table(box=None, pad_edge=False)
        for name in ("picture", "result", "action"):
            table.add_column(name, overflow="fold")
        for name in ("from", "to", "tiles", "memory", "time") if wide else ("to", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        for each, plan in rows:
            names = [Text(printable(text)) for text in (each.job.source.path, _result(each), each.words)]
            cells = _cells(plan)
            table.add_row(*names, *(cells if wide else (cells[1], cells[-1])))
        console.print(table)

    def total(self, plans: Sequence[JobForecast], kept: int) -> None:
        """Print the cost of all pictures together. kept: number of pictures that are left as they are."""
        if kept:
            self.note(f"{kept} kept.")
        if not plans:
            return
        forecasts = [plan.forecast for plan in plans]
        peak = max((forecast.expected for forecast in forecasts), key=sum)
        memory = f"{bytes_in_words(self._at_once * peak.host)} of memory"
        if peak.device:
            memory += f", {bytes_in_words(self._on_a_device * peak.device)} of the GPU's"
        seconds = sum(forecast.total_seconds for forecast in forecasts) / self._at_once
        source = forecasts[0].rates.source
        took = f"about {duration(seconds)} (rate {source})" if forecasts[0].timed else f"time {source}"
        self.note(
            f"{len(plans)} to do: {took}, {memory}, "
            f"at most {bytes_in_words(sum(forecast.disk for forecast in forecasts))} of disk."
        )

    def started(self, source: Path, target: Path | None, node: str = "") -> None:
        """Tell that the picture `source` is taken up, to become `target`."""
        self._targets[source] = target
        if node:
            self._nodes[source] = node
        self._event("started", source, target)
        if self._progress is not None:
            self._progress.started(source, printable(source.name), self._forecasts.get(source), printable(node))

    def loading(self, what: str) -> None:
        """Show that a model is being loaded."""
        if self._progress is not None:
            self._progress.loading(what)

    def stepped(self, source: Path, done: int, total: int) -> None:
        """Tell how many of the steps for the picture `source` are done."""
        self._event("step", source, self._targets.get(source), {"step": done, "steps": total})
        if self._progress is not None:
            self._progress.stepped(source, done, total)

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        """Show how much of a phase of the picture `source` is done."""
        if self._progress is not None:
            self._progress.advanced(source, phase, done, total)

    # Outcomes.

    def upscaled(self, outcome: Outcome, done: str = "finished") -> None:
        """Print the result of one picture, and say how it went. done: name of the event, if it went well."""
        with self._aside():
            self._tell(outcome)
            if self._events:
                event = done if outcome.state == "done" else outcome.state
                self._event(event, outcome.source, outcome.target, _in_full(outcome))
            elif outcome.content:
                sys.stdout.buffer.write(outcome.content)
                sys.stdout.buffer.flush()
            elif outcome.target is not None and outcome.state != "failed":
                _write(_name(outcome.target))
        self._count(outcome)

    def previewed(self, outcome: Outcome) -> None:
        """Print the sheet that shows windows of a result, and say how it went."""
        self.upscaled(outcome, "previewed")

    def tagged(self, outcome: Outcome) -> None:
        """Print the tags of one picture: a table on a terminal, tab-separated lines (picture first) in a pipe."""
        with self._aside():
            self._tell(outcome)
            if self._as_json:
                _write(_ascii(_tagged_as_json(outcome)))
            elif outcome.state == "done" and sys.stdout.isatty():
                Console(highlight=False).print(_table(outcome), "")
            else:
                for tag in outcome.tags:
                    numbers = f"\t{tag.name}\t{tag.score:.4f}\t{tag.threshold:.4f}"
                    _write(os.fsencode(outcome.source) + numbers.encode())
        self._count(outcome)

    def note(self, text: str) -> None:
        """Say something on stderr, unless quiet."""
        if not self._quiet:
            with self._aside():
                self._console.print(Text(printable(text)), soft_wrap=True)

    def _tell(self, outcome: Outcome) -> None:
        if outcome.state == "failed":
            complain(outcome.message, outcome.error if self._debug else None)
        elif outcome.state == "skipped":
            if outcome.kept_seconds is None or self._total == 1:  # of a run, the last line says how many
                self.note(outcome.message)
        elif outcome.message:
            self.note(f"{outcome.message} in {duration(outcome.seconds)}.")
        elif outcome.size_out is not None and outcome.size_in is not None:
            sizes = " -> ".join(f"{width} x {height}" for height, width in (outcome.size_in, outcome.size_out))
            self.note(f"{printable(outcome.source)}: {sizes} in {duration(outcome.seconds)}.")
        for text in outcome.notes:
            self.note(f"{printable(outcome.source)}: {text}")

    def _event(self, event: str, source: Path, target: Path | None, about: Mapping[str, Any] | None = None) -> None:
        """Print what happened to a picture, for the machine that reads it."""
        if self._events:
            names = {"input": str(source), "output": None if target is None else str(target)}
            if source in self._nodes:
                names["node"] = self._nodes[source]
            _write(_ascii({"v": EVENTS, "event": event, **names, **(about or {})}))

    def _count(self, outcome: Outcome) -> None:
        self._states["kept" if outcome.kept_seconds is not None else outcome.state] += 1
        if self._planned[outcome.source] > 1:  # another variant of it is to come
            self._planned[outcome.source] -= 1
        else:
            self._forecasts.pop(outcome.source, None)
        self._targets.pop(outcome.source, None)
        self._nodes.pop(outcome.source, None)
        if self._progress is not None:
            self._progress.ended(outcome.source)

    def _summary(self) -> str:
        counts = ", ".join(
            f"{self._states[state]} {state}"
            for state in ("done", "kept", "skipped", "failed")
            if self._states[state] or state in ("done", "failed")
        )
        return f"{counts} of {self._total} in {duration(time.monotonic() - self._began)}."

    def _aside(self) -> AbstractContextManager[None]:
        """Take the progress off the terminal for as long as something else is printed there."""
        return nullcontext() if self._progress is None else self._progress.aside()


def announce(pictures: int) -> None:
    """Say on a terminal that pictures are being read, before libraries are imported, which takes seconds."""
    if sys.stderr.isatty():
        _console().print(f"Reading {pictures} picture{'' if pictures == 1 else 's'}...")


def complain(message: str, error: BaseException | None = None, remedies: Sequence[str] = ()) -> None:
    """Print an error on stderr: one sentence, behind the traceback of `error` if that is given.

    remedies: printed below, a line each.
    """
    console = _console()
    if error is not None:
        console.print(Text("".join(traceback.format_exception(error)).rstrip()), soft_wrap=True)
    console.print(Text.assemble(("Error: ", "bold red"), printable(message)), soft_wrap=True)
    for line in remedies:
        console.print(Text(f"  {printable(line)}"), soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _write(line: bytes) -> None:
    """Print a result, at once: who reads the pipe may be waiting for it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _name(path: Path) -> bytes:
    """Return a path to be printed: as the bytes it is in a pipe, without what would act on it on a terminal."""
    return printable(path).encode() if sys.stdout.isatty() else os.fsencode(path)


def _ascii(content: dict[str, Any]) -> bytes:
    # ASCII: any locale can print it, and names that are no valid text stay as they are
    return json.dumps(content).encode("ascii")


def _in_full(outcome: Outcome) -> dict[str, Any]:
    """Return what an event tells of an outcome besides the names; a picture that is not done has only its sentence."""
    if outcome.state != "done":
        return {"message": outcome.message, "seconds": round(outcome.seconds, 3)}
    return {
        "seconds": round(outcome.seconds, 3),
        "input_size": _size_as_json(outcome.size_in),
        "output_size": _size_as_json(outcome.size_out),
        "tags": [tag._asdict() for tag in outcome.tags],
        "prompt": outcome.prompt,
        "notes": list(outcome.notes),
        "consistency": outcome.consistency,
        "record": dict(outcome.record),
    }


def _tagged_as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "input": str(outcome.source),
        "state": outcome.state,
        "message": outcome.message,
        "tags": [tag._asdict() for tag in outcome.tags],
    }


def _result(intent: Intent) -> str | Path:
    return intent.job.target or "-"


def _cells(plan: JobForecast | None) -> tuple[str, ...]:
    """Return the cells that tell of a forecast: sizes, tiles, memory, time; empty ones for a picture that is kept."""
    if plan is None:
        return ("",) * 5
    before, after = (f"{width} x {height}" for height, width in (plan.sizes.picture, plan.sizes.result))
    forecast = plan.forecast
    took = duration(forecast.total_seconds) if forecast.timed else "not known"
    return before, after, str(forecast.tiles), bytes_in_words(sum(forecast.expected)), took


def _size_as_json(size: tuple[int, int] | None) -> dict[str, int] | None:
    return None if size is None else {"width": size[1], "height": size[0]}


def _table(outcome: Outcome) -> Table:
    table = Table(title=Text(printable(outcome.source)), title_justify="left", box=None, pad_edge=False)
    table.add_column("tag", min_width=20)
    table.add_column("score", justify="right")
    table.add_column("threshold", justify="right")
    for tag in outcome.tags:
        table.add_row(Text(tag.name), f"{tag.score:.3f}", f"{tag.threshold:.3f}")
    if not outcome.tags:
        table.add_row(Text("(no tag is above its threshold)"), "", "")
    return table
