"""Restore many pictures: a queue of them, and groups of one size that are sampled together.

Every picture gets one Outcome, whatever happens to the others. The model is loaded when the first picture that needs
it has been read.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..errors import OutputUnwritable
from ..records import latents
from ..records.journal import Journal
from .begin import InProgress, begin
from .finish import finish
from .outcome import Outcome, Watch, busy_outcome, raise_if_disk_full
from .outputs import Job
from .request import Request
from .session import Session

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..restore.sampled import Sampled
    from ..restore.upscaler import Upscaler


def run(
    jobs: Iterable[Job],
    request: Request,
    load: "Callable[[], Upscaler]",
    fingerprint: Callable[[], str],
    watch: Watch,
    foreseen: "Mapping[Path, Forecast] | None" = None,
    open_journal: Callable[[Path], Journal] | None = None,
) -> Iterator[Outcome]:
    """Restore every job's picture and yield the Outcomes in order, each as soon as it is known.

    A picture is skipped if its result exists already, made from the same input, settings and weights, also if a person
    edited the result since. A picture fails if the file at the path of its result is anybody else's, or is the result
    of another picture, unless `request.overwrite`. A picture that another process is at work on is tried again at the
    end, and fails if it is still not done then.

    Pictures whose frames have one size are sampled together, as many as memory holds. So several jobs are taken from
    the iterator before the first one is done.

    load: loads the model; called once, when the first picture that needs it was read and its path was checked.
    fingerprint: gives the fingerprint of the weights.
    foreseen: forecasts by source; they learn from the time that the pictures took.
    open_journal: gives the journal of a folder; None: one that this process writes.

    Raises what would make every picture fail: UsageError, WeightsError, ResourcesError, and whatever `load` raises.
    """
    busy: list[Job] = []
    open_journal = open_journal or partial(Journal.open, alone=request.alone)
    with _Queue(Session(request, load, fingerprint, watch, foreseen or {}, open_journal)) as queue:
        for outcome in chain(queue.restore(jobs, busy), queue.restore(busy)):
            yield outcome
            raise_if_disk_full(outcome)


class _Queue:
    """The pictures that were begun and not finished, and the Outcomes that wait behind them, in order.

    A context manager: at its end no claim is held and the journals are closed, however it ends.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[InProgress | Outcome] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for entry in self._waiting:
            if isinstance(entry, InProgress):
                entry.claim.close()
        self._session.close()

    def restore(self, jobs: Iterable[Job], busy: list[Job] | None = None) -> Iterator[Outcome]:
        """Yield the Outcomes of the jobs' pictures, in order.

        busy: collects the jobs that another process is at work on; None: their pictures fail.
        """
        for job in jobs:
            begun = begin(self._session, job)
            if begun is None and busy is not None:
                busy.append(job)
                continue
            self._waiting.append(busy_outcome(job) if begun is None else begun)
            while count := self._complete_count():
                yield from self._release(count)
        yield from self._release(len(self._waiting))

    def _complete_count(self) -> int:
        """Return how many entries, from the head of the queue, need not wait for further pictures.

        All, if none needs sampling or if they fill a group. All but the last, if the last cannot join their group.
        """
        unsampled = [entry for entry in self._waiting if isinstance(entry, InProgress) and entry.sampled is None]
        if not unsampled:
            return len(self._waiting)
        first, last = unsampled[0], unsampled[-1]
        if last.group_key != first.group_key:
            return len(self._waiting) - 1
        return len(self._waiting) if len(unsampled) >= _group_size(self._session, first) else 0

    def _release(self, count: int) -> Iterator[Outcome]:
        """Sample the first `count` entries together, finish each, and yield the Outcomes."""
        if group := [
            entry for entry in islice(self._waiting, count) if isinstance(entry, InProgress) and entry.sampled is None
        ]:
            _sample_group(self._session, group)
        del group
        for _ in range(count):
            entry = self._waiting.popleft()
            outcome = entry if isinstance(entry, Outcome) else finish(self._session, entry)
            if outcome.state != "failed":
                self._session.tell_notes()
            yield outcome


def _group_size(session: Session, begun: InProgress) -> int:
    """Return how many pictures like `begun` are sampled together."""
    if begun.repeats:
        return 1
    return session.upscaler().pictures_a_call(begun.prepared.sizes.padded, begun.settings, session.request.batch_size)


def _sample_group(session: Session, group: list[InProgress]) -> None:
    """Sample the pictures together, or each alone if that fails; set `sampled`, or `failure`, of each."""
    start, steps, found = time.monotonic(), list[float](), list["Sampled"]()

    def stepped(done: int, total: int) -> None:
        steps.append(time.monotonic())
        for begun in group:
            session.watch.stepped(begun.job.source.path, done, total)

    def advanced(phase: str, done: int, total: int) -> None:
        for begun in group:
            session.watch.advanced(begun.job.source.path, phase, done, total)

    try:
        found = _sample(session, group, stepped, advanced)
    except Exception as error:
        if len(group) == 1:
            group[0].failure = error
    if not found and len(group) > 1:  # outside of the handler, so that the memory of the attempt is free
        for begun in group:
            _sample_group(session, [begun])
    for begun, sampled in zip(group, found, strict=False):
        begun.sampled = _keep_latent(session, begun, sampled)
    for begun in group[: len(found)]:
        begun.before += (steps[0] - start) / len(group)
        begun.steps = (steps[-1] - steps[0]) / len(group)
        begun.after = (time.monotonic() - steps[-1]) / len(group)


def _sample(
    session: Session,
    group: list[InProgress],
    stepped: Callable[[int, int], None],
    advanced: Callable[[str, int, int], None],
) -> "list[Sampled]":
    from ..restore.sampled import Wanted

    upscaler, like, first = session.upscaler(), session.request.like, group[0]
    wanted = [Wanted(begun.prepared, begun.tagged.tags) for begun in group]
    if first.repeats and like is not None:
        # Rounding can depend on the number of tiles in a call, and on the place among them: fill both with copies.
        count = upscaler.pictures_a_call(first.prepared.sizes.padded, first.settings, like.batch_size)
        copies = upscaler.sample_together(count * wanted, first.settings, stepped, like.batch_size, advanced)
        return [copies[min(like.batch_place, count - 1)]]
    return upscaler.sample_together(wanted, first.settings, stepped, session.request.batch_size, advanced)


def _keep_latent(session: Session, begun: InProgress, sampled: "Sampled") -> "Sampled":
    """Save the latent until the result is written; return it, with a note if it could not be saved."""
    if begun.job.target is None:
        return sampled
    path, key = latents.place(begun.job.target), session.latent_key(begun.tagged)
    try:
        latents.save(path, sampled.latent, sampled.about(), key)
    except OutputUnwritable as error:
        note = f"The latent could not be kept ({error}), so a failure from here on would cost the sampling."
        return sampled._replace(notes=(*sampled.notes, note))
    return sampled
