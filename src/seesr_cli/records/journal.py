"""What a folder of results remembers: which pictures are done, from what, and who is at work on which.

A result gets its name in three steps: its part file is complete; a line here tells of it; the part is renamed. Whatever
moment a run is ended at, the line is there before the file, so a file that no line tells of is somebody else's.
"""

import errno
import hashlib
import json
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Self

from .. import __version__
from ..errors import OutputUnwritable
from ..files import cause, replacing, sync
from ..wording import counted

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

JOURNAL = ".seesr-journal.jsonl"
LOCK = ".seesr-lock"
_BEGINNING = b'{"v": '
FORMAT = 1  # a line of a later one is passed over
STREAM = "-"
"""Stands for the path of a picture that came on stdin."""

State = Literal["absent", "done", "stale", "other", "edited", "foreign"]


class Key(NamedTuple):
    """What a result follows from: the sha256, in hex, of the input, of the settings and of the weights.

    Who asks without having the weights leaves theirs empty.
    """

    input: str
    settings: str
    weights: str


class Made(NamedTuple):
    """From which picture a result was made, and with which tags, where a person gave them.

    path: of the picture, in full; STREAM; "" in journals that do not tell.
    from_here: its path from the folder of the journal, which stays true when both are moved together; "" if there is
        none.
    tags: that a person gave, in a file or by an edited sidecar; None: the tagger's.
    """

    path: str = ""
    from_here: str = ""
    tags: tuple[str, ...] | None = None


class Line(NamedTuple):
    """What the journal tells of one file: what it was made from, and what it was when it was complete.

    seconds: that the picture took.
    """

    key: Key
    sha256: str
    bytes: int
    mtime_ns: int
    made: Made = Made()
    seconds: float = 0.0


class Found(NamedTuple):
    """What is at the path of a result, and the line that tells how it was made, or what was there last."""

    state: State
    line: "Line | None" = None


