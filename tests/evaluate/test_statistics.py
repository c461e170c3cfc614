"""Intervals that cover, and tests that are exact where they can be."""

import math

import numpy as np
import pytest

from seesr_cli.evaluate.statistics import compare, interval, mean


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = interval(list(generator.normal(30, 3, 60)))
        assert found is not None
        held += found.low <= 30 <= found.high
    assert 0.89 <= held / 200 <= 0.985  # 0.95 less what 60 pictures cost the percentile method, ± three deviations


def test_the_same_values_give_the_same_interval() -> None:
    values = list(np.random.default_rng(0).normal(size=30))
    assert interval(values) == interval(values)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert interval([1.0]) is None
    assert interval([1.0, math.inf]) is None
    assert mean([]) is None
    assert mean([math.inf]) is None
    assert mean([1.0, math.inf, 3.0]) == 2


def test_a_constant_has_an_interval_without_width() -> None:
    assert interval([2.0] * 10) == (2, 2)


def test_five_equal_gains_have_the_sign_flip_p_of_two_in_thirty_two() -> None:
    found = compare([2.0, 3, 4, 5, 6], [1.0, 2, 3, 4, 5], higher=True)
    assert found is not None
    assert found.p == pytest.approx(2 / 32)
    assert (found.wins, found.ties, found.losses, found.difference) == (5, 0, 0, 1)


def test_less_wins_where_less_is_better_and_equal_infinities_are_ties() -> None:
    found = compare([1.0, 5, math.inf, math.inf], [2.0, 5, math.inf, 3], higher=False)
    assert found is not None
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)


def test_p_of_random_signs_is_uniform_where_there_is_no_difference() -> None:
    generator = np.random.default_rng(2)
    values = []
    for _ in range(60):
        found = compare(list(generator.normal(size=20)), list(generator.normal(size=20)), higher=True)
        assert found is not None
        values.append(found.p)
    assert 0.35 < np.mean(values) < 0.65
    assert sum(value < 0.05 for value in values) <= 9


def test_p_of_a_clear_difference_among_many_is_small() -> None:
    generator = np.random.default_rng(3)
    first = generator.normal(size=40)
    found = compare(list(first + 1), list(first + generator.normal(0, 0.1, 40)), higher=True)
    assert found is not None
    assert found.p < 0.001
