"""Divide one run among several processes, which take pictures from one queue.

Each worker has a device, or its part of the cores. It asks for its next picture when it has finished one, and runs it
through `batch.run`. What it tells is passed on to the report in the first process, which holds the claims and writes
the journal. Workers are processes, not threads, because a picture is thousands of short calls from Python, for which
threads would wait on each other.
"""

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ResourcesError, WeightsMissing
from ..machine.share import Worker
from .afar import work
from .dispatch import Dispatch, Hand
from .outcome import Outcome, Watch
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast

PATIENCE = 10
"""Seconds that a worker gets to end after SIGTERM, before it is killed."""


@dataclass
class _Process:
    """A running worker, and what is given to it."""

    worker: Worker
    process: SpawnProcess
    hand: Hand


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
    crew = _Crew(request, weights, known, Dispatch(jobs, request, watch, foreseen or {}))
    try:
        for worker in workers[: len(jobs)]:
            crew.start(worker)
        while crew.running:
            for pipe in wait(list(crew.running)):
                assert isinstance(pipe, Connection)
                yield from crew.hear(pipe)
        if crew.dispatch.left:
            raise ResourcesError(
                "Every process of this run was ended from outside before it had done a picture; there may be too "
                "little memory for so many: use fewer --jobs."
            )
    finally:
        crew.stop()


def _prepare(request: Request, workers: Sequence[Worker], weights: Path | None) -> None:
    """Convert the weights for the workers once, so that not each of them does it."""
    from ..machine.device import choose
    from ..models import convert
    from ..weights import locate

    for place in {choose(worker.device, request.dtype, request.model.name) for worker in workers}:
        convert.prepare(request.model, locate(request.model, weights), place)


class _Crew:
    """The workers of a run by the pipes to them."""

    def __init__(self, request: Request, weights: Path | None, fingerprint: str, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self.running: dict[Connection, _Process] = {}
        self._context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
        self._request = request
        self._weights = weights
        self._fingerprint = fingerprint

    def start(self, worker: Worker) -> None:
        """Start one more worker."""
        here, there = self._context.Pipe()
        arguments = (worker, self._request, self._weights, self._fingerprint, there)
        process = self._context.Process(target=work, args=arguments, daemon=True)
        # Ctrl-C reaches all processes of a terminal. This one must report and end the others, so they ignore it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        there.close()
        self.running[here] = _Process(worker, process, Hand(here.send))

    def hear(self, pipe: Connection) -> Iterator[Outcome]:
        """Handle the next message of a worker; yield the Outcomes that follow from it."""
        running = self.running[pipe]
        try:
            message = pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # OSError: ended in the middle of a message
            yield from self._ended(pipe, running)
        else:
            yield from self.dispatch.hear(running.hand, message)

    def stop(self) -> None:
        """End all workers, delete their part files, and close the journals."""
        for running in self.running.values():
            running.process.terminate()
        for running in self.running.values():
            running.process.join(PATIENCE)
            running.process.kill()
            running.process.join()
        self.dispatch.close([running.hand for running in self.running.values()])

    def _ended(self, pipe: Connection, running: _Process) -> Iterator[Outcome]:
        """Close a worker that has ended; yield failures of the jobs that it leaves, and start another if needed."""
        del self.running[pipe]
        pipe.close()
        running.process.join()
        if running.process.exitcode == 0:
            return
        yield from self.dispatch.lost(running.hand, _lost(running.process.exitcode))
        if running.hand.useful and self.dispatch.left:
            self.start(running.worker)


def _lost(code: int | None) -> str:
    """Return what is said of a picture whose worker ended with this exit code; a negative one is a signal."""
    how = f"exit code {code}"
    with suppress(ValueError, TypeError):
        how = signal.Signals(-code).name  # type: ignore[operator]
    return (
        f"the process at work on it was ended from outside ({how}), as systems do that are short of memory: run the "
        "same command again, with fewer --jobs if it is the memory."
    )