class Journal:
    """The results in one folder and below it, as remembered in `.seesr-journal.jsonl` there.

    Several processes may use it at once, and see what the others wrote; of one process, one thread. Nothing here makes
    a picture fail: what cannot be read or kept is told in `notes`, sentences that grow with time, each there once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self.notes: list[str] = []
        self._lines: dict[str, list[Line]] = {}
        self._end = 0  # of what was read of the file
        self._hashed: dict[tuple[str, int, int], str] = {}
        self._cut_short = False  # the last line
        self._since: set[str] | None = None  # what was recorded after the journal was opened

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the journal of `folder` as it is now, empty where there is none; nothing is written, no folder made.

        Lines that are damaged or of a later version are passed over, and `notes` says how many. A line that was cut
        short tells of a picture that had no name yet when its run was killed; `notes` says so of the last line alone.
        """
        journal = cls(folder)
        unreadable, later = journal._read()
        journal._since = set()
        if journal._cut_short:
            journal._note(
                f"{journal.path}: the last line was cut short, as by a run that was killed: nothing else is lost by it."
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

    def find(self, target: Path, key: Key, source: Path | None = None) -> Found:
        """Return what is at `target`, to somebody who wants the result of `key` there. Writes nothing.

        source: the picture that it is to be made from; None: a stream, which is known by its contents alone.

        absent: no file. done: the result of this key. stale: a result of another key, made from the same picture and
        untouched since, that may be replaced. other: a result made from another picture. edited: the result of this
        key, changed since. foreign: anything else (of somebody else, a link, a folder). The last three are to be left
        alone. Ask while holding the claim: until then another process may still be at it.

        A file is known by size and time of change, which are compared for equality only; where they do not decide, by
        its sha256, computed once.
        """
        self._read()
        try:
            status = target.lstat()
        except OSError:
            return Found("absent")
        name = self._name(target)
        lines = self._lines.get(name, [])
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
        told = [_local(made.path)]
        if made.from_here:
            told.append(self.folder / _local(made.from_here))
        there = [path for path in told if os.path.lexists(path)]
        if not there:
            alike = unicodedata.normalize("NFC", made.path) == unicodedata.normalize("NFC", here.path)
            return alike or line.key.input == key.input
        try:
            return any(path.samefile(source) for path in there)
        except OSError:  # a link to nowhere
            return False

    def _origin(self, source: Path) -> Made:
        """Return how the journal tells of the picture at `source`, links among its folders resolved."""
        path = Path(os.path.realpath(source.parent), source.name)
        try:
            return Made(_portable(path), _portable(Path(os.path.relpath(path, os.path.realpath(self.folder)))))
        except ValueError:  # another drive of Windows
            return Made(_portable(path))

    def made_meanwhile(self, target: Path) -> bool:
        """Return whether a result was recorded at `target` since the journal was opened, by whatever process."""
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
        name = self._name(target)
        about = {"v": FORMAT, "output": name} | key._asdict() | {"sha256": digest, "bytes": line.bytes}
        about |= {"mtime_ns": line.mtime_ns, "seconds": line.seconds, "seesr": __version__}
        about |= _made_as_json(made)
        reason = "what was written is not read back"
        try:
            # Another process may be ended in the middle of its line, and ours become the end of that: then once more.
            for _ in range(2):
                self._append(json.dumps(about).encode("ascii"))
                self._read()
                if line in self._lines.get(name, []):
                    return
        except OSError as error:
            reason = cause(error)
        self._note(f"{self.path} cannot be written ({reason}): a later run will leave results of this one alone.")

    @contextmanager
    def claim(self, target: Path) -> Iterator[bool]:
        """Hold `target` for this process alone while the block runs; give whether that is so.

        False: another process has it, or this one already. The claim ends with the process, however that ends. It needs
        a lock file in the folder, which is made for it; where that or a lock cannot be had, every claim is granted and
        a note says that two runs would not know of each other.
        """
        offset = int.from_bytes(hashlib.sha256(self._name(target).encode("utf-8", "surrogateescape")).digest()[:4]) >> 1
        holder: _Holder | None = None
        mine = True
        try:
            holder = _holder(self.folder / LOCK)
            mine = holder.take(offset)
        except OSError as error:
            self._note(f"{self.folder} has no locks ({cause(error)}): two runs there would not know of each other.")
            holder = None
        try:
            yield mine
        finally:
            if holder and mine:
                holder.release(offset)

    def _name(self, target: Path) -> str:
        """Return the path from the folder to `target`, the same whatever the locale: its bytes, taken as UTF-8."""
        return _portable(Path(os.path.relpath(target, self.folder)))

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

        A last line that does not end yet is read again the next time.
        """
        unreadable = later = 0
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._end:
                    self._end = 0  # somebody began it anew
                file.seek(self._end)
                for text in file:
                    whole = text.endswith(b"\n")
                    self._end += len(text) if whole else 0
                    match None if text.isspace() else _parsed(text):
                        case None:
                            self._cut_short = not whole and _is_cut_short(text)
                            unreadable += not (text.isspace() or _is_cut_short(text))
                        case int():
                            later += 1
                        case name, line:
                            lines = self._lines.setdefault(name, [])
                            if line not in lines:
                                lines.append(line)
                                if self._since is not None:
                                    self._since.add(name)
                    if not whole:
                        # Further on would be its rest, if another process has written that by now: no line of its own.
                        break
        except (FileNotFoundError, NotADirectoryError):
            self._end = 0
        except OSError as error:
            self._note(f"{self.path} cannot be read ({cause(error)}): results told of there are left alone.")
        return unreadable, later

    def _append(self, text: bytes) -> None:
        """Add a line, in one write, and sync it; a line that was cut short before it is ended first."""
        if not self.path.exists():
            # So that the folder's entry is on disk too. Another process may be faster, which is as good.
            with suppress(OutputUnwritable), replacing(self.path):
                pass
        with self.path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            # Another process's line can be half visible here: then ours comes after an empty one, which is passed over.
            file.seek(max(size - 1, 0))
            cut_short = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * cut_short + text + b"\n")
            sync(file.fileno())

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _agree(wanted: Key, made: Key) -> bool:
    """Return whether what was made is what is wanted; wanted weights that are not known are any."""
    return wanted == made or (not wanted.weights and wanted[:2] == made[:2])


def _parsed(text: bytes) -> tuple[str, Line] | int | None:
    """Return the output's name and the line that `text` is, a later version's number, or None for anything else."""
    try:
        about = json.loads(text.decode("ascii"))
        version = about["v"]
        if type(version) is int and version > FORMAT:
            return version
        key = Key(about["input"], sys.intern(about["settings"]), sys.intern(about["weights"]))
        line = Line(key, about["sha256"], about["bytes"], about["mtime_ns"], seconds=about.get("seconds", 0.0))
        name = about["output"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    made = _made_from_json(about)
    if made is None or {str} != {*map(type, (name, *key, line.sha256))}:
        return None
    if {int} != {*map(type, (version, line.bytes, line.mtime_ns))} or type(line.seconds) not in (int, float):
        return None
    return (name, line._replace(made=made)) if version == FORMAT else None


def _is_cut_short(text: bytes) -> bool:
    """Return whether `text` is the beginning of a line, as a killed run or a power cut leaves it: NULs may follow."""
    told = text.rstrip(b"\n").rstrip(b"\0")
    if len(told) <= len(_BEGINNING):
        return bool(told) and _BEGINNING.startswith(told)
    return told.startswith(_BEGINNING) and not told.endswith(b"}")


def _made_as_json(made: Made) -> dict[str, Any]:
    """Return the fields of a line that tell how a result was made, without those that are empty."""
    fields = {"source": made.path, "source_from_here": made.from_here, "tags": made.tags}
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _made_from_json(about: dict[str, Any]) -> Made | None:
    """Return what `_made_as_json` gave, or None for anything else."""
    path, from_here, tags = about.get("source", ""), about.get("source_from_here", ""), about.get("tags")
    if type(path) is not str or type(from_here) is not str:
        return None
    if tags is not None and not (type(tags) is list and all(type(tag) is str for tag in tags)):
        return None
    return Made(path, from_here, None if tags is None else tuple(tags))


def _portable(path: Path) -> str:
    """Return `path`, the same whatever the locale: its bytes, taken as UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "surrogateescape")


