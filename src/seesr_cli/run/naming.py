"""Name results by a pattern, and recognise names that a pattern made."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .. import image
from ..errors import UsageError
from ..files import composed
from ..settings import Format

DEFAULT_PATTERN = "{stem}_x{scale}{suffix}"
"""Pattern of the results' names, unless --name gives another."""

VARIANT_PATTERN = "{stem}_x{scale}_seed{seed}{suffix}"
"""Pattern of the names of variants, which have several seeds."""

# A scale, or a size that was asked for, in a result's name: 4, 2.5, w3000, h2000, w3000h2000, l4096, m12.5.
_SCALE = r"[whlm]?\d+(?:\.\d+)?(?:h\d+)?"

_FIELDS = ("{stem}", "{name}", "{scale}", "{seed}", "{suffix}")


def checked(name: str, kind: Format | None) -> Format:
    """Return the format of results named by the pattern `name`. Raises UsageError."""
    unknown = [field for field in re.findall(r"\{[^{}]*\}?|\}", name) if field not in _FIELDS]
    if unknown:
        raise UsageError(f"--name {name} has a field {unknown[0]}: there are {' '.join(_FIELDS)}.")
    if any(separator in name for separator in ("/", os.sep, os.altsep, "\0") if separator):
        raise UsageError(f"--name {name} holds more than a file's name: choose the folder with -o.")
    if not name or name.startswith((".", "{suffix}")):
        raise UsageError(f"--name {name} makes names that are empty or hidden: begin it with {{stem}}.")
    if name.endswith("{suffix}"):
        return kind or "png"
    own = image.kind_of(Path(name))
    if own is None:
        raise UsageError(f"--name {name} has no suffix: end it with {{suffix}}, as {name}{{suffix}}.")
    if kind not in (None, own):
        raise UsageError(f"--name {name} does not go with --format {kind}: end it with {{suffix}}.")
    return own


def filled(name: str, picture: str, scale: str, suffix: str, seed: int) -> str:
    """Return the name of the result of `picture`, with the fields of the pattern `name` filled in."""
    fields = {
        "{stem}": split_suffix(picture)[0],
        "{name}": picture,
        "{scale}": scale,
        "{suffix}": suffix,
        "{seed}": str(seed),
    }
    return re.sub(r"\{\w+\}", lambda field: fields[field[0]], name)


def sheet_name(name: str) -> str:
    """Return the name of the sheet of variants, from the pattern of their names: photo_x4_seeds.png."""
    return _marked(re.sub(r"(?:seed)?\{seed\}", "seeds", name), "")


def preview_name(name: str) -> str:
    """Return the name of the preview of a result, from the result's name or the pattern of such names."""
    return _marked(name, "_preview")


def _marked(name: str, mark: str) -> str:
    """Return `name` with a mark at the end and as that of a PNG."""
    return (name.removesuffix("{suffix}") if name.endswith("{suffix}") else split_suffix(name)[0]) + f"{mark}.png"


def split_suffix(name: str) -> tuple[str, str]:
    """Return the stem and the suffix of a file name."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def is_result(name: str, known: set[str], patterns: Sequence[re.Pattern[str]]) -> bool:
    """Return whether `name` is a result of another picture in `known`, which holds composed names and stems."""
    for pattern in patterns:
        if found := pattern.fullmatch(name):
            origin = composed(found["origin"])
            if origin in known and origin not in map(composed, (name, split_suffix(name)[0])):
                return True
    return False


def recognising(name: str) -> re.Pattern[str]:
    """Return an expression for names made by the pattern `name`; group `origin` is the picture's stem or name."""
    suffixes = "|".join(map(re.escape, image.WRITTEN_SUFFIXES))
    fields = {r"\{scale\}": _SCALE, r"\{seed\}": r"\d+", r"\{suffix\}": f"(?:{suffixes})"}
    pattern = re.escape(name)
    for field, meaning in fields.items():
        pattern = pattern.replace(field, meaning)
    first = r"\{name\}" if "{name}" in name else r"\{stem\}"
    pattern = pattern.replace(first, "(?P<origin>.+)", 1).replace(first, "(?P=origin)")
    return re.compile(pattern.replace(r"\{stem\}", ".+"), re.DOTALL)
