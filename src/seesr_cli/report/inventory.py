"""Print the answers of `seesr weights`: results on stdout, progress and notes on stderr."""

import difflib
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from ..weights import pull, status
from ..weights.shelf import Shelf
from ..wording import bytes_in_words, shortened

_STATES = {
    "verified": ("verified", "green"),
    "replaced": ("as copy", "green"),
    "unverified": ("unverified", "yellow"),
    "missing": ("-", "dim"),
}


class Bar:
    """One bar for the whole of a pull or a check, where stderr is a terminal; notes always, unless quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._progress: Progress | None = None
        console = _console()
        if not quiet and sys.stderr.isatty() and not console.is_dumb_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
                redirect_stdout=False,
            )
            self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, progress: pull.PullProgress) -> None:
        if progress.note and not self._quiet:
            (self._progress.console if self._progress else _console()).print(Text(progress.note), soft_wrap=True)
        if self._progress is not None:
            name = shortened(progress.file, 40)
            self._progress.update(self._task, description=name, completed=progress.done, total=progress.total)


def show(items: tuple[status.Item, ...], shelf: Shelf, as_json: bool) -> None:
    """Print how files stand: a table on a terminal, tab-separated lines in a pipe, or an object per file."""
    if as_json:
        for item in items:
            _write(json.dumps(_as_json(item, shelf)))
    elif sys.stdout.isatty():
        Console(highlight=False).print(_table(items), Text(_summary(items, shelf)), sep="\n")
    else:
        for item in items:
            file = item.file
            _write("\t".join((file.file, str(file.bytes), item.state, item.pinned, file.licence)))


def result(path: Path | str, as_json: bool = False, bytes: int | None = None) -> None:
    """Print a path, alone on its line."""
    if as_json:
        _write(json.dumps({"path": str(path)} | ({} if bytes is None else {"bytes": bytes})))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Say something on stderr."""
    _console().print(Text(text), soft_wrap=True)


def talks() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def difference(before: str, after: str, path: Path, as_json: bool) -> None:
    """Print how two texts differ, as a patch."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), f"{path} (new)", lineterm=""))
    if as_json:
        _write(json.dumps({"path": str(path), "changed": before != after, "difference": lines}))
    elif lines:
        _write("\n".join(lines))
    else:
        note("The lock is as the Hub says.")


def _table(items: tuple[status.Item, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("size", justify="right", no_wrap=True, min_width=8)
    table.add_column("here", no_wrap=True, min_width=10)
    table.add_column("pinned by", no_wrap=True, min_width=14)
    table.add_column("licence", no_wrap=True, overflow="ellipsis", ratio=1)
    folder = Path()
    for item in items:
        file = Path(item.file.file)
        if file.parent != folder and file.parent.parts:
            table.add_row(Text(f"{file.parent}/", style="bold"))
        folder = file.parent
        indent = "  " if folder.parts else ""
        name = f"{indent}{'or the same in 16 bits' if item.file.instead_of else file.name}"
        words, colour = _STATES[item.state]
        size = f"{'~' if item.file.computed else ''}{bytes_in_words(item.file.bytes)}"
        pinned = Text(item.pinned, style="yellow" if item.pinned == "not yet" else "")
        table.add_row(Text(name), size, Text(words, style=colour), pinned, Text(item.file.licence))
    return table


def _summary(items: tuple[status.Item, ...], shelf: Shelf) -> str:
    here = tuple(item.file for item in items if item.state in ("verified", "replaced"))
    whole = tuple(item.file for item in items if not item.file.instead_of)
    return f"\n{status.in_words(here)} verified, of {status.in_words(whole)}. Folder: {shelf.root}"


def _as_json(item: status.Item, shelf: Shelf) -> dict[str, object]:
    file = item.file
    return {
        "file": file.file,
        "role": file.role,
        "models": list(file.models),
        "bytes": file.bytes,
        "bytes_computed": file.computed,
        "sha256": shelf.sha256(file) or None,
        "state": item.state,
        "pinned": item.pinned,
        "licence": file.licence,
        "instead_of": file.instead_of or None,
        "path": str(shelf.path(file.file)),
        "sources": [str(source) for source in file.sources],
    }


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _write(line: str) -> None:
    print(line, flush=True)