def _local(path: str) -> Path:
    """Return the path that `_portable` told of."""
    return Path(os.fsdecode(path.encode("utf-8", "surrogateescape")))


class _Holder:
    """This process's one descriptor of a lock file, and the bytes of it that it has locked.

    One, because POSIX drops all locks of a process when it closes any descriptor of the file; and with a set, because
    POSIX grants a process what it has already. A byte stands for a target: two that share one only wait for each other.
    """

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self._descriptor = descriptor
        self._offsets: set[int] = set()

    def take(self, offset: int) -> bool:
        """Lock the byte at `offset`; return False where it is locked. Raises OSError where there are no locks."""
        if offset in self._offsets:
            return False
        try:
            _lock(self._descriptor, offset)
        except OSError as error:
            self._close_unless_needed()
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        self._offsets.add(offset)
        return True

    def release(self, offset: int) -> None:
        """Unlock the byte at `offset`."""
        _unlock(self._descriptor, offset)
        self._offsets.remove(offset)
        self._close_unless_needed()

    def _close_unless_needed(self) -> None:
        if not self._offsets:
            del _holders[self.identity]
            os.close(self._descriptor)


_holders: dict[tuple[int, int], _Holder] = {}  # by device and inode, whatever the folder is called


def _holder(path: Path) -> _Holder:
    """Return what this process holds of the lock file at `path`, which is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        status = path.stat()
        if found := _holders.get((status.st_dev, status.st_ino)):
            return found
    holder = _Holder(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    return _holders.setdefault(holder.identity, holder)


if sys.platform == "win32":

    def _lock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
