"""Tags in files beside the results: as text for people to edit, as JSON with everything that is known.

A text file has a tag a line, or several between commas. What stands behind a `#`, at the start of a line or after white
space, is a remark; `\\#` is the character itself. Text written by other tools, and by hand, is read alike.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PictureError
from ..files import as_spelled

if TYPE_CHECKING:
    from ..restore.tag import Tag

LARGEST = 2**22
"""Bytes of a file that is read for tags: beyond any list of words."""

_HEAD = "# seesr "
_SEAL = b"# as it was written: "
"""Before the sha256 of all lines above: whether a person edited the file."""

_JSON_SEAL = "as_written"
"""Name of the sha256 of everything else in a JSON sidecar, spaces and the order of names apart."""

_REMARK = re.compile(r"(?:^|(?<=\s))#.*")
_NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ud800-\udfff]")


class Given(NamedTuple):
    """The tags that a person gave for a picture, in order, and the picture's sha256 if it is known."""

    tags: tuple[str, ...]
    input_sha256: str | None
    path: Path

    def stale(self, sha256: str) -> bool:
        """Return whether the tags are another picture's, or this one's before it changed."""
        return self.input_sha256 not in (None, sha256)


def as_json(
    record: Mapping[str, Any],
    *,
    about: str,
    size_in: tuple[int, int],
    target: str,
    size_out: tuple[int, int],
    near: "Sequence[Tag]",
    left_out: Sequence[str],
    cut: str,
    notes: Sequence[str],
) -> bytes:
    """Return the content of a JSON sidecar, in ASCII: the result's record, and more about the result.

    about: what the model is. size_in, size_out: (height, width). target: the result's name. left_out: tags there was
    no room for in the prompt; cut: the end of the person's own prompt there was none for.
    """
    content = {
        **record,
        "model": {**record["model"], "about": about},
        "input": {**record["input"], "width": size_in[1], "height": size_in[0]},
        "output": {**record["output"], "name": target, "width": size_out[1], "height": size_out[0]},
        "near_misses": [tag._asdict() for tag in near],
        "left_out": list(left_out),
        "cut": cut,
        "notes": list(notes),
    }
    return json.dumps(content | {_JSON_SEAL: _json_digest(content)}, indent=2).encode("ascii") + b"\n"


def as_text(record: Mapping[str, Any], near: "Sequence[Tag]", left_out: Sequence[str] = ()) -> bytes:
    """Return the content of a text sidecar, in UTF-8: one tag a line, near misses as comments."""
    source = record["input"]
    lines = [
        f"{_HEAD}{record['seesr']}: tags of {json.dumps(source['name'])}",
        f"# sha256 {source['sha256']}",
        "# One tag a line: take lines away, add your own words, or put # in front of a line that shall not count.",
        "# Then restore the picture again with --tags-from and the folder this file is in.",
        "",
        *(_line(tag["name"], tag["score"], tag["threshold"]) for tag in record["tags"]),
    ]
    if left_out:
        lines += ["", f"# No room in the prompt was left for: {', '.join(left_out)}"]
    if near:
        lines += ["", "# Nearly seen; take the # away to have them:", *(f"# {_line(*tag)}" for tag in near)]
    text = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
    return text + _SEAL + hashlib.sha256(text).hexdigest().encode() + b"\n"


def _line(name: str, score: float, threshold: float) -> str:
    escaped = name.replace("\\", r"\\").replace("#", r"\#")
    return f"{escaped:<24}  # {score:.3f}, threshold {threshold:.3f}"


