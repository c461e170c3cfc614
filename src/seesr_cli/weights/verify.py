"""Hash all files of a shelf again, and delete the files that no model needs."""

import glob
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import WeightsError, WeightsInvalid
from . import hub, status
from .lock import Lock
from .pull import OnPull, PullProgress, silent
from .shelf import MEMORY, PART, FileState, Shelf, default, sha256


def verify(lock: Lock, shelf: Shelf, model: str, watch: OnPull = silent) -> tuple[status.Item, ...]:
    """Hash every file of `model` on the shelf, remembered or not, and return the state of each.

    What is found is remembered where the shelf can be written.
    """
    remembers = shelf.writable or (not (shelf.root / MEMORY).exists() and os.access(shelf.root, os.W_OK))
    present = [file for file in lock.of(model) if shelf.path(file.file).is_file()]
    made = [name for name, record in shelf.memory().files.items() if record.made_of and shelf.path(name).is_file()]
    total = sum(shelf.path(name).stat().st_size for name in (*(file.file for file in present), *made))
    done = 0

    def count(name: str) -> Callable[[int], None]:
        def counted(read: int) -> None:
            nonlocal done
            done += read
            watch(PullProgress(name, done, total))

        return counted

    states: dict[str, FileState] = {}
    for file in present:
        found = sha256(shelf.path(file.file), count(file.file))
        states[file.file] = "verified" if found == shelf.sha256(file) else "unverified"
        if remembers and states[file.file] == "verified":
            shelf.record(file.file, found)
        elif remembers:
            with shelf.changing() as memory:
                memory.files.pop(file.file, None)
    for name in made:
        record = shelf.memory().files[name]
        if sha256(shelf.path(name), count(name)) != record.sha256:
            if not remembers:
                raise WeightsInvalid(f"{shelf.path(name)} is not what was made; it must be made anew.")
            shelf.forget(name)  # made anew from its sources when it is next wanted
        elif remembers:
            shelf.record(name, record.sha256, record.made_of, record.maker)
    return tuple(
        item._replace(state=states.get(item.file.file, item.state)) for item in status.items(lock, shelf, model)
    )


def prune(lock: Lock, shelf: Shelf) -> tuple[tuple[str, int], ...]:
    """Delete the files that no model needs, and return their names and sizes.

    That is: parts of downloads and of conversions, copies that are no longer what was made, and files that are in the
    lock no more. Originals that have a copy stay: the copy may be in 16 bits, and freeing them is asked for by --slim.

    A folder that this program has not made a shelf of is left as it is, and so are parts that are being written.
    """
    if not (shelf.root / MEMORY).is_dir():
        return ()
    gone = []
    for name in _names(lock, shelf):
        if not (parts := _parts(lock, shelf, name)):
            continue
        with suppress(WeightsError), shelf.alone(name, wait=False):  # another process is at it: its parts stay
            for path in parts:
                gone.append((str(path), path.stat().st_size))
                path.unlink()
    known = {file.file for file in lock.files}
    for name, record in shelf.memory().files.items():
        whole = shelf.untouched(name, record) or (
            shelf.path(name).is_file() and sha256(shelf.path(name)) == record.sha256
        )
        if not whole if record.made_of else name not in known:
            gone.append((name, free(shelf, name)))
    return tuple(gone)


def _names(lock: Lock, shelf: Shelf) -> list[str]:
    """Return the names of all files that were ever fetched to the shelf or made on it, in this version or another.

    Whatever was worked at has left a lock of its name, which tells its parts from those of others.
    """
    locks = {path.name for path in (shelf.root / MEMORY / "locks").glob("*.lock")}
    end = re.compile(rf"({re.escape(hub.PART)}|(\.\d+)?{re.escape(PART)})$")
    names = {end.sub("", path.relative_to(shelf.root).as_posix()) for path in shelf.root.rglob("*")}
    worked_at = {name for name in names if shelf.lock(name).name in locks}
    return sorted({*(file.file for file in lock.files), *shelf.memory().files, *worked_at} - {"state"})


def _parts(lock: Lock, shelf: Shelf, name: str) -> list[Path]:
    """Return the unfinished files of the shelf's file `name`, under the names that this program gives them."""
    whole = shelf.path(name)
    found = [whole.with_name(whole.name + end) for end in (hub.PART, PART)]
    found += [
        path
        for path in whole.parent.glob(f"{glob.escape(whole.name)}.*{PART}")
        if re.fullmatch(r"\d+", path.name[len(whole.name) + 1 : -len(PART)])  # of `shelf.link`
    ]
    if shelf.root == default().root:
        files = [file for file in lock.files if file.file == name]
        blobs = [(file.sha256 or name.replace("/", "--")) + hub.PART for file in files]
        sources = [source for file in files for source in file.sources if source.on_hub]
        found += [hub.blob(source, blob) for blob in blobs for source in sources]
    return sorted(path for path in dict.fromkeys(found) if path.is_file())


def free(shelf: Shelf, name: str) -> int:
    """Delete a file of the shelf, and its bytes in huggingface_hub's cache; return how many they were."""
    path = shelf.path(name)
    if not path.is_file():
        shelf.forget(name)
        return 0
    size = path.stat().st_size
    if path.is_symlink():
        pointer = path.readlink()
        if pointer.is_relative_to(hub.hub_cache()):
            content = pointer.resolve()
            if content.is_relative_to(hub.hub_cache().resolve()):
                content.unlink(missing_ok=True)
            pointer.unlink(missing_ok=True)
    shelf.forget(name)
    return size
