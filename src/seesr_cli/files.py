"""Files that appear whole or not at all."""

import errno
import json
import os
import secrets
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from .errors import OutputUnwritable, UsageError

if sys.platform != "win32":
    import fcntl

_PART = (".seesr-", ".part")
"""How names of unfinished files begin and end."""


@contextmanager
def replacing(path: Path, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears at `path`, whole and on disk, when the block ends without an error.

    Unless `overwrite`, a file that is at `path` by then is left as it is. Raises OutputUnwritable.
    """
    part = part_beside(path)
    try:
        with _opened(part) as file:
            yield file
            file.flush()
            sync(file.fileno())
        if overwrite:
            part.replace(path)
        else:
            _move_to_free(part, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:  # of a library that has something to say of the contents, and nothing of the place
            raise
        raise OutputUnwritable(unwritable(path, error)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON to `path`, whole or not at all, and make its folder. Raises OutputUnwritable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritable(unwritable(path, error)) from error
    with replacing(path, overwrite=True) as file:
        file.write(json.dumps(content, indent=1).encode())


def part_beside(path: Path) -> Path:
    """Return a name beside `path`, hidden, that nobody uses; short, since `path`'s own may be as long as names get."""
    return path.with_name(secrets.token_hex(8).join(_PART))


def _opened(part: Path) -> BinaryIO:
    """Open the new file `part`, marked as being written for as long as it is open and this process lives."""
    while True:
        file = part.open("x+b")
        _marked(file)
        if part.exists():
            return file
        file.close()  # swept away in the moment before it was marked


def _marked(file: BinaryIO) -> bool:
    """Mark an open file as this process's own, and return whether that could be done: it may be another's."""
    if sys.platform == "win32":
        return True  # there an open file cannot be deleted
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(folder: Path) -> None:
    """Delete the unfinished files that killed processes left in `folder`; those being written now stay."""
    try:
        with os.scandir(folder) as entries:
            parts = [
                entry.path for entry in entries if entry.name.startswith(_PART[0]) and entry.name.endswith(_PART[1])
            ]
    except OSError:
        return
    for part in parts:
        with suppress(OSError):
            delete_unheld(Path(part))


def delete_unheld(path: Path, delete: bool = True) -> bool:
    """Delete the file at `path`, and return whether that may be: not while a process is writing it.

    delete: whether to do it, or to say only. Raises OSError.
    """
    with path.open("r+b") as file:
        if not _marked(file):
            return False
        if delete:
            path.unlink()
    return True


def _move_to_free(part: Path, path: Path) -> None:
    """Give `part` the name `path`, or raise FileExistsError: in one step, so that no file is lost in between."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:
        # No links here (exFAT, some network drives): claim the name with an empty file, then take its place.
        path.open("xb").close()
        part.replace(path)


def sync_folder(folder: Path) -> None:
    """Have the folder's new entry on disk too; Windows and some network drives know no such thing."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync(descriptor: int) -> None:
    """Have the written bytes on disk, if the file system can: some network drives cannot.

    Raises OSError for what is wrong with the disk (EIO, ENOSPC and others).
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def unwritable(path: Path, error: OSError) -> str:
    """Return the sentence for a file that could not be written at `path`."""
    match error.errno:
        case errno.EEXIST:
            return f"{path} is already there and was left alone: use --overwrite, or another name with -o."
        case errno.ENOENT | errno.ENOTDIR:
            return f"{path} cannot be written, {path.parent} is not a folder that takes files: choose another with -o."
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"{path} cannot be written ({cause(error)}): make room, or choose another place with -o."
        case _:
            return f"{path} cannot be written ({cause(error)}): choose another place with -o."


def from_home(path: str, exact: bool = False) -> str:
    """Return `path` with the home folder in the place of its `~`. Raises UsageError where there is no home.

    exact: whether a file of that very name wins.
    """
    if not path.startswith("~") or (exact and os.path.lexists(path)):
        return path
    found = os.path.expanduser(path)  # noqa: PTH111 - pathlib drops the / at the end
    if found == path and path.split("/")[0] == "~":
        raise UsageError(f"{path} begins with your home folder, and this user has none: set HOME, or give all folders.")
    return found


def as_spelled(path: Path, listings: dict[Path, dict[str, str]] | None = None) -> Path:
    """Return the path under which the folder holds `path`, whose accents may be written otherwise there.

    A Mac writes an accent apart from its letter (NFD), others write both as one (NFC); to people, and in folders that
    were copied, they are one name. What is there under neither is returned as it is. listings: of folders that were
    looked through, to be kept between many questions.
    """
    if str(path).isascii() or path == path.parent or os.path.lexists(path):
        return path
    listings = {} if listings is None else listings
    folder = as_spelled(path.parent, listings)
    if folder not in listings:
        names: list[str] = []
        with suppress(OSError):
            names = [path.name for path in folder.iterdir()]
        listings[folder] = {composed(name): name for name in names if not name.isascii()}
    return folder / listings[folder].get(composed(path.name), path.name)


def composed(name: str) -> str:
    """Return `name` in the one spelling of its accents that names are compared in."""
    return unicodedata.normalize("NFC", name)


def disk_is_full(error: BaseException) -> bool:
    """Return whether `error` is the system's word that a disk, or a person's part of it, has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def cause(error: BaseException) -> str:
    """Return the system's words for `error`, without numbers and names; for a full disk our own."""
    if disk_is_full(error):
        return "the disk is full"
    return getattr(error, "strerror", None) or str(error)


def cache_folder() -> Path:
    """Return the folder for files that the program can make again; the folder need not exist."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(given)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", _home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        folder = _home() / "Library" / "Caches"
    else:
        folder = _home() / ".cache"
    return folder / "seesr"


def _home() -> Path:
    """Return the person's home folder, or a folder of this process for a user that has no home."""
    return home() or Path(_nowhere().name)


def home() -> Path | None:
    """Return the person's home folder; None for a user that has none, as in many containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None


@cache
def _nowhere() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder that is gone when the process ends; never one of a name that others could have made before."""
    return tempfile.TemporaryDirectory(prefix="seesr-")
