"""The only printer: results on stdout, for people and pipes alike; progress, notes and errors on stderr."""

import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..run.foresee import JobForecast
from ..run.outcome import Outcome

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..forecast.estimate import Forecast
    from ..machine.share import Share

EVENTS = 1
"""The version of the objects that `--json` prints: fields may be added, but none leaves or changes its meaning."""

_LONGEST_NAME = 40


@dataclass
class _Open:
    """A picture that has been taken up: its name, the share of its steps that is done, and when the last one was."""

    target: Path | None
    name: str
    share: float = 0.0
    stepped: float | None = None


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
        self._slower = 1.0
        self._at_once, self._on_a_device = share or (1, 1)
        self._open: dict[Path, _Open] = {}
        self._progress: Progress | None = None
        if not quiet and sys.stderr.isatty() and not self._console.is_dumb_terminal:
            self._progress = _animation(self._console)
            self._task = self._progress.add_task("", total=None, count="", rest="")

    @property
    def failed(self) -> bool:
        """Whether a picture failed."""
        return self._states["failed"] > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.note(f"Interrupted. {self._summary()} The same command again does what is left.")
        elif kind is None and self._total > 1:
            self.note(self._summary())

    # What a run tells between outcomes (run.outcome.Watch).

    def planned(self, plan: JobForecast) -> None:
        """Tell what a picture will become and take, and count on its time."""
        forecast = plan.forecast
        self._forecasts[plan.job.source.path] = forecast
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
            },
        )

    def plans(self, plans: Sequence[JobForecast]) -> None:
        """Print what pictures will become and take: a table on a terminal, tab-separated lines in a pipe."""
        if self._events:
            return
        if not sys.stdout.isatty():
            for plan in plans:
                cells = [cell.encode() for cell in _cells(plan)]
                _write(b"\t".join([os.fsencode(plan.job.source.path), *cells]))
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("picture", overflow="fold")
        for name in ("from", "to", "tiles", "memory", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        for plan in plans:
            table.add_row(Text(shown(plan.job.source.path)), *_cells(plan))
        Console(highlight=False).print(table)

    def total(self, plans: Sequence[JobForecast], there: int) -> None:
        """Say what all pictures together will take; `there`: how many results are there already."""
        if there:
            self.note(f"{there} of the results are there already: made again only where something has changed.")
        if not plans:
            return
        forecasts = [plan.forecast for plan in plans]
        peak = max((forecast.expected for forecast in forecasts), key=sum)
        memory = f"{_bytes(self._at_once * peak.host)} of memory"
        if peak.device:
            memory += f", {_bytes(self._on_a_device * peak.device)} of the GPU's"
        seconds = sum(forecast.total_seconds for forecast in forecasts) / self._at_once
        source = forecasts[0].rates.source
        took = f"about {_duration(seconds)} (rate {source})" if forecasts[0].timed else f"time {source}"
        self.note(
            f"{len(plans)} to do: {took}, {memory}, "
            f"at most {_bytes(sum(forecast.disk for forecast in forecasts))} of disk."
        )

    def started(self, source: Path, target: Path | None) -> None:
        """Tell that the picture `source` is taken up, to become `target`."""
        self._event("started", source, target)
        self._open.pop(source, None)  # what another run was at is taken up twice
        place = f"{self._states.total() + len(self._open) + 1} of {self._total}: " if self._total > 1 else ""
        self._open[source] = _Open(target, place + _shortened(shown(source.name)))
        if self._progress is not None:
            if self._at_once == 1:
                self._progress.reset(self._task, total=None, count="", rest="")
            self._progress.update(self._task, description=self._description(source))
            self._progress.start()

    def loading(self, what: str) -> None:
        """Show that a model is being loaded."""
        if self._progress is not None:
            self._progress.update(self._task, count=f"loading {what}")

    def stepped(self, source: Path, done: int, total: int) -> None:
        """Show how many of the steps for the picture `source` are done, and the time left for it and for all."""
        picture = self._open[source]
        self._event("step", source, picture.target, {"step": done, "steps": total})
        now, forecast = time.monotonic(), self._forecasts.get(source)
        if done == 1 and forecast is not None and picture.stepped is not None:
            together = sum(other.stepped is not None for other in self._open.values())
            took = (now - picture.stepped) / together
            self._slower = forecast.refined(took).total_seconds / forecast.total_seconds
        picture.share, picture.stepped = done / total, now
        if self._progress is None:
            return
        self._progress.update(self._task, description=self._description(source))
        if self._at_once > 1:
            completed = self._states.total() + sum(picture.share for picture in self._open.values())
            self._progress.update(self._task, completed=completed, total=self._total, count="", rest="left")
        else:
            rest = f"left, {self._time_left()}" if done and self._total > 1 and forecast else "left"
            count = f"step {done} of {total}" if done < total else "decoding"
            self._progress.update(self._task, completed=done, total=total, count=count, rest=rest)

    # Outcomes.

    def upscaled(self, outcome: Outcome) -> None:
        """Print the result of one picture, and say how it went."""
        with self._aside():
            self._tell(outcome)
            if self._events:
                event = "finished" if outcome.state == "done" else outcome.state
                self._event(event, outcome.source, outcome.target, _in_full(outcome))
            elif outcome.content:
                sys.stdout.buffer.write(outcome.content)
                sys.stdout.buffer.flush()
            elif outcome.target is not None:
                _write(os.fsencode(outcome.target))
        self._count(outcome)

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
                self._console.print(Text(shown(text)), soft_wrap=True)

    def _tell(self, outcome: Outcome) -> None:
        if outcome.state == "failed":
            complain(outcome.message, outcome.error if self._debug else None)
        elif outcome.state == "skipped":
            self.note(outcome.message)
        elif outcome.size_out is not None and outcome.size_in is not None:
            sizes = " -> ".join(f"{width} x {height}" for height, width in (outcome.size_in, outcome.size_out))
            self.note(f"{shown(outcome.source)}: {sizes} in {_duration(outcome.seconds)}.")
        for text in outcome.notes:
            self.note(f"{shown(outcome.source)}: {text}")

    def _event(self, event: str, source: Path, target: Path | None, about: Mapping[str, Any] | None = None) -> None:
        """Print what happened to a picture, for the machine that reads it."""
        if self._events:
            names = {"input": str(source), "output": None if target is None else str(target)}
            _write(_ascii({"v": EVENTS, "event": event, **names, **(about or {})}))

    def _count(self, outcome: Outcome) -> None:
        self._states[outcome.state] += 1
        self._forecasts.pop(outcome.source, None)
        self._open.pop(outcome.source, None)

    def _description(self, source: Path) -> str:
        """Return what the progress line is about: the picture `source`, or all where several are at work."""
        if self._at_once > 1:
            return f"{self._states.total()} of {self._total}, {len(self._open)} at work"
        return self._open[source].name

    def _time_left(self) -> str:
        """Return the time left in all, as forecast and as the last first step was slower."""
        rest = sum(
            forecast.total_seconds * (1 - self._open[source].share if source in self._open else 1)
            for source, forecast in self._forecasts.items()
        )
        return f"{_duration(self._slower * rest)} in all"

    def _summary(self) -> str:
        counts = ", ".join(f"{self._states[state]} {state}" for state in ("done", "skipped", "failed"))
        return f"{counts} of {self._total} in {_duration(time.monotonic() - self._began)}."

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Take the progress off the terminal for as long as something else is printed there."""
        if self._progress is None or not self._progress.live.is_started:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


def complain(message: str, error: BaseException | None = None) -> None:
    """Print an error on stderr: one sentence, behind the traceback of `error` if that is given."""
    console = _console()
    if error is not None:
        console.print(Text("".join(traceback.format_exception(error)).rstrip()), soft_wrap=True)
    console.print(Text.assemble(("Error: ", "bold red"), shown(message)), soft_wrap=True)


def shown(text: str | Path) -> str:
    """Return `text` on one line, with escapes for what would act on a terminal or cannot be encoded."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)
    )


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _animation(console: Console) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # only a terminal needs them

    # One line: rich, started again below other output, would climb over that output's last lines.
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[rest]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,  # rich would print results on stderr
    )


