"""The page of `--compare`: refused before a run if it cannot be written, and written after it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..run.outcome import Outcome
    from ..run.outputs import Job


def check_page(page: Path, overwrite: bool) -> None:
    """Raise UsageError if no page may be written at `page`, before a run has spent its hours."""
    from ..report.page import is_ours

    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--compare {page} is no name of a page: end it with .html.")
    if os.path.lexists(page) and not overwrite and not is_ours(page):
        raise UsageError(f"{page} is already there and no page of seesr: give --compare another name, or --overwrite.")


def write_page(page: Path, jobs: "Sequence[Job]", outcomes: "Sequence[Outcome]", overwrite: bool) -> None:
    """Write the page that compares the pictures before and after, in the order of the jobs."""
    from ..report.page import PageEntry, is_ours, write

    places = {job.source.path: place for place, job in enumerate(jobs)}
    entries = [
        PageEntry(
            source=outcome.source,
            target=outcome.target,
            state=outcome.state if outcome.kept_seconds is None else "done",
            message=outcome.message,
            seconds=outcome.seconds if outcome.kept_seconds is None else outcome.kept_seconds,
            size_in=outcome.size_in,
            size_out=outcome.size_out,
            tags=tuple((tag.name, tag.score) for tag in outcome.tags),
            prompt=outcome.prompt,
            settings={"model": outcome.record["model"]["name"], **outcome.record["settings"]} if outcome.record else {},
            notes=outcome.notes,
        )
        for outcome in sorted(outcomes, key=lambda outcome: places[outcome.source])
    ]
    write(page, entries, page.stem, overwrite=overwrite or is_ours(page))
