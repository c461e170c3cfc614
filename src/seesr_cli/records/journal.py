"""The journal of a folder of results: the pictures that are done, their origin, and the runs at work.

A result gets its name in three steps: its part file is complete; a line here tells of it; the part is renamed. Whatever
moment a run is ended at, the line is there before the file, so a file that no line tells of is somebody else's.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

from ..errors import UsageError
from ..files import cause, composed, sync
from ..wording import counted
from .lines import STREAM, Key, Line, Made, as_text, is_cut_short, local, parsed, portable
from .locks import held
from .writer import JOURNAL, WRITERS, Writer, writers

State = Literal["absent", "done", "stale", "other", "edited", "foreign"]


class Found(NamedTuple):
    """The state of a result's path, with the last line about it."""

    state: State
    line: "Line | None" = None


class Journal:
    """The results in one folder and below it, as remembered in `.seesr-journal.jsonl` and `.seesr-journal/` there.

    Several processes, on several hosts, may use it at once, and see what the others wrote; of one process, one thread.
    What cannot be read or kept makes no picture fail: it is told in `notes`, sentences that grow with time, each there
    once.
    """

    def __init__(self, folder: Path, alone: bool) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self.notes: list[str] = []
        self._alone = alone
        self._writer = Writer(folder, alone)
        self._lines: dict[str, list[Line]] = {}
        self._spelled: dict[str, str] = {}  # how the journal writes names that are not ASCII
        self._ends: dict[Path, int] = {}  # of what was read of each file
        self._cut_short: dict[Path, bool] = {}  # whether the last line of each file is
        self._hashed: dict[tuple[str, int, int], str] = {}
        self._since: set[str] | None = None  # what was recorded after the journal was opened
        self._asked_for_others = False

    @classmethod
    def open(cls, folder: Path, alone: bool = False) -> Self:
        """Return the present journal of `folder`, empty if there is no file; nothing is written, no folder made.

        Lines that are damaged or of a later version are passed over, and `notes` says how many. A line that was cut
        short tells of a picture that had no name yet when its run was killed; `notes` says so of a last line alone.

        alone: whether a person vouches that no other run writes there; it matters where the folder has no locks.
        """
        journal = cls(folder, alone)
        unreadable, later = journal._read()
        journal._since = set()
        for path in (path for path, cut_short in journal._cut_short.items() if cut_short):
            journal._note(
                f"{path}: the last line was cut short, as by a run that was killed: nothing else is lost by it."
            )
        if unreadable:
            journal._note(
                f"{journal.path}: {counted(unreadable, 'line')} cannot be read; results told of there are left alone."
            )
        if later:
            journal._note(
                f"{journal.path}: {counted(later, 'line')} of a later version of seesr; "
                "results told of there are left alone."
            )
        return journal

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Return whether there is a journal in `folder`."""
        return (folder / JOURNAL).is_file() or (folder / WRITERS).is_dir()

    def close(self) -> None:
        """End writing; the files of all writers become one if no other process is at work."""
        self._writer.close()

    def find(self, target: Path, key: Key, source: Path | None = None) -> Found:
        """Return the state of `target` for a run that wants the result of `key` there. Writes nothing.

        source: the picture that it is to be made from; None: a stream, which is known by its contents alone.

        absent: no file. done: the result of this key. stale: a result of another key, made from the same picture and
        untouched since, that may be replaced. other: a result made from another picture. edited: the result of this
        key, changed since. foreign: anything else (of somebody else, a link, a folder). The last three are to be left
        alone. Ask while holding the claim: until then another process may still be at it.

        A file is known by size and time of change, which are compared for equality only; where they do not decide, by
        its sha256, computed once.
        """
        self._read()
        with suppress(OSError), os.scandir(target.parent):
            pass  # a client of a network folder may remember that there was no file: opening the folder makes it ask
        try:
            status = target.lstat()
        except OSError:
            return Found("absent")
        name = self._name(target)
        lines = self._lines_of(name)
        if not lines or not stat.S_ISREG(status.st_mode):
            return Found("foreign")
        alike = [line for line in lines if line.bytes == status.st_size]
        # Where clocks are coarse, two results of one size can share their time.
        digests = {line.sha256 for line in alike if line.mtime_ns == status.st_mtime_ns}
        digest = digests.pop() if len(digests) == 1 else self._digest(target, name, status) if alike else None
        known = [line for line in alike if line.sha256 == digest]
        if known:
            if any(_agree(key, line.key) for line in known):
                return Found("done", known[-1])
            same = self._is_same_picture(known[-1], key, source)
            return Found("stale" if same else "other", known[-1])
        if status.st_size == 0:  # what `replacing`, cut off, can leave where there are no links; it loses nobody's
            return Found("stale")
        return Found("edited" if _agree(key, lines[-1].key) else "foreign", lines[-1])

    def _lines_of(self, name: str) -> list[Line]:
        """Return the lines that tell of `name`, or else of the same name with its accents written otherwise."""
        return self._lines.get(name) or self._lines.get(self._spelled.get(composed(name), ""), [])

    def _is_same_picture(self, line: Line, key: Key, source: Path | None) -> bool:
        """Return whether `line` tells of a result of the picture at `source`, though it may have changed since.

        A picture is known by its path. Where no file is at the path told any more, or where there is no path, a
        picture is known by its contents: it was moved, or its folder was.
        """
        made = line.made
        if not made.path:
            return True
        if source is None or made.path == STREAM:
            return line.key.input == key.input
        here = self._origin(source)
        if made.path == here.path or (made.from_here and made.from_here == here.from_here):
            return True
        told = [local(made.path)]
        if made.from_here:
            told.append(self.folder / local(made.from_here))
        there = [path for path in told if os.path.lexists(path)]
        if not there:
            alike = composed(made.path) == composed(here.path)
            return alike or line.key.input == key.input
        try:
            return any(path.samefile(source) for path in there)
        except OSError:  # a link to nowhere
            return False

    def _origin(self, source: Path) -> Made:
        """Return how the journal tells of the picture at `source`, links among its folders resolved."""
        path = Path(os.path.realpath(source.parent), source.name)
        try:
            return Made(portable(path), portable(Path(os.path.relpath(path, os.path.realpath(self.folder)))))
        except ValueError:  # another drive of Windows
            return Made(portable(path))

    def made_meanwhile(self, target: Path) -> bool:
        """Return whether any process recorded a result at `target` since the journal was opened."""
        self._read()
        return self._since is not None and self._name(target) in self._since

    def record(
        self,
        target: Path,
        key: Key,
        file: BinaryIO,
        seconds: float,
        source: Path | None = None,
        tags: tuple[str, ...] | None = None,
    ) -> None:
        """Have the journal tell, on disk, that `file`, the complete part of `target`, is the result of `key`.

        Call at the end of the block of `replacing(target)` with the file that it opened; that is flushed, synced and
        read once. seconds: what the picture took. source: the picture; None: a stream. tags: that a person gave.
        Where the journal cannot be written, a note says so.
        """
        file.flush()
        sync(file.fileno())
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it is readable
        status = os.fstat(file.fileno())
        made = (Made(STREAM) if source is None else self._origin(source))._replace(tags=tags)
        line = Line(key, digest, status.st_size, status.st_mtime_ns, made, round(seconds, 3))
        self.keep(as_text(self._name(target), line))

    def keep(self, text: bytes) -> None:
        """Have a line on disk; where that cannot be, a note says so."""
        told, reason = parsed(text), "what was written is not read back"
        assert isinstance(told, tuple)
        try:
            for _ in range(2):  # a full disk can cut it short
                self._writer.append(text)
                self._read()
                if told[1] in self._lines.get(told[0], []):
                    return
        except OSError as error:
            reason = cause(error)
        self._note(
            f"{self._writer.path} cannot be written ({reason}): a later run will leave results of this one alone."
        )

    @contextmanager
    def claim(self, target: Path) -> Iterator[bool]:
        """Hold `target` for this process alone while the block runs; give whether that is so.

        False: another process has it, or this one already. The claim ends with the process, however that ends.

        It needs a lock file in the folder, which is made for it. Where that or a lock cannot be had, every claim is
        granted and a note says that two runs would not know of each other. Raises UsageError where there is a sign of
        another run then, unless a person vouches that there is none.
        """
        with ExitStack() as stack:
            try:
                mine = stack.enter_context(held(self.folder, self._name(target)))
            except OSError as error:
                mine = True
                self._go_without_locks(error)
            yield mine

    def _go_without_locks(self, error: OSError) -> None:
        """Tell that the folder has no locks; raise UsageError if another run seems to write there."""
        if self._alone or self._asked_for_others:
            return
        self._asked_for_others = True
        with suppress(OSError):  # where no file can be made, nobody else makes one
            self._writer.begin()
        no_locks = f"{self.folder} has no locks ({cause(error)})"
        if others := self._writer.others():
            raise UsageError(
                f"{no_locks}, and {others[-1]} is of another run, which may be at work there: two would make the same "
                "pictures and could lose results. Wait until it has ended; if it was killed, say --alone."
            )
        self._note(f"{no_locks}: two runs there would not know of each other.")

    def _name(self, target: Path) -> str:
        """Return the path from the folder to `target`, the same whatever the locale: its bytes, taken as UTF-8."""
        return portable(Path(os.path.relpath(target, self.folder)))

    def _digest(self, target: Path, name: str, status: os.stat_result) -> str | None:
        """Return the sha256 of the file at `target`, None where it cannot be read."""
        file_now = (name, status.st_size, status.st_mtime_ns)
        if file_now not in self._hashed:
            try:
                with target.open("rb") as file:
                    self._hashed[file_now] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                return None
        return self._hashed[file_now]

    def _read(self) -> tuple[int, int]:
        """Take in what was written since the last time; return how many lines are unreadable, and of a later version.

        Lines of the journal come first, because they are older. A writer's file that is gone was put together with it
        meanwhile, so that the journal is read once more.
        """
        unreadable = later = 0
        paths = [self.path, *writers(self.folder)]
        self._ends = {path: end for path, end in self._ends.items() if path in paths}
        for path in paths:
            try:
                counts = self._read_file(path)
            except (FileNotFoundError, NotADirectoryError):
                self._ends.pop(path, None)
                if path != self.path and paths[-1] != self.path:
                    paths.append(self.path)
            except OSError as error:
                self._note(f"{path} cannot be read ({cause(error)}): results told of there are left alone.")
            else:
                unreadable, later = unreadable + counts[0], later + counts[1]
        return unreadable, later

    def _read_file(self, path: Path) -> tuple[int, int]:
        """Take in what was written to one file since the last time, as `_read`. Raises OSError.

        A last line that does not end yet is read again the next time.
        """
        unreadable = later = 0
        with path.open("rb") as file:
            end = self._ends.get(path, 0)
            if os.fstat(file.fileno()).st_size < end:
                end = 0  # somebody began it anew
            file.seek(end)
            for text in file:
                whole = text.endswith(b"\n")
                end += len(text) if whole else 0
                match None if text.isspace() else parsed(text):
                    case None:
                        self._cut_short[path] = not whole and is_cut_short(text)
                        unreadable += not (text.isspace() or is_cut_short(text))
                    case int():
                        later += 1
                    case name, line:
                        lines = self._lines.setdefault(name, [])
                        if not name.isascii():
                            self._spelled[composed(name)] = name
                        if line not in lines:
                            lines.append(line)
                            if self._since is not None:
                                self._since.add(name)
                if not whole:
                    # Further on would be its rest, if it has been written by now: no line of its own.
                    break
            self._ends[path] = end
        return unreadable, later

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _agree(wanted: Key, made: Key) -> bool:
    """Return whether what was made is what is wanted; wanted weights that are not known are any."""
    return wanted == made or (not wanted.weights and wanted[:2] == made[:2])
