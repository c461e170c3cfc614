"""Measure pairs of pictures, a few at a time: memory does not grow with their number.

Metrics that are networks come from an engine: `paper.load.Learned`, or `published.Pyiqa`, which measures all.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from ..machine.device import one_thread_each
from . import fidelity
from .consistency import FOREIGN, Box, Consistency, consistency
from .niqe import niqe
from .pairs import Pair
from .pixels import Pixels, read
from .protocol import METRICS


class Engine(Protocol):
    """The functions of another program, which measure in the place of this package's own."""

    def measures(self, metric: str) -> bool:
        """Return whether it computes this metric of single pictures."""

    def value(self, metric: str, result: Pixels, reference: Pixels | None) -> float:
        """Return the metric of a picture. Raises PictureError."""

    def features(self, pixels: Pixels) -> NDArray[np.float32] | None:
        """Return the features that FID compares of a picture; None if FID is not asked for."""


@dataclass(frozen=True)
class Measured:
    """One picture, measured.

    values: by name of the metric; infinite where pictures are equal.
    against: the same of the rival, where there is one.
    worst: the block that departs most from the input, and by how much, in 255ths.
    features: what FID compares of the result, its reference and its rival, where FID is asked for.
    notes: what the person should know. failures: a sentence for each metric that could not be measured.
    """

    pair: Pair
    values: dict[str, float] = field(default_factory=dict)
    against: dict[str, float] = field(default_factory=dict)
    worst: tuple[Box, float] | None = None
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def measure(
    pairs: Iterable[Pair], metrics: Sequence[str], engine: Engine | None = None, at_once: int = 1
) -> Iterator[Measured]:
    """Yield every pair with its measurements, in order; metrics that could not be computed are in its failures.

    at_once: how many are measured at a time, each by one thread: what numpy computes leaves Python to the others.
    """
    with one_thread_each(at_once), ThreadPoolExecutor(at_once) as pool:
        try:
            waiting: deque[Future[Measured]] = deque()
            for pair in pairs:
                waiting.append(pool.submit(_attempted, pair, metrics, engine))
                if len(waiting) > at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _attempted(pair: Pair, metrics: Sequence[str], engine: Engine | None) -> Measured:
    """Return a pair measured; whatever goes wrong with it is its failure, and the others go on."""
    try:
        return _measured(pair, metrics, engine)
    except PictureError as error:
        return Measured(pair, failures=(str(error),))
    except MemoryError:
        return Measured(pair, failures=(f"{pair.result}: needs more memory than there is.",))
    except Exception as error:
        what = f"failed unexpectedly ({type(error).__name__}: {error}): please report it."
        return Measured(pair, failures=(f"{pair.result}: {what}",))


def _measured(pair: Pair, metrics: Sequence[str], engine: Engine | None) -> Measured:
    notes: list[str] = []
    result, reference, source, rival = (_read(path, notes) for path in pair[1:])
    assert result is not None
    failures: list[str] = []
    values, departs = _values(pair.result, result, reference, source, metrics, engine, failures)
    against: dict[str, float] = {}
    if pair.against is not None and rival is not None:
        against, _ = _values(pair.against, rival, reference, source, metrics, engine, failures)
    if departs is not None and departs.psnr < FOREIGN:
        notes.append(
            f"{pair.result} departs far from {pair.input} ({departs.psnr:.1f} dB): is it a result of another picture?"
        )
    if values.get("psnr") == math.inf:
        notes.append(f"{pair.result} equals its reference: PSNR is infinite, and not part of the mean.")
    if "niqe" in metrics and "niqe" not in values and not failures:
        notes.append(f"{pair.result} has no NIQE, which needs two blocks of 96 x 96 pixels with texture.")
    if reference is not None and (grey := _is_grey(result)) != _is_grey(reference):
        kinds = ("grey", "in colours") if grey else ("in colours", "grey")
        notes.append(f"{pair.result} is {kinds[0]} and {pair.reference} is {kinds[1]}: is that meant?")
    worst = (departs.box, departs.worst) if departs is not None else None
    seen = {"result": result, "reference": reference, "against": rival}
    features = {}
    for role, pixels in seen.items():
        try:
            if engine is not None and pixels is not None and (found := engine.features(pixels)) is not None:
                features[role] = found
        except PictureError as error:
            failures.append(f"{getattr(pair, role)}: fid: {error}")
    return Measured(pair, values, against, worst, features, tuple(notes), tuple(failures))


def _is_grey(pixels: Pixels) -> bool:
    return bool((pixels == pixels[:, :, :1]).all())


def _read(path: Path | None, notes: list[str]) -> Pixels | None:
    """Return the pixels of a picture, and add remarks on it to `notes`."""
    if path is None:
        return None
    pixels, remarks = read(path)
    notes += [f"{path}: {remark}" for remark in remarks]
    return pixels


def _values(
    path: Path,
    result: Pixels,
    reference: Pixels | None,
    source: Pixels | None,
    metrics: Sequence[str],
    engine: Engine | None,
    failures: list[str],
) -> tuple[dict[str, float], Consistency | None]:
    """Return the metrics of one result; a sentence is added to `failures` for each that it has not."""
    departs = consistency(result, source) if source is not None else None
    found: dict[str, float | None] = {}
    for metric in metrics:
        try:
            match metric:
                case _ if engine is not None and engine.measures(metric):
                    with_reference = METRICS[metric].needs == "reference"
                    found[metric] = engine.value(metric, result, reference if with_reference else None)
                case "psnr" if reference is not None:
                    found[metric] = fidelity.psnr(result, reference)
                case "ssim" if reference is not None:
                    found[metric] = fidelity.ssim(result, reference)
                case "niqe":
                    found[metric] = niqe(result)
                case "consistency" if departs is not None:
                    found[metric] = departs.psnr
                case "drift" if departs is not None:
                    found[metric] = departs.drift
        except PictureError as error:
            failures.append(f"{path}: {metric}: {error}")
    values = {metric: value for metric, value in found.items() if value is not None}
    if not values and not failures and "niqe" in metrics:
        failures.append(f"{path}: nothing of it can be measured: NIQE needs two blocks of 96 x 96 pixels with texture.")
    return values, departs
