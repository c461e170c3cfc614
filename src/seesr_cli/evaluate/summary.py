"""Summarise measurements as means with intervals, for JSON and CSV."""

import csv
import io
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from .measure import Measured
from .protocol import METRICS, PROTOCOL
from .statistics import RESAMPLES, SEED, Comparison, Interval, compare, interval, mean
from .testsets import TestSet


class Whole(NamedTuple):
    """A metric of all results together, and the same of their rivals, if there are some."""

    results: float
    rivals: float | None = None


def of_folders(measured: Sequence[Measured]) -> dict[str, Whole]:
    """Return FID by its name, for pictures with features to compare."""
    rows = [one.features for one in measured if "result" in one.features and "reference" in one.features]
    if len(rows) < 2:
        return {}
    from .paper.fid import distance

    references = np.stack([row["reference"] for row in rows])
    found = distance(np.stack([row["result"] for row in rows]), references)
    rivals = [row["against"] for row in rows if "against" in row]
    return {"fid": Whole(found, distance(np.stack(rivals), references) if len(rivals) == len(rows) else None)}


def of_paths(
    measured: Sequence[Measured], fid: Callable[[Sequence[Path], Sequence[Path]], float | None]
) -> dict[str, Whole]:
    """Return FID by its name, where `fid` finds it for the paths of results and references."""
    pairs = [one.pair for one in measured if one.pair.reference is not None]
    references = [pair.reference for pair in pairs if pair.reference is not None]
    found = fid([pair.result for pair in pairs], references) if pairs else None
    if found is None:
        return {}
    rivals = [pair.against for pair in pairs if pair.against is not None]
    return {"fid": Whole(found, fid(rivals, references) if len(rivals) == len(pairs) else None)}


def values_of(measured: Sequence[Measured], metric: str) -> list[float]:
    """Return a metric of every picture that has it."""
    return [one.values[metric] for one in measured if metric in one.values]


def comparison(measured: Sequence[Measured], metric: str) -> Comparison | None:
    """Return how the results compare with their rivals, over the pictures where both were measured."""
    both = [one for one in measured if metric in one.values and metric in one.against]
    return compare([one.values[metric] for one in both], [one.against[metric] for one in both], METRICS[metric].higher)


def document(
    measured: Sequence[Measured],
    metrics: Sequence[str],
    wholes: Mapping[str, Whole],
    notes: Sequence[str],
    weights: Mapping[str, str],
    published: TestSet | None = None,
    pyiqa: str | None = None,
) -> dict[str, Any]:
    """Return all measurements for JSON, with null for infinite and missing ones.

    wholes: metrics of the folders. weights: sha256 of the networks' files, by name. published: the set, if it is one.
    pyiqa: its version, where it measured.
    """
    means = {metric: mean(values_of(measured, metric)) for metric in metrics}
    means |= {metric: whole.results for metric, whole in wholes.items()}
    content: dict[str, Any] = {
        "protocol": PROTOCOL,
        "versions": {"seesr": __version__, "python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "pillow")}
        | ({"pyiqa": pyiqa} if pyiqa else {}),
        "weights": dict(weights),
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": 0.95},
        "metrics": {name: METRICS[name]._asdict() for name in metrics},
        "pictures": [_picture(one, metrics) for one in measured],
        "mean": means,
        "interval": {metric: _listed(interval(values_of(measured, metric))) for metric in metrics},
        "notes": list(notes),
    }
    if published is not None:
        content["published"] = {"model": "seesr", "mean": dict(published.published), "again": published.again or None}
    if any(one.pair.against for one in measured):
        content["against"] = {metric: _compared(comparison(measured, metric)) for metric in metrics}
        content["against"] |= {
            metric: {"difference": whole.results - whole.rivals}
            for metric, whole in wholes.items()
            if whole.rivals is not None
        }
    return content


def single(metrics: Sequence[str]) -> list[str]:
    """Return those metrics that single pictures have."""
    return [metric for metric in metrics if not METRICS[metric].of_folder]


def _picture(one: Measured, metrics: Sequence[str]) -> dict[str, Any]:
    metrics = single(metrics)
    content: dict[str, Any] = {"name": one.pair.name, "result": str(one.pair.result)}
    content |= {metric: _finite(one.values.get(metric)) for metric in metrics}
    if one.worst is not None:
        content["worst_block"] = {**one.worst[0]._asdict(), "departure": one.worst[1]}
    if one.pair.against is not None:
        content["against"] = {metric: _finite(one.against.get(metric)) for metric in metrics}
    return content | {"notes": list(one.notes), "failures": list(one.failures)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _listed(found: Interval | None) -> list[float] | None:
    return None if found is None else list(found)


def _compared(found: Comparison | None) -> dict[str, Any] | None:
    return None if found is None else {**found._asdict(), "interval": list(found.interval)}


def table(measured: Sequence[Measured], metrics: Sequence[str]) -> str:
    """Return CSV with a line for every picture, the worst by the first metric before the others."""
    metrics = single(metrics)
    rivals = [f"{metric}_against" for metric in metrics] if any(one.pair.against for one in measured) else []
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["name", "result", *metrics, *rivals, "notes"])
    for one in worst_first(measured, metrics[0]) if metrics else measured:
        values = [one.values.get(metric, "") for metric in metrics]
        others = [one.against.get(metric, "") for metric in metrics] if rivals else []
        writer.writerow([one.pair.name, one.pair.result, *values, *others, " ".join((*one.failures, *one.notes))])
    return stream.getvalue()


def worst_first(measured: Sequence[Measured], metric: str) -> list[Measured]:
    """Return the pictures, the worst by `metric` first; those without it come before all."""
    sign = 1 if METRICS[metric].higher else -1
    return sorted(measured, key=lambda one: sign * one.values[metric] if metric in one.values else -math.inf)
