"""Divide one run among several processes, which take pictures from one queue.

Each worker has a device, or its part of the cores. It asks for its next picture when it has finished one, and runs it
through `batch.run`. What it tells is passed on to the report in the first process, which holds the claims and writes
the journal. Workers are processes, not threads, because a picture is thousands of short calls from Python, for which
threads would wait on each other.
"""

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ResourcesError, WeightsMissing
from ..files import sweep
from ..machine.share import Worker
from ..records.journal import Journal
from .afar import work
from .inputs import read_bytes
from .outcome import Outcome, Watch, busy_outcome
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast

PATIENCE = 10
"""Seconds that a worker gets to end after SIGTERM, before it is killed."""


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
        if going.left:
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
        self._queue = queue
        self._busy: deque[Job] = deque()  # that another run was at work on; tried once more when the queue is empty
        self._claims: dict[Path, ExitStack] = {}  # by source, of what is given out
        self._journals: dict[Path, Journal] = {}
        self.hands: dict[Connection, _Hand] = {}
        self._context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
        self._request = request
        self._weights = weights
        self._fingerprint = fingerprint
        self._watch = watch
        self._foreseen = foreseen
        self._noted: set[str] = set()

    @property
    def left(self) -> bool:
        """Whether there are pictures that nobody is at work on."""
        return bool(self._queue or self._busy)

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
                yield from self._give(pipe, hand)
            case "outcome":
                outcome: Outcome = told[0]
                hand.jobs = [job for job in hand.jobs if job.source.path != outcome.source]
                hand.useful = True
                self._claims.pop(outcome.source).close()
                yield outcome
            case "line":
                folder, text = told
                self._journals[folder].keep(text)
                self._tell_notes()
                with suppress(ConnectionError):
                    pipe.send("go")
            case "error":
                raise told[0]
            case "note":
                self._note(told[0])
            case _:
                getattr(self._watch, kind)(*told)

    def stop(self) -> None:
        """End all workers, delete their part files, and close the journals."""
        for hand in self.hands.values():
            hand.process.terminate()
        for hand in self.hands.values():
            hand.process.join(PATIENCE)
            hand.process.kill()
            hand.process.join()
        for folder in {job.target.parent for hand in self.hands.values() for job in hand.jobs if job.target}:
            sweep(folder)
        for claim in self._claims.values():
            claim.close()
        for journal in self._journals.values():
            journal.close()

    def _give(self, pipe: Connection, hand: _Hand) -> Iterator[Outcome]:
        """Give the worker its next picture; yield the Outcomes of pictures that another run is still at work on."""
        job = None
        while job is None and (self._queue or self._busy):
            again = not self._queue
            job = self._busy.popleft() if again else self._queue.popleft()
            if not self._claimed(job):
                if again:
                    yield busy_outcome(job)
                else:
                    self._busy.append(job)
                job = None
        if job is not None:
            hand.jobs.append(job)
            if job.source.stream:  # a worker has no stdin, and no pipe that was opened here
                job = replace(job, source=job.source._replace(content=read_bytes(job.source)))
        with suppress(ConnectionError):  # it has ended: `_ended` sees to its jobs when its pipe is read
            pipe.send(job and (job, self._foreseen.get(job.source.path)))

    def _claimed(self, job: Job) -> bool:
        """Claim the path of the job's result, and return whether that could be done."""
        assert job.folder is not None  # what goes to stdout is one picture
        assert job.target is not None
        if job.folder not in self._journals:
            self._journals[job.folder] = Journal.open(job.folder, self._request.alone)
        with ExitStack() as claim:
            mine = claim.enter_context(self._journals[job.folder].claim(job.target))
            self._tell_notes()
            if mine:
                self._claims[job.source.path] = claim.pop_all()
        return mine

    def _tell_notes(self) -> None:
        for journal in self._journals.values():
            for note in journal.notes:
                self._note(note)

    def _note(self, text: str) -> None:
        """Tell a sentence once: every worker reads the same journals."""
        if text not in self._noted:
            self._noted.add(text)
            self._watch.note(text)

    def _ended(self, pipe: Connection, hand: _Hand) -> Iterator[Outcome]:
        """Close a worker that has ended; yield failures of the jobs that it leaves, and start another if needed."""
        del self.hands[pipe]
        pipe.close()
        hand.process.join()
        if hand.process.exitcode == 0:
            return
        for job in hand.jobs:
            self._claims.pop(job.source.path).close()
            yield Outcome(job.source.path, "failed", 0.0, job.target, _lost(job, hand.process.exitcode))
        for folder in {job.target.parent for job in hand.jobs if job.target}:
            sweep(folder)
        if hand.useful and self.left:
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
