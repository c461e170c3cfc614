"""Say for --dry-run how a run would treat each picture, without writing a file or loading a model."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import image
from ..errors import PictureError
from ..records import provenance
from ..records.journal import Journal
from ..records.lines import Key, Line
from .begin import find_result, says_made_from, tags_given
from .inputs import read_bytes
from .outcome import Watch
from .outputs import Job
from .request import Request
from .session import Session, TaggedInput

if TYPE_CHECKING:
    from ..restore.upscaler import Upscaler

MAKES_NOTHING = ("kept", "edited, kept", "another picture's, kept", "not ours, kept")
"""Intents of pictures that are left as they are."""


class Intent(NamedTuple):
    """The plan of a run for one picture. words: "new", "again: " and what changed, or one of MAKES_NOTHING."""

    job: Job
    words: str


class _Nobody(Watch):
    """A listener that ignores everything."""

    def started(self, source: Path, target: Path | None, node: str = "") -> None:
        return

    def loading(self, what: str) -> None:
        return

    def stepped(self, source: Path, done: int, total: int) -> None:
        return

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        return

    def note(self, text: str) -> None:
        return


def intents(jobs: Sequence[Job], request: Request, fingerprint: Callable[[], str]) -> Iterator[Intent]:
    """Yield the plan for each picture; an unreadable one is "new", and fails when it is begun."""

    def load() -> "Upscaler":
        raise RuntimeError("A dry run loads no model.")

    session = Session(request, load, fingerprint, _Nobody(), {}, Journal.open)
    for job in jobs:
        try:
            yield Intent(job, intent(session, job))
        except PictureError:
            yield Intent(job, "new")


def intent(session: Session, job: Job) -> str:
    """Return the plan for the job's picture: "new", "again: " with the change, or one of MAKES_NOTHING.

    Raises PictureError if the picture cannot be read.
    """
    if job.target is None or job.source.stream:
        return "new"
    sha256 = hashlib.sha256(read_bytes(job.source)).hexdigest()
    tagged, found = find_result(session, job, job.target, tags_given(session, job, sha256))
    if found.state == "absent":
        return "new"
    if session.request.overwrite:
        return "again: --overwrite"
    match found.state:
        case "done":
            return "kept"
        case "stale":
            return f"again: {_changed(session, job, job.target, tagged, found.line)} changed"
        case "other":
            return "another picture's, kept"
    return "edited, kept" if says_made_from(job.target, sha256) else "not ours, kept"


def _changed(session: Session, job: Job, target: Path, tagged: TaggedInput, line: Line | None) -> str:
    """Return the words for what differs between the result at `target` and the one that would be made."""
    wanted: Key = session.result_key(job, tagged)
    if line is None:
        return "something"
    if line.key.input != wanted.input:
        return "picture"
    if wanted.weights and line.key.weights != wanted.weights:
        return "weights"
    if line.made.tags != tagged.tags:
        return "tags"
    return ", ".join(_settings_changed(session, target)) or "settings"


def _settings_changed(session: Session, target: Path) -> list[str]:
    """Return the options whose values differ from those that the result's metadata tell."""
    try:
        xmp = image.read(target).xmp
    except PictureError:
        return []
    record = provenance.extract(xmp) if xmp else None
    before = record.get("settings") if record else None
    if not isinstance(before, dict):
        return []
    wanted = asdict(session.request.settings)
    chosen = {"tile", "overlap"} if session.request.settings.tile == "auto" else set()
    return [
        name.replace("_", "-")
        for name, value in wanted.items()
        if name in before
        and name not in chosen
        and before[name] != (list(value) if isinstance(value, tuple) else value)
    ]
