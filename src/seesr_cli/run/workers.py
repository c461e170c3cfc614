"""One run by several processes: each has a device, or its part of the cores, and all take pictures from one queue.

A worker asks for its next picture when it is done with one, and does with it what a run by one process does
(`batch.run`); what it tells on the way is passed on here. Processes and not threads: a picture is thousands of short
calls from Python, which threads would wait for each other with.
"""

import multiprocessing
import os
import signal
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
from .outcome import Outcome, Watch
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..restore.upscaler import Upscaler

PATIENCE = 10
"""Seconds that a worker has to end when it is told to."""


@dataclass
class _Hand:
    """A worker at work: its process, what it was given and has not told the end of, and whether it ended any."""

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
    """Restore every job's picture as `batch.run` does, by several `workers`; yield what became of each as it comes.

    A worker that is ended from outside, as by a system short of memory, costs the picture that it was at: that one
    fails, and another worker takes its place if it had done any. What would end a run of `batch.run` ends this one, and
    so does the end of every worker (ResourcesError). However it ends, none of its processes is left.

    weights: the folder as for `Upscaler.load`. The others are as for `batch.run`.
    """
    known = ""
    with suppress(WeightsMissing):  # which is nothing to pictures that are done, and told by `load` of others
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
    """Make the copies of the weights that the workers read, once and not by each of them."""
    from ..machine.device import choose
    from ..models import convert
    from ..weights import locate

    for place in {choose(worker.device, request.dtype, request.model.name) for worker in workers}:
        convert.prepare(request.model, locate(request.model, weights), place)


class _Going:
    """A run in its own process: the queue, and the workers at it by the pipes to them."""

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
        self._context = multiprocessing.get_context("spawn")  # what was forked from a process with threads can hang
        self._request = request
        self._weights = weights
        self._fingerprint = fingerprint
        self._watch = watch
        self._foreseen = foreseen
        self._noted: set[str] = set()

    def start(self, worker: Worker) -> None:
        """Let one worker more begin."""
        here, there = self._context.Pipe()
        arguments = (worker, self._request, self._weights, self._fingerprint, there)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        # Ctrl-C reaches every process of a terminal's: this one reports, and ends the others.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        there.close()
        self.hands[here] = _Hand(worker, process)

    def hear(self, pipe: Connection) -> Iterator[Outcome]:
        """Do what a worker's next message asks for; yield the outcomes that it tells of."""
        hand = self.hands[pipe]
        try:
            kind, *told = pipe.recv()
        except (EOFError, ConnectionError):
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
                if told[0] not in self._noted:  # the folder's journal tells each worker the same
                    self._noted.add(told[0])
                    self._watch.note(told[0])
            case _:
                getattr(self._watch, kind)(*told)

    def stop(self) -> None:
        """End all workers, and take away what they left half written."""
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
        with suppress(ConnectionError):  # ended meanwhile: what it had is seen to when its pipe is heard
            pipe.send(job and (job, self._foreseen.get(job.source.path)))

    def _ended(self, pipe: Connection, hand: _Hand) -> Iterator[Outcome]:
        """See to what a worker leaves that has ended, as asked or not."""
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
    """Return the sentence for a picture whose worker ended with the exit code `code`, a signal's if negative."""
    how = f"exit code {code}"
    with suppress(ValueError, TypeError):
        how = signal.Signals(-code).name  # type: ignore[operator]
    return (
        f"{job.source.path}: the process at work on it was ended from outside ({how}), as systems do that are short of "
        "memory: run the same command again, with fewer --jobs if it is the memory."
    )


# --- what happens in a worker -------------------------------------------------------------------------------------


class _Afar:
    """A `Watch` of a run whose report is printed in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def started(self, source: Path, target: Path | None) -> None:
        self._pipe.send(("started", source, target))

    def loading(self, what: str) -> None:
        self._pipe.send(("loading", what))

    def stepped(self, source: Path, done: int, total: int) -> None:
        self._pipe.send(("stepped", source, done, total))

    def note(self, text: str) -> None:
        self._pipe.send(("note", text))


def _work(worker: Worker, request: Request, weights: Path | None, fingerprint: str, pipe: Connection) -> None:
    """Restore pictures from the pipe until there are none, or nobody is at its other end."""
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
    """Return what loads the model of a run for one worker."""

    def load() -> "Upscaler":
        with uncollected():
            import torch

            from ..machine.device import keep_to
            from ..restore.upscaler import Upscaler

        keep_to(worker.threads)
        if request.like is not None and request.like.threads is not None:
            torch.set_num_threads(min(request.like.threads, os.cpu_count() or 1))  # rounding depends on it
        upscaler = Upscaler.load(request.model, weights, worker.device, request.dtype, worker.share)
        if request.compiled:
            upscaler.compile()
        return upscaler

    return load


def _told(error: Exception | None) -> Any:
    """Return an error that another process can be told, with its traceback as a note."""
    if error is None:
        return None
    told = (
        type(error)(str(error)) if isinstance(error, SeesrError) else RuntimeError(f"{type(error).__name__}: {error}")
    )
    told.add_note("".join(traceback.format_exception(error)).rstrip())
    return told
