"""Write a journal: every process has a file of its own, and the last one at work puts them together.

Several hosts may write on one network folder at once. Appends of two hosts to one file can replace each other there,
while a file that one process alone writes is as safe as on a disk.
"""

import os
import re
import secrets
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from ..files import sync, sync_folder
from .lines import is_cut_short
from .locks import held

JOURNAL = ".seesr-journal.jsonl"
WRITERS = ".seesr-journal"
"""Folder of the files that were not put together yet: a small one, because it is listed for every picture."""


def writers(folder: Path) -> list[Path]:
    """Return the files of the journal's writers in `folder`, the last written one at the end."""
    try:
        with os.scandir(folder / WRITERS) as entries:
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if entry.name.endswith(".jsonl")]
    except OSError:
        return []
    return [folder / WRITERS / name for _, name in sorted(files)]


class Writer:
    """The file of a journal that this process alone writes, from its first line until it is closed.

    alone: whether a person vouches that no other process writes this journal, where the folder has no locks.
    """

    def __init__(self, folder: Path, alone: bool) -> None:
        # The name tells a person who was at work; chance keeps hosts apart that share their name.
        host = re.sub(r"[^\w-]+", "-", socket.gethostname(), flags=re.ASCII)[:40]
        self.path = folder / WRITERS / f"{host}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._folder = folder
        self._alone = alone
        self._held: ExitStack | None = None
        self._whole = True  # the last line

    def begin(self) -> None:
        """Make the file, and show others that its writer lives for as long as it is open. Raises OSError."""
        if self._held is None:
            with ExitStack() as stack:
                with suppress(OSError):  # no locks: `Journal.claim` has told of it
                    stack.enter_context(held(self._folder, self.path.name, writer=True))
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch()
                sync_folder(self.path.parent)
                sync_folder(self._folder)
                self._held = stack.pop_all()

    def append(self, text: bytes) -> None:
        """Add a line, in one write, and sync it; a line that was cut short before it is ended first. Raises OSError."""
        self.begin()
        with self.path.open("ab", buffering=0) as file:
            data = b"\n" * (not self._whole) + text + b"\n"
            self._whole = False
            self._whole = file.write(data) == len(data)
            sync(file.fileno())

    def others(self) -> list[Path]:
        """Return the files of other writers, who may have ended."""
        return [path for path in writers(self._folder) if path != self.path]

    def close(self) -> None:
        """Close the file, and put all writers' files together if no other writer is at work."""
        if self._held is not None:
            self._held.close()
            self._held = None
        with ExitStack() as stack, suppress(OSError):  # what cannot be put together is read from where it is
            paths = writers(self._folder)
            try:
                names = [JOURNAL, *(path.name for path in paths)]
                free = bool(paths) and all(stack.enter_context(held(self._folder, name, writer=True)) for name in names)
            except OSError:  # no locks
                free = self._alone or paths == [self.path]
            if free:
                _merge(self._folder / JOURNAL, paths)
            elif self.path in paths and not self.path.stat().st_size:
                self.path.unlink()


def _merge(journal: Path, paths: list[Path]) -> None:
    """Move the lines of the files at `paths` to the end of `journal`, each once, also when that was begun before."""
    lines: dict[bytes, None] = {}
    for path in paths:
        with path.open("rb") as file:
            for text in file:
                if text.endswith(b"\n"):
                    lines[text] = None
                elif not is_cut_short(text):
                    lines[text + b"\n"] = None
    lines.pop(b"\n", None)
    if lines:
        with journal.open("a+b") as file:
            file.seek(0)
            last = b"\n"
            for last in file:
                lines.pop(last.removesuffix(b"\n") + b"\n", None)
            file.write(b"\n" * (not last.endswith(b"\n")) + b"".join(lines))
            file.flush()
            sync(file.fileno())
        sync_folder(journal.parent)
    for path in paths:
        path.unlink()
