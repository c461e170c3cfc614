"""Give out the pictures of a run to those who restore them elsewhere, and take in what they tell.

The process that began the run holds the claims and alone writes the journal. So a result gets its name once, whatever
happens to who made it, and what was given to somebody who is lost can be given to another. `workers` and `cluster`
carry the messages: to processes of this machine, and to other machines.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import sweep
from ..records.journal import Journal
from .inputs import read_bytes
from .outcome import Outcome, Watch, busy_outcome
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast

LOOKED_THROUGH = 256
"""Pictures at the front of the queue among which one of the same size is looked for."""

SUSPECT = 2
"""Times that somebody was lost while at work on a picture, after which it is not given out again."""


@dataclass
class Hand:
    """Somebody who restores pictures elsewhere.

    send: hands a message over; raises ConnectionError if nobody is there any more.
    node: name of the machine; empty: this one.
    jobs: given to it and not finished.
    at: source of the picture that it told of last.
    useful: whether it has finished any.
    """

    send: Callable[[object], None]
    node: str = ""
    jobs: list[Job] = field(default_factory=list)
    at: Path | None = None
    useful: bool = False


class Dispatch:
    """The pictures of a run that wait, and those that are given out, with their claims.

    retries: how often a picture is given out again after somebody was lost who had it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        request: Request,
        watch: Watch,
        foreseen: "Mapping[Path, Forecast]",
        retries: int = 0,
    ) -> None:
        self._queue = deque(jobs)
        self._busy: deque[Job] = deque()  # that another run was at work on; tried once more when the queue is empty
        self._request = request
        self._watch = watch
        self._foreseen = foreseen
        self._retries = retries
        self._losses: Counter[Path] = Counter()
        self._suspected: Counter[Path] = Counter()
        self._claims: dict[Path, ExitStack] = {}  # by source, of what is given out
        self._journals: dict[Path, Journal] = {}
        self._noted: set[str] = set()

    @property
    def left(self) -> int:
        """How many pictures nobody is at work on."""
        return len(self._queue) + len(self._busy)

    def hear(self, hand: Hand, message: tuple[Any, ...]) -> Iterator[Outcome]:
        """Handle a message; yield the Outcomes that follow from it. Raises what ends the run."""
        kind, *told = message
        match kind:
            case "next":
                yield from self._give(hand)
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
                    hand.send("go")
            case "error":
                raise told[0]
            case "note":
                self.note(told[0])
            case "started":
                hand.at = told[0]
                self._watch.started(told[0], told[1], hand.node)
            case "loading":
                self._watch.loading(*told)
            case _:
                hand.at = told[0]
                getattr(self._watch, kind)(*told)

    def lost(self, hand: Hand, sentence: str) -> Iterator[Outcome]:
        """Put the pictures of a hand that was lost back to the front; yield the Outcomes of those that fail instead.

        sentence: says of a picture how it was lost, behind its name.
        """
        for job in reversed(hand.jobs):
            source = job.source.path
            self._losses[source] += 1
            self._suspected[source] += source == hand.at
            if self._losses[source] > self._retries or self._suspected[source] >= SUSPECT:
                self._claims.pop(source).close()
                again = f" It was tried {self._losses[source]} times." if self._losses[source] > 1 else ""
                yield Outcome(source, "failed", 0.0, job.target, f"{source}: {sentence}{again}")
            else:
                self._queue.appendleft(job)
        self._sweep(hand.jobs)
        hand.jobs = []

    def note(self, text: str) -> None:
        """Tell a sentence once: everybody reads the same journals."""
        if text not in self._noted:
            self._noted.add(text)
            self._watch.note(text)

    def close(self, hands: Sequence[Hand]) -> None:
        """Delete the part files of `hands`, who have ended; give all claims back, and close the journals."""
        self._sweep([job for hand in hands for job in hand.jobs])
        for claim in self._claims.values():
            claim.close()
        for journal in self._journals.values():
            journal.close()

    def _give(self, hand: Hand) -> Iterator[Outcome]:
        """Give the hand its next picture; yield the Outcomes of pictures that another run is still at work on."""
        job = None
        while job is None and self.left:
            again = not self._queue
            job = self._busy.popleft() if again else self._next(hand)
            if not self._claimed(job):
                if again:
                    yield busy_outcome(job)
                else:
                    self._busy.append(job)
                job = None
        if job is not None:
            hand.jobs.append(job)
            if job.source.stream:  # elsewhere there is no stdin, and no pipe that was opened here
                job = replace(job, source=job.source._replace(content=read_bytes(job.source)))
        with suppress(ConnectionError):  # it is lost: its jobs are seen to when that is noticed
            hand.send(job and (job, self._foreseen.get(job.source.path)))

    def _next(self, hand: Hand) -> Job:
        """Take a picture from the queue: one of the size of those that the hand collects to sample them together."""
        if hand.jobs and (size := self._size(hand.jobs[-1])) is not None:
            for place, job in enumerate(islice(self._queue, LOOKED_THROUGH)):
                if self._size(job) == size:
                    del self._queue[place]
                    return job
        return self._queue.popleft()

    def _size(self, job: Job) -> object:
        forecast = self._foreseen.get(job.source.path)
        return None if forecast is None else forecast.case.sizes.padded

    def _claimed(self, job: Job) -> bool:
        """Claim the path of the job's result, and return whether that could be done."""
        assert job.folder is not None  # what goes to stdout is one picture
        assert job.target is not None
        if job.source.path in self._claims:  # somebody was lost who had it
            return True
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
                self.note(note)

    def _sweep(self, jobs: Sequence[Job]) -> None:
        """Delete the part files of processes that ended while they were at work on these."""
        for folder in {job.target.parent for job in jobs if job.target}:
            sweep(folder)
