"""Lines of a journal: the origin of one result each, as values and as text."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__

_BEGINNING = b'{"v": '
FORMAT = 1  # a line of a later one is passed over
STREAM = "-"
"""Stands for the path of a picture that came on stdin."""


class Key(NamedTuple):
    """The origin of a result: the sha256, in hex, of the input, of the settings and of the weights.

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
    """A journal's line about one file: its origin, and its state when it was complete.

    seconds: that the picture took.
    """

    key: Key
    sha256: str
    bytes: int
    mtime_ns: int
    made: Made = Made()
    seconds: float = 0.0


def as_text(name: str, line: Line) -> bytes:
    """Return the text of the line about the output `name`, in ASCII."""
    about = {"v": FORMAT, "output": name} | line.key._asdict() | {"sha256": line.sha256, "bytes": line.bytes}
    about |= {"mtime_ns": line.mtime_ns, "seconds": line.seconds, "seesr": __version__}
    made = {"source": line.made.path, "source_from_here": line.made.from_here, "tags": line.made.tags}
    about |= {field: value for field, value in made.items() if value not in ("", None)}
    return json.dumps(about).encode("ascii")


def parsed(text: bytes) -> tuple[str, Line] | int | None:
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


def is_cut_short(text: bytes) -> bool:
    """Return whether `text` is the beginning of a line, cut by a kill or a power cut; NULs may follow."""
    told = text.rstrip(b"\n").rstrip(b"\0")
    if len(told) <= len(_BEGINNING):
        return bool(told) and _BEGINNING.startswith(told)
    return told.startswith(_BEGINNING) and not told.endswith(b"}")


def _made_from_json(about: dict[str, Any]) -> Made | None:
    """Return how a result was made, as a line tells; None if the fields have other types."""
    path, from_here, tags = about.get("source", ""), about.get("source_from_here", ""), about.get("tags")
    if type(path) is not str or type(from_here) is not str:
        return None
    if tags is not None and not (type(tags) is list and all(type(tag) is str for tag in tags)):
        return None
    return Made(path, from_here, None if tags is None else tuple(tags))


def portable(path: Path) -> str:
    """Return `path` as text that is the same in all locales: its bytes, taken as UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "surrogateescape")


def local(path: str) -> Path:
    """Return the path that `portable` told of."""
    return Path(os.fsdecode(path.encode("utf-8", "surrogateescape")))
