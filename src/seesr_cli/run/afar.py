"""Restore pictures in a worker process, which reports to the process that sends the pictures.

The process that began the run holds the claims and alone writes the journal. Here a result is finished up to its name,
its line is sent over, and it gets its name when the line is on disk.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..errors import SeesrError
from ..machine.imports import uncollected
from ..machine.share import Worker
from ..records.journal import Journal
from . import batch
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..restore.upscaler import Upscaler

TELLING_SECONDS = 0.2
"""Between two messages about the progress within a phase."""


class Pipe(Protocol):
    """The line to the process that began the run. Both raise EOFError or ConnectionError when that has ended."""

    def send(self, message: object, /) -> None:
        """Send a message."""

    def recv(self) -> Any:
        """Wait for a message and return it."""


class WatchAfar:
    """A Watch that passes everything on to the report of the process that began the run."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._told = 0.0

    def started(self, source: Path, target: Path | None, node: str = "") -> None:
        self._pipe.send(("started", source, target))

    def loading(self, what: str) -> None:
        self._pipe.send(("loading", what))

    def stepped(self, source: Path, done: int, total: int) -> None:
        self._pipe.send(("stepped", source, done, total))

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        if done in (0, total) or time.monotonic() - self._told >= TELLING_SECONDS:
            self._told = time.monotonic()
            self._pipe.send(("advanced", source, phase, done, total))

    def note(self, text: str) -> None:
        self._pipe.send(("note", text))


class JournalAfar(Journal):
    """A journal that is read here, and claimed and written by the process that began the run."""

    @classmethod
    def at(cls, pipe: Pipe, folder: Path) -> Self:
        """Return the journal of `folder`, written at the other end of `pipe`."""
        journal = cls.open(folder)
        journal._pipe = pipe
        return journal

    _pipe: Pipe

    @contextmanager
    def claim(self, target: Path) -> Iterator[bool]:
        """Give True: a picture is given out when its claim is held."""
        yield True

    def keep(self, text: bytes) -> None:
        """Have a line on disk before this returns."""
        self._pipe.send(("line", self.folder, text))
        self._pipe.recv()

    def close(self) -> None:
        """Do nothing: nothing was written here."""


def work(worker: Worker, request: Request, weights: Path | None, fingerprint: str, pipe: Pipe) -> None:
    """Restore the pictures that come through the pipe, until there are no more or the pipe is closed."""
    foreseen: dict[Path, Forecast] = {}

    def queue() -> Iterator[Job]:
        while True:
            pipe.send(("next",))
            if (given := pipe.recv()) is None:
                return
            job, forecast = given
            if forecast is not None:
                foreseen[job.source.path] = forecast
            yield job

    load, open_journal = loader(worker, request, weights), partial(JournalAfar.at, pipe)
    try:
        for outcome in batch.run(queue(), request, load, lambda: fingerprint, WatchAfar(pipe), foreseen, open_journal):
            pipe.send(("outcome", replace(outcome, error=_told(outcome.error))))
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        pipe.send(("error", _told(error)))


def loader(worker: Worker, request: Request, weights: Path | None) -> "Callable[[], Upscaler]":
    """Return a function that loads the model of a run for one worker."""

    def load() -> "Upscaler":
        with uncollected():
            import torch

            from ..machine.device import keep_to
            from ..restore.upscaler import Upscaler

        keep_to(worker.threads)
        if request.like is not None and request.like.threads is not None:
            torch.set_num_threads(min(request.like.threads, os.cpu_count() or 1))  # rounding depends on it
        upscaler = Upscaler.load(request.model, weights, worker.device, request.dtype, worker.share)
        upscaler.sampler.switches = replace(upscaler.sampler.switches, graphs=request.graphs)
        return upscaler

    return load


def _told(error: Exception | None) -> Any:
    """Return the error as one that can be pickled, with its traceback as a note."""
    if error is None:
        return None
    told = (
        type(error)(str(error)) if isinstance(error, SeesrError) else RuntimeError(f"{type(error).__name__}: {error}")
    )
    told.add_note("".join(traceback.format_exception(error)).rstrip())
    return told
