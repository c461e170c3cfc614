"""Divide one run among several processes, which take pictures from one queue.

Each worker has a device, or its part of the cores. It asks for its next picture when it has finished one, and runs it
through `batch.run`. What it tells is passed on to the report in the first process. Workers are processes, not threads,
because a picture is thousands of short calls from Python, for which threads would wait on each other.
"""

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ResourcesError, SeesrError, WeightsMissing
from ..files import sweep
from ..machine.imports import uncollected
from ..machine.share import Worker
from . import batch
from .inputs import read_bytes
from .outcome import Outcome, Watch
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..restore.upscaler import Upscaler

PATIENCE = 10
"""Seconds that a worker gets to end after SIGTERM, before it is killed."""

TELLING_SECONDS = 0.2
"""Between two messages about the progress within a phase."""


@dataclass
class _Hand:
    """A running worker. jobs: given to it and not finished. useful: whether it has finished any."""

    worker: Worker
    process: SpawnProcess
    jobs: list[Job] = field(default_factory=list)
    useful: bool = False


def run(
    jobs: Sequence[Job],
    request: Request,
    workers: Sequence[Worker],
    weights: Path | None,
    fingerprint: Callable[[], str],
    watch: Watch,
    foreseen: "Mapping[Path, Forecast] | None" = None,
) -> Iterator[Outcome]:
    """Restore every job's picture with several workers, and yield the Outcomes as they come.

    If a worker is ended from outside, as a system short of memory does, its picture fails. Another worker takes its
    place if it had finished any picture. No process is left when the run ends, however it ends.

    Raises what `batch.run` raises, and ResourcesError if all workers were ended from outside.

    weights: folder as for `Upscaler.load`. The other parameters are those of `batch.run`.
    """
    known = ""
    with suppress(WeightsMissing):  # pictures that are done do not need them; for others `load` says so
        known = fingerprint()
        _prepare(request, workers, weights)
    going = _Going(request, weights, known, watch, foreseen or {}, deque(jobs))
    try:
        for worker in workers[: len(jobs)]:
            going.start(worker)
        while going.hands:
            for pipe in wait(list(going.hands)):
                assert isinstance(pipe, Connection)
                yield from going.hear(pipe)
        if going.queue:
            raise ResourcesError(
                "Every process of this run was ended from outside before it had done a picture; there may be too "
                "little memory for so many: use fewer --jobs."
            )
    finally:
        going.stop()


def _prepare(request: Request, workers: Sequence[Worker], weights: Path | None) -> None:
    """Convert the weights for the workers once, so that not each of them does it."""
    from ..machine.device import choose
    from ..models import convert
    from ..weights import locate

    for place in {choose(worker.device, request.dtype, request.model.name) for worker in workers}:
        convert.prepare(request.model, locate(request.model, weights), place)


class _Going:
    """The queue of a run, and its workers by the pipes to them."""

    def __init__(
        self,
        request: Request,
        weights: Path | None,
        fingerprint: str,
        watch: Watch,
        foreseen: "Mapping[Path, Forecast]",
        queue: deque[Job],
    ) -> None:
        self.queue = queue
        self.hands: dict[Connection, _Hand] = {}
        self._context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
        self._request = request
        self._weights = weights
        self._fingerprint = fingerprint
        self._watch = watch
        self._foreseen = foreseen
        self._noted: set[str] = set()

    def start(self, worker: Worker) -> None:
        """Start one more worker."""
        here, there = self._context.Pipe()
        arguments = (worker, self._request, self._weights, self._fingerprint, there)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        # Ctrl-C reaches all processes of a terminal. This one must report and end the others, so they ignore it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        there.close()
        self.hands[here] = _Hand(worker, process)

    def hear(self, pipe: Connection) -> Iterator[Outcome]:
        """Handle the next message of a worker; yield its Outcome if it is one."""
        hand = self.hands[pipe]
        try:
            kind, *told = pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # OSError: ended in the middle of a message
            yield from self._ended(pipe, hand)
            return
        match kind:
            case "next":
                self._give(pipe, hand)
            case "outcome":
                outcome: Outcome = told[0]
                hand.jobs = [job for job in hand.jobs if job.source.path != outcome.source]
                hand.useful = True
                yield outcome
            case "error":
                raise told[0]
            case "note":
                if told[0] not in self._noted:  # every worker reads the same journal
                    self._noted.add(told[0])
                    self._watch.note(told[0])
            case _:
                getattr(self._watch, kind)(*told)

    def stop(self) -> None:
        """End all workers, and delete their part files."""
        for hand in self.hands.values():
            hand.process.terminate()
        for hand in self.hands.values():
            hand.process.join(PATIENCE)
            hand.process.kill()
            hand.process.join()
        for folder in {job.target.parent for hand in self.hands.values() for job in hand.jobs if job.target}:
            sweep(folder)

    def _give(self, pipe: Connection, hand: _Hand) -> None:
        job = self.queue.popleft() if self.queue else None
        if job is not None:
            hand.jobs.append(job)
            if job.source.stream:  # a worker has no stdin, and no pipe that was opened here
                job = replace(job, source=job.source._replace(content=read_bytes(job.source)))
        with suppress(ConnectionError):  # it has ended: `_ended` sees to its jobs when its pipe is read
            pipe.send(job and (job, self._foreseen.get(job.source.path)))

    def _ended(self, pipe: Connection, hand: _Hand) -> Iterator[Outcome]:
        """Close a worker that has ended; yield failures of the jobs that it leaves, and start another if needed."""
        del self.hands[pipe]
        pipe.close()
        hand.process.join()
        if hand.process.exitcode == 0:
            return
        for job in hand.jobs:
            yield Outcome(job.source.path, "failed", 0.0, job.target, _lost(job, hand.process.exitcode))
        for folder in {job.target.parent for job in hand.jobs if job.target}:
            sweep(folder)
        if hand.useful and self.queue:
            self.start(hand.worker)


def _lost(job: Job, code: int | None) -> str:
    """Return the sentence for a picture whose worker ended with this exit code; a negative one is a signal."""
    how = f"exit code {code}"
    with suppress(ValueError, TypeError):
        how = signal.Signals(-code).name  # type: ignore[operator]
    return (
        f"{job.source.path}: the process at work on it was ended from outside ({how}), as systems do that are short of "
        "memory: run the same command again, with fewer --jobs if it is the memory."
    )


# --- what happens in a worker -------------------------------------------------------------------------------------


class _Afar:
    """A Watch that passes everything on to the report in the first process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._told = 0.0

    def started(self, source: Path, target: Path | None) -> None:
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


def _work(worker: Worker, request: Request, weights: Path | None, fingerprint: str, pipe: Connection) -> None:
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

    try:
        for outcome in batch.run(
            queue(), request, loader(worker, request, weights), lambda: fingerprint, _Afar(pipe), foreseen
        ):
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
