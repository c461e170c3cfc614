"""Lock names in a folder for this process; the system ends a lock with the process."""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".seesr-lock"

_WRITERS = 1 << 30
"""Bytes from here to 2^31, which every system's call takes, stand for writers of a journal; those below for results."""


@contextmanager
def held(folder: Path, name: str, writer: bool = False) -> Iterator[bool]:
    """Hold `name` in `folder` while the block runs; give whether that is so, False if anybody holds it already.

    The lock file in the folder is made where it lacks. Raises OSError where that or a lock cannot be had.

    writer: whether `name` is a writer of the journal, not a result.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    offset = int.from_bytes(digest[:4]) % _WRITERS + writer * _WRITERS
    holder = _holder(folder / LOCK)
    while (mine := holder.take(offset)) and not holder.is_at(folder / LOCK):
        holder.release(offset)  # the lock file was deleted in the moment before, and the folder has another by now
        holder = _holder(folder / LOCK)
    try:
        yield mine
    finally:
        if mine:
            holder.release(offset)


@contextmanager
def all_held(path: Path) -> Iterator[bool]:
    """Hold everything that the lock file at `path` stands for, while the block runs; give whether that is so.

    For a process that writes no results there. Raises OSError where there are no locks.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        try:
            _lock(descriptor, 0, 2 * _WRITERS - 1)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


class _Holder:
    """The process's one descriptor of a lock file, and the bytes of it that are locked.

    One, because POSIX drops all locks of a process when it closes any descriptor of the file; and with a set, because
    POSIX grants a process what it has already. A byte stands for a name: two that share one only wait for each other.
    """

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self._descriptor = descriptor
        self._offsets: set[int] = set()

    def is_at(self, path: Path) -> bool:
        """Return whether the lock file is still the one at `path`."""
        with suppress(FileNotFoundError):
            status = path.stat()
            return (status.st_dev, status.st_ino) == self.identity
        return False

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

    def _lock(descriptor: int, offset: int, count: int = 1) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, count)

    def _unlock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int, offset: int, count: int = 1) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, offset)

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
