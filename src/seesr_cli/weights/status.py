"""List the files of a shelf and the missing ones, by the lock, without a network."""

from collections.abc import Collection
from typing import NamedTuple

from ..wording import bytes_in_words, counted
from .lock import File, Lock
from .shelf import FileState, Shelf


class Item(NamedTuple):
    """One file of the lock and how it stands on a shelf. pinned: by what its bytes are held to, in words.

    "unverified" with `pinned` "not yet" is a file that nobody has published a checksum of.
    """

    file: File
    state: FileState
    pinned: str


def items(lock: Lock, shelf: Shelf, model: str = "all") -> tuple[Item, ...]:
    """Return how every file of `model` stands, without reading any of them."""
    memory = shelf.memory()
    found = []
    for file in lock.of(model):
        pin = memory.pins.get(file.file)
        pinned = "sha256" if file.sha256 else f"commit {pin.revision[:7]}" if pin else "not yet"
        found.append(Item(file, shelf.state(file, memory), pinned))
    return tuple(found)


def lacking(lock: Lock, shelf: Shelf, model: str, half: bool = False, roles: Collection[str] = ()) -> tuple[File, ...]:
    """Return the files that must be fetched for `model` to run; with `half`, the 16-bit ones where they are published.

    A file is not lacking when it, one that can stand for it, or a copy made of it is there and verified. roles: of the
    files that are wanted; none for all.
    """
    memory = shelf.memory()
    files = [file for file in lock.of(model) if not roles or file.role in roles]
    stand_ins: dict[str, list[File]] = {}
    for file in files:
        if file.instead_of:
            stand_ins.setdefault(file.instead_of, []).append(file)
    found = []
    for file in files:
        choices = [file, *stand_ins.get(file.file, [])]
        if not file.instead_of and not any(
            shelf.state(choice, memory) in ("verified", "replaced") for choice in choices
        ):
            found.append(choices[-1] if half else file)
    return tuple(found)


def in_words(files: tuple[File, ...]) -> str:
    """Return how many files these are, and how large, where that is known."""
    size = sum(file.bytes for file in files)
    return counted(len(files), "file") + (f", {bytes_in_words(size)}" if size else "")
