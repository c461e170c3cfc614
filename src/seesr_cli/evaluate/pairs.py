"""Results and the pictures that belong to them, found by name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from .. import image
from ..errors import UsageError
from ..files import composed

Role = Literal["result", "reference", "input"]

# What results and references have behind the name of their picture: a scale or size (4, 2.5, w3000h2000), or a word.
_MARKS = {
    "result": re.compile(r"_x[whlm]?\d+(?:\.\d+)?(?:h\d+)?$|_result$", re.IGNORECASE),
    "reference": re.compile(r"_reference$", re.IGNORECASE),
    "input": re.compile(r"_input$", re.IGNORECASE),
}
_NAMED = 5
"""Names in one sentence; the rest is counted."""


class Pair(NamedTuple):
    """A result and the pictures that it is measured against. name: what their names have in common, with folders."""

    name: str
    result: Path
    reference: Path | None = None
    input: Path | None = None
    against: Path | None = None


def pair(results: Path, reference: Path | None, source: Path | None, against: Path | None) -> tuple[Pair, ...]:
    """Return the results of a folder with their references, inputs and rivals, in the order of their names.

    Each is a folder, searched with the folders in it, or a single picture. Names pair by their stem, without `_x4` (or
    another size), `_result` and `_reference`. Raises UsageError, naming names: for what is not there, holds no
    pictures, has two pictures for one name, or has no partner.
    """
    if all(path is None or path.is_file() for path in (reference, source, against)) and results.is_file():
        return (Pair(_plain(results.stem), results, reference, source, against),)
    found = _named(results, "result")
    folders: tuple[tuple[str, Path | None, Role], ...] = (
        ("reference", reference, "reference"),
        ("input", source, "input"),
        ("against", against, "result"),
    )
    partners: dict[str, dict[str, Path]] = {}
    for field, folder, role in folders:
        if folder is not None:
            partners[field] = _named(folder, role)
            _check_partners(results, found, folder, partners[field])
    return tuple(
        Pair(name, path, **{field: partner[name] for field, partner in partners.items()})
        for name, path in sorted(found.items())
    )


def _check_partners(results: Path, found: Mapping[str, Path], folder: Path, partners: Mapping[str, Path]) -> None:
    """Raise UsageError unless both folders hold the same names."""
    if lacking := sorted(found.keys() - partners.keys()):
        raise UsageError(
            f"{folder} holds nothing for {_in_words([str(found[name]) for name in lacking])}: names must be equal but "
            "for _x4, _result and _reference."
        )
    if extra := sorted(partners.keys() - found.keys()):
        raise UsageError(
            f"{results} holds no result for {_in_words([str(partners[name]) for name in extra])}: make them, or take "
            "those pictures away."
        )
    if same := [str(path) for name, path in found.items() if path.samefile(partners[name])]:
        raise UsageError(f"{_in_words(same)} cannot be measured against itself: name another folder.")


def _named(folder: Path, role: Role) -> dict[str, Path]:
    """Return the pictures of a folder by what their names have in common with others' names. Raises UsageError."""
    if folder.is_file():
        paths = [folder]
        folder = folder.parent
    elif folder.is_dir():
        paths = [path for path in sorted(folder.rglob("*")) if _is_picture(path.relative_to(folder))]
    else:
        raise UsageError(f"{folder} is not there: check the name.")
    if not paths:
        raise UsageError(f"{folder} holds no pictures: name another folder.")
    groups: dict[str, list[Path]] = {}
    for path in paths:
        name = composed((path.relative_to(folder).parent / _plain(path.stem)).as_posix())
        groups.setdefault(name, []).append(path)
    chosen = {name: _of_role(group, role) for name, group in groups.items()}
    for name, group in chosen.items():
        if len(group) > 1:
            raise UsageError(f"{_in_words([str(path) for path in group])} are both '{name}': keep one of them there.")
    if not (kept := {name: group[0] for name, group in chosen.items() if group}):
        raise UsageError(f"{folder} holds no {role}s: name another folder.")
    return kept


def _of_role(group: list[Path], role: Role) -> list[Path]:
    """Return the pictures of one name that can have this role, where a folder holds those of several roles.

    A result is marked as one where unmarked pictures stand beside it; any other picture is marked as what it is, or not
    at all.
    """
    if len(group) == 1:
        return group
    marked = [path for path in group if _MARKS[role].search(path.stem)]
    if marked or role == "result":
        return marked or group
    others = [mark for other, mark in _MARKS.items() if other != role]
    return [path for path in group if not any(mark.search(path.stem) for mark in others)]


def _plain(stem: str) -> str:
    """Return a stem without what results and references have behind it."""
    while marks := [found for mark in _MARKS.values() if (found := mark.search(stem)) and found.start()]:
        stem = stem[: marks[0].start()]
    return stem


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in image.SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _in_words(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