def is_edited(path: Path) -> bool:
    """Return whether the sidecar at `path` is other than it was written: a person's work, not to be written over."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            return True
        return not isinstance(content, dict) or content.pop(_JSON_SEAL, None) != _json_digest(content)
    text, _, digest = data.rpartition(_SEAL)
    return hashlib.sha256(text).hexdigest().encode() != digest.strip()


def _json_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def edited_beside(target: Path) -> Given | None:
    """Return the tags of the sidecar of ours beside the result `target`, if a person edited it. Raises PictureError."""
    for suffix in (".txt", ".json"):
        path = as_spelled(target.with_suffix(suffix))
        if is_ours(path) and is_edited(path):
            return read(path)
    return None


def is_ours(path: Path) -> bool:
    """Return whether the file at `path` is a sidecar of ours, text or JSON."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            data = file.read(LARGEST)
    except OSError:
        return False
    if path.suffix.lower() == ".txt":
        return data.removeprefix(b"\xef\xbb\xbf").startswith(_HEAD.encode())
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "seesr" in content


def find(folder: Path, source: Path, target: str) -> Given | None:
    """Return the tags in `folder` for a picture; None if there are no such tags.

    source: the picture's path relative to the root that was named; `folder` has the same tree below it. target: the
    name of its result. Text, which is for people to edit, goes before JSON, and the result's name before the picture's:
    `photo_x4.txt`, `photo.txt`, `photo.jpg.txt`, `photo_x4.json`, `photo.json`. JSON that is not ours is passed over.
    Raises PictureError.
    """
    result = target.rpartition(".")[0] or target
    texts = [f"{stem}.txt" for stem in (result, source.stem, source.name)]
    for name in (*texts, f"{result}.json", f"{source.stem}.json"):
        path = as_spelled(folder / source.parent / name)
        with suppress(OSError):  # a name too long to be one
            if path.is_file() and (given := read(path)) is not None:
                return given
    return None


def read(path: Path) -> Given | None:
    """Return the tags in the file `path`, or None where it is JSON and not ours. Raises PictureError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    if len(data) > LARGEST:
        raise PictureError(f"{path} has more than {LARGEST // 2**20} MiB, which is no list of tags: give another file.")
    return _from_json(data, path) if path.suffix.lower() == ".json" else _from_text(data, path)


def _from_text(data: bytes, path: Path) -> Given:
    ours, sha256 = False, None
    tags: list[str] = []
    lines = re.split("\r\n|\r|\n", _decoded(data, path))
    for number, line in enumerate(lines, start=1):
        if _NO_TEXT.search(line):
            raise PictureError(f"{path}, line {number}, holds control characters, so it is no text: give another file.")
        if number == 1 and line.startswith(_HEAD):
            ours = True
        if ours and (named := re.fullmatch(r"# sha256 ([0-9a-f]{64})\s*", line)):
            sha256 = named[1]
        listed = re.sub(r"\\([\\#])", r"\1", _REMARK.sub("", line))
        tags += (entry for part in listed.split(",") if (entry := " ".join(part.split())))
    if not ours and not tags and any(line.strip() for line in lines):
        raise PictureError(f"{path} holds remarks only, lines that begin with #: write \\# for the character itself.")
    return Given(tuple(tags), sha256, path)


def _decoded(data: bytes, path: Path) -> str:
    """Return UTF-8, or what Windows calls Unicode, as text without its mark."""
    try:
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = 1 + max(before.count(b"\n"), before.count(b"\r"))
        raise PictureError(f"{path}, line {line}, is not written in UTF-8: save it as UTF-8 again.") from None


def _from_json(data: bytes, path: Path) -> Given | None:
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        raise PictureError(
            f"{path}, line {error.lineno}, is not JSON ({error.msg}): mend it or take it away."
        ) from None
    except (ValueError, RecursionError):
        raise PictureError(f"{path} is not JSON: mend it or take it away.") from None
    if not isinstance(content, dict) or "seesr" not in content:
        return None
    tags, source = content.get("tags"), content.get("input")
    names = [tag.get("name") if isinstance(tag, dict) else tag for tag in tags] if isinstance(tags, list) else [None]
    if not all(isinstance(name, str) and name.strip() and not _NO_TEXT.search(name) for name in names):
        raise PictureError(f'{path} has no list "tags" of words, or of objects with a "name": mend it or take it away.')
    sha256 = source.get("sha256") if isinstance(source, dict) else None
    return Given(tuple(map(str, names)), sha256 if isinstance(sha256, str) else None, path)
