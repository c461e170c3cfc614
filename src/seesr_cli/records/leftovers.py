"""Find what runs left in folders that ended before their time, and delete it."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from ..files import cause, delete_unheld
from . import latents
from .locks import LOCK, all_held

_PART = re.compile(r"\.seesr-[0-9a-f]{16}\.part")
_LATENT = re.compile(r"\.seesr-[0-9a-f]{16}\.latent")


class Leftover(NamedTuple):
    """A file of this program that nothing needs any more.

    bytes: its size.
    kept: why it is still there, in words; "" if it is deleted, or would be.
    failed: whether it ought to have been deleted.
    """

    path: Path
    bytes: int
    kept: str = ""
    failed: bool = False


def leftovers(folder: Path, delete: bool) -> Iterator[Leftover]:
    """Yield the latents, part files and locks of this program in `folder` and below it, in order.

    delete: whether they are deleted. Links are not followed, and what a running process holds is kept: a part that is
    being written, and where any picture of a folder is being made, the folder's lock and all latents below it. Results,
    sidecars, journals, latents that --keep-latents left, and files of others are no leftovers.
    """
    with ExitStack() as held:
        busy = [above for above in (folder, *folder.absolute().parents) if _is_busy(above / LOCK, held)]
        yield from _in_folder(folder, bool(busy), delete, held)


def _in_folder(folder: Path, busy: bool, delete: bool, held: ExitStack) -> Iterator[Leftover]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield Leftover(folder, 0, f"it cannot be read ({cause(error)})", failed=True)
        return
    names = {entry.name for entry in entries}
    busy = busy or (LOCK in names and _is_busy(folder / LOCK, held))
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _in_folder(path, busy, delete, held)
        elif entry.is_file(follow_symlinks=False) and _is_ours(path):
            yield _settled(path, entry.stat(follow_symlinks=False).st_size, busy, delete)


def _is_ours(path: Path) -> bool:
    """Return whether the file is a leftover of this program, by its name and, where it has any, its contents."""
    if _LATENT.fullmatch(path.name):
        return latents.is_latent(path)
    return path.name == LOCK or _PART.fullmatch(path.name) is not None


def _settled(path: Path, size: int, busy: bool, delete: bool) -> Leftover:
    """Return what becomes of a leftover, which is deleted if it may be and `delete` says so."""
    if busy and not path.name.endswith(".part"):
        return Leftover(path, size, "a run is at work there")
    try:
        if not delete_unheld(path, delete):
            return Leftover(path, size, "it is being written")
    except OSError as error:
        return Leftover(path, size, f"it cannot be deleted ({cause(error)})", failed=True)
    return Leftover(path, size)


def _is_busy(lock: Path, held: ExitStack) -> bool:
    """Return whether a process holds any picture of the lock file; if none does, none begins until `held` ends."""
    with suppress(OSError):
        return lock.is_file() and not held.enter_context(all_held(lock))
    return False
