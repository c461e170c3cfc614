"""Statistics of means over pictures: bootstrap intervals, and tests of differences between two runs."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 0
_AT_ONCE = 500
_EXACT = 13
"""Pictures up to which every pattern of signs is tried."""


class Interval(NamedTuple):
    """The middle 95 % of the means of bootstrap resamples (percentile method, Efron and Tibshirani 1993)."""

    low: float
    high: float


class Comparison(NamedTuple):
    """Two runs compared picture by picture; differences are the first less the second.

    wins, ties, losses: pictures where the first is better, equal, worse. p: how often random signs of the differences
    give a mean as far from 0 as theirs (two-sided sign-flip test). Infinite differences count for wins alone.
    """

    difference: float
    interval: Interval
    wins: int
    ties: int
    losses: int
    p: float


def mean(values: Sequence[float]) -> float | None:
    """Return the mean of the finite values; None if there are no such values."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


def interval(values: Sequence[float]) -> Interval | None:
    """Return the interval of the mean of the finite values; None for fewer than two of them."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) < 2:
        return None
    means = np.concatenate([finite[part].mean(axis=1) for part in _resamples(len(finite))])
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(low), float(high))


def _resamples(count: int) -> list[NDArray[np.intp]]:
    generator = np.random.default_rng(SEED)
    return [generator.integers(0, count, (_AT_ONCE, count)) for _ in range(RESAMPLES // _AT_ONCE)]


def compare(first: Sequence[float], second: Sequence[float], higher: bool) -> Comparison | None:
    """Return how two runs compare on the same pictures; higher: whether more is better. None for fewer than two."""
    differences = np.array([0.0 if a == b else a - b for a, b in zip(first, second, strict=True)])
    better = differences if higher else -differences
    finite = differences[np.isfinite(differences)]
    within = interval(list(finite))
    if within is None:
        return None
    return Comparison(
        difference=float(finite.mean()),
        interval=within,
        wins=int((better > 0).sum()),
        ties=int((better == 0).sum()),
        losses=int((better < 0).sum()),
        p=_sign_flip(finite),
    )


def _sign_flip(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of a mean difference: exact up to 13 pictures, else of 10,000 random patterns."""
    seen, slack = abs(differences.sum()), 1e-12 * np.abs(differences).sum()
    if len(differences) <= _EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
        return float((np.abs(signs @ differences) >= seen - slack).mean())
    generator = np.random.default_rng(SEED)
    as_far = 0
    for _ in range(RESAMPLES // _AT_ONCE):
        signs = generator.choice((1.0, -1.0), (_AT_ONCE, len(differences)))
        as_far += int((np.abs(signs @ differences) >= seen - slack).sum())
    return (as_far + 1) / (RESAMPLES + 1)