def _write(line: bytes) -> None:
    """Print a result, at once: who reads the pipe may be waiting for it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


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
        "record": dict(outcome.record),
    }


def _tagged_as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "input": str(outcome.source),
        "state": outcome.state,
        "message": outcome.message,
        "tags": [tag._asdict() for tag in outcome.tags],
    }


def _cells(plan: JobForecast) -> tuple[str, ...]:
    """Return the cells that tell of a plan, behind the picture's name."""
    before, after = (f"{width} x {height}" for height, width in (plan.sizes.picture, plan.sizes.result))
    forecast = plan.forecast
    took = _duration(forecast.total_seconds) if forecast.timed else "not known"
    return before, after, str(forecast.tiles), _bytes(sum(forecast.expected)), took


def _bytes(count: int) -> str:
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _size_as_json(size: tuple[int, int] | None) -> dict[str, int] | None:
    return None if size is None else {"width": size[1], "height": size[0]}


def _table(outcome: Outcome) -> Table:
    table = Table(title=Text(shown(outcome.source)), title_justify="left", box=None, pad_edge=False)
    table.add_column("tag", min_width=20)
    table.add_column("score", justify="right")
    table.add_column("threshold", justify="right")
    for tag in outcome.tags:
        table.add_row(Text(tag.name), f"{tag.score:.3f}", f"{tag.threshold:.3f}")
    if not outcome.tags:
        table.add_row(Text("(no tag is above its threshold)"), "", "")
    return table


def _shortened(name: str) -> str:
    """Return `name` with its middle left out where it is long: the end often tells pictures apart."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 3) // 2
    return f"{name[:half]}...{name[-half:]}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
