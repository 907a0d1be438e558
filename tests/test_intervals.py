"""Intervals equal published values and cover what they promise; the paired test equals values made by hand."""

from __future__ import annotations

from math import comb, sqrt
from statistics import NormalDist

import pytest
from scipy.stats import t

from reproduce.metrics.intervals import mcnemar, t_95, wilson_interval

# Correct, n, interval in per cent, and to how much it is known.
KNOWN = [
    (0, 10, 0.0, 27.75328, 1e-5),  # z² / (n + z²)
    (10, 10, 72.24672, 100.0, 1e-5),
    (5, 10, 23.65931, 76.34069, 1e-5),  # 1/2 ± z / (2 sqrt(n + z²))
    (81, 263, 25.53, 36.62, 5e-3),  # Newcombe 1998, table I, method 3: 0.2553 to 0.3662
    (15, 148, 6.24, 16.05, 5e-3),  # 0.0624 to 0.1605
]


@pytest.mark.parametrize(("correct", "n", "low", "high", "tolerance"), KNOWN)
def test_wilson_equals_published_values(correct: int, n: int, low: float, high: float, tolerance: float) -> None:
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=tolerance)


@pytest.mark.parametrize("n", [40, 80, 400])
def test_wilson_covers_the_truth_about_95_times_of_100(n: int) -> None:
    intervals, covered = [wilson_interval(k, n) for k in range(n + 1)], []
    for truth in (step / 50 for step in range(5, 46)):
        inside = [k for k, (low, high) in enumerate(intervals) if low <= 100 * truth <= high]
        covered.append(sum(comb(n, k) * truth**k * (1 - truth) ** (n - k) for k in inside))
    assert min(covered) > 0.92
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.007)


@pytest.mark.parametrize("degrees", [*range(1, 12), 30, 31, 1000])
def test_students_quantile_equals_scipys(degrees: int) -> None:
    assert t_95(degrees) == pytest.approx(t.ppf(0.975, degrees), rel=1e-12)


def test_students_quantile_needs_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        t_95(0)


def test_no_clips_leave_everything_open() -> None:
    assert wilson_interval(0, 0) == (0.0, 100.0)


@pytest.mark.parametrize(("correct", "n"), [(-1, 10), (11, 10), (1, 0)])
def test_impossible_counts_are_an_error(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {correct} of {n}"):
        wilson_interval(correct, n)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 1024)


def test_mcnemar_of_many_thousand_clips_follows_the_normal_distribution() -> None:
    z = (9_500 - 9_000 - 1) / sqrt(18_500)  # with continuity correction
    assert mcnemar(9_000, 9_500) == pytest.approx(2 * (1 - NormalDist().cdf(z)), rel=1e-3)
