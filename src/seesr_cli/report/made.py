"""Tell how a result was made, from its record."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..catalogue import MODELS
from ..settings import EXACT_SIZES
from ..wording import counted
from . import columns

_SHORT = 12
"""Digits of a checksum that are shown; --json has all."""


def as_json(path: Path, record: Mapping[str, Any]) -> None:
    """Print the record as it stands in the result, in one line."""
    print(json.dumps({"result": str(path), **record}), flush=True)


def as_text(path: Path, record: Mapping[str, Any], again: bool) -> None:
    """Print the record in words. again: whether another one stands above it."""
    if again:
        print()
    columns.show(str(path), _lines(path, record), width=11)


def _lines(path: Path, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the record tells: a name, and words."""
    model, source, output = record["model"], record["input"], record["output"]
    yield "picture", f"{source['name']}, sha256 {source['sha256'][:_SHORT]}"
    weights = f", weights {model['weights'][:_SHORT]}" if model["weights"] else ""
    yield "model", f"{model['name']} of seesr {record['seesr']}{weights}"
    yield "settings", ", ".join(_settings(model["name"], record["settings"]))
    yield "seed", str(record["settings"].get("seed", "-"))
    yield "tags", ", ".join(map(_tag, record["tags"])) or "none"
    for name, key in (("prompt", "prompt"), ("negative", "negative_prompt")):
        if record.get(key):
            yield name, str(record[key])
    if told := _consistency(record.get("consistency")):
        yield "consistency", told
    threads = f", {counted(record['threads'], 'thread')}" if record.get("threads") else ""
    yield "computed", f"on {record['device']} in {record['dtype']}{threads}"
    quality = f", quality {output['quality']}" if output["quality"] is not None else ""
    yield "file", f"{output['kind']}, {output['bits']} bits a channel{quality}"
    yield "again", f"seesr upscale {source['name']} --like {path}"


def _settings(model: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the size, and the settings that are other than the model's own."""
    usual = {str(model): each.defaults for model, each in MODELS.items()}[model]
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    sizes = [name for name in EXACT_SIZES if given.get(name) is not None]
    for name, value in given.items():
        if name in sizes or (name == "scale" and not sizes) or (name not in _APART and value != getattr(usual, name)):
            yield f"{name.replace('_', '-')} {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


_APART = ("scale", "seed", "prompt", "negative")
"""Settings that are told elsewhere."""


def _tag(tag: Mapping[str, Any]) -> str:
    score = tag.get("score")  # 0 of a tag that a person gave
    return f"{tag['name']} {score:.2f}" if isinstance(score, (int, float)) and score else str(tag["name"])


def _consistency(told: Any) -> str:
    """Return in words how the result departs from its picture; nothing where the record does not tell."""
    if not isinstance(told, Mapping) or "psnr" not in told:
        return ""
    psnr, drift = told["psnr"], told.get("drift")
    words = "equal to the picture" if psnr is None else f"{psnr:.2f} dB" if isinstance(psnr, (int, float)) else ""
    return f"{words}, colours drift by {drift:.1f}/255" if isinstance(drift, float) and math.isfinite(drift) else words
