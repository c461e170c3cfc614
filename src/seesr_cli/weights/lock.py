"""`weights.lock`: the files of each model, their sources, and the checksums of their bytes. Reads; asks nobody."""

import json
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import UsageError, WeightsInvalid

LOCK_VARIABLE = "SEESR_LOCK"
"""Environment variable that names another lock, for those who keep mirrors of their own."""

NAME = "weights.lock"
TEST_SET = "test set"
"""Role of a file that holds pictures and not weights: it is fetched by what asks for it alone."""
HUB_TYPES = ("model", "space", "dataset")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SECURE_OR_LOOPBACK = re.compile(r"https://|http://127\.0\.0\.1[:/]")


@dataclass(frozen=True)
class FileSource:
    """One place a file can be had from.

    type: "model", "space" or "dataset", kinds of repository of the Hub, or one of the lock's `urls`.
    revision: the full commit, or "" where nobody has resolved it yet; then `branch` is what to resolve. An address
    outside the Hub may do without, where the file has a sha256.
    """

    repository: str
    type: str
    path: str
    revision: str = ""
    branch: str = ""

    @property
    def on_hub(self) -> bool:
        """Whether huggingface_hub's cache holds the files of this source."""
        return self.type in HUB_TYPES

    def __str__(self) -> str:
        kind = "" if self.type == "model" else f"{self.type} "
        place = self.revision[:12] or self.branch
        return f"{kind}{self.repository}{f' @ {place}' if place else ''}, {self.path}"


@dataclass(frozen=True)
class File:
    """One file of a model.

    file: its path under a weights folder. sources: where it is, in the order to try.
    bytes: its size, within `SLACK` where `computed` says that it follows from the architecture and was not observed; 0
        where nobody has published it.
    sha256: of its content, or "" where no checksum is published, and then `unpinned` says why.
    ask: the name by which the licence must be accepted once, or "". instead_of: the file that this one can stand for.
    tensors: the list of names and shapes that its header must match, or "".
    """

    file: str
    role: str
    models: tuple[str, ...]
    sources: tuple[FileSource, ...]
    bytes: int
    licence: str
    sha256: str = ""
    computed: bool = False
    unpinned: str = ""
    ask: str = ""
    instead_of: str = ""
    tensors: str = ""


@dataclass(frozen=True)
class Lock:
    """All files of all models, and the form of the addresses that are not the Hub's, by type of source."""

    path: Path
    files: tuple[File, ...]
    urls: dict[str, str]

    def of(self, model: str) -> tuple[File, ...]:
        """Return the files of a model; for "all", the files of all models of weights. Raises UsageError for another."""
        found = tuple(file for file in self.files if model in file.models or (model == "all" and file.role != TEST_SET))
        if not found:
            known = sorted({name for file in self.files if file.role != TEST_SET for name in file.models})
            raise UsageError(f"The model '{model}' has no files to fetch: choose {', '.join([*known, 'all'])}.")
        return found

    def url(self, source: FileSource) -> str:
        """Return the address of a source that is not on the Hub."""
        return self.urls[source.type].format(repository=source.repository, revision=source.revision, path=source.path)

    def tensors(self, file: File) -> dict[str, list[int]]:
        """Return the names and shapes for the header of `file`, from the list beside the lock or from ours."""
        own = self.path.parent / "tensors" / f"{file.tensors}.json"
        text = own if own.is_file() else files(__package__) / "tensors" / f"{file.tensors}.json"
        return json.loads(text.read_text(encoding="utf-8"))


SLACK = 1 << 20
"""Bytes by which a computed size may be off: the header's metadata are not known beforehand."""


def find() -> Path:
    """Return the path of the lock: `$SEESR_LOCK`, the installed file, or the repository's."""
    if named := os.environ.get(LOCK_VARIABLE):
        return Path(named)
    package = Path(str(files(__package__.partition(".")[0])))
    installed = package / NAME
    return (
        installed if installed.is_file() else package.parents[1] / NAME
    )  # an editable install: src/ of the repository


def read(path: Path | None = None) -> Lock:
    """Return the lock, checked entry by entry. Raises WeightsInvalid, naming the entry, for what cannot be held to."""
    path = path or find()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise WeightsInvalid(f"{path}: not a readable lock ({problem}); install the package anew.") from problem
    urls = content.get("urls", {})
    entries = content.get("file", [])
    lock = Lock(path, tuple(_file(entry, path) for entry in entries), urls)
    for kind, form in urls.items():
        _check(bool(_SECURE_OR_LOOPBACK.match(form)), path, f"urls.{kind}", "is not an https address")
    names = [file.file for file in lock.files]
    for file in lock.files:
        _check(names.count(file.file) == 1, path, file.file, "stands there twice")
        _check(not file.instead_of or file.instead_of in names, path, file.file, "stands for a file that is not there")
        for source in file.sources:
            _check_source(source, file, lock)
    return lock


def _file(entry: dict[str, Any], path: Path) -> File:
    place = {name: entry.pop(name, "") for name in ("repository", "type", "path", "revision", "branch")}
    try:
        sources = [FileSource(**place), *(FileSource(**mirror) for mirror in entry.pop("mirrors", []))]
        file = File(**(entry | {"models": tuple(entry["models"]), "sources": tuple(sources)}))
    except (TypeError, KeyError) as problem:
        raise WeightsInvalid(f"{path}: entry {entry.get('file', '?')}: {problem}.") from None
    relative = PurePosixPath(file.file)
    _check(not relative.is_absolute() and ".." not in relative.parts, path, file.file, "leads out of the folder")
    _check(file.bytes > 0 or bool(file.unpinned and not file.bytes), path, file.file, "has no size")
    _check(bool(_SHA256.fullmatch(file.sha256)) != bool(file.unpinned), path, file.file, "has no sha256 and no reason")
    return file


def _check_source(source: FileSource, file: File, lock: Lock) -> None:
    known = source.on_hub or source.type in lock.urls
    _check(known, lock.path, file.file, f"has a source of unknown type '{source.type}'")
    _check(bool(source.repository and source.path), lock.path, file.file, "has a source without repository or path")
    pinned = bool(_COMMIT.fullmatch(source.revision))
    resolvable = source.on_hub and not source.revision and bool(source.branch)
    held = not source.on_hub and not source.revision and bool(file.sha256)
    _check(pinned or resolvable or held, lock.path, file.file, "has a source with neither a full revision nor a branch")


def _check(holds: bool, path: Path, entry: str, complaint: str) -> None:
    if not holds:
        raise WeightsInvalid(f"{path}: entry {entry} {complaint}.")


_HEAD = """\
# Every file of the published models: where it is and what its bytes must be. Written by `seesr weights lock`.
# A file is fetched from its first source that answers, and used only when its sha256 is the one below. Where there is
# none, `unpinned` says why: the first pull resolves the branch to a full commit, checks all that can be checked (the
# Hub's own sha256, the size, the header, every tensor's name and shape) and holds to that commit and checksum.
# `computed = true`: the size follows from the architecture and was not observed.
"""


def render(lock: Lock) -> str:
    """Return the lock as text, such that reading it gives the same lock."""
    parts = [_HEAD]
    if lock.urls:
        parts.append("[urls]\n" + "".join(f"{kind} = {_text(form)}\n" for kind, form in sorted(lock.urls.items())))
    parts += ["[[file]]\n" + "".join(f"{line}\n" for line in _lines(file)) for file in lock.files]
    return "\n".join(parts)


def _lines(file: File) -> Iterable[str]:
    first, *mirrors = file.sources
    yield f"file = {_text(file.file)}"
    yield f"role = {_text(file.role)}"
    yield f"models = [{', '.join(map(_text, file.models))}]"
    yield from _place(first)
    yield f"bytes = {file.bytes}"
    if file.computed:
        yield "computed = true"
    for name in ("sha256", "unpinned", "tensors", "licence", "ask", "instead_of"):
        if value := getattr(file, name):
            yield f"{name} = {_text(value)}"
    if mirrors:
        yield "mirrors = ["
        yield from (f"    {{ {', '.join(_place(mirror))} }}," for mirror in mirrors)
        yield "]"


def _place(source: FileSource) -> Iterable[str]:
    for name in ("repository", "type", "revision", "branch", "path"):
        if value := getattr(source, name):
            yield f"{name} = {_text(value)}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
