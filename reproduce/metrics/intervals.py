"""Compute 95 % intervals of scores and differences, and the exact paired test.

Wilson's interval, McNemar's p and Student's quantile equal scipy's. To import `scipy.special` would take 0.3 s of CPU
time, half of what a command takes that prints a stored table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Z_95 = 1.959963984540054  # quantile of the standard normal distribution at 0.975


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy, in per cent; (0, 100) for no clips.

    Raises:
        ValueError: `correct` is below 0 or above `n`.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"correct must be between 0 and n, got {correct} of {n}")
    if n == 0:
        return 0.0, 100.0
    share, z2 = correct / n, Z_95**2
    centre = (2 * n * share + z2) / (2 * (n + z2))
    half = Z_95 / (2 * (n + z2)) * math.sqrt(4 * n * share * (1 - share) + z2)
    return 100.0 * (0.0 if correct == 0 else centre - half), 100.0 * (1.0 if correct == n else centre + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided McNemar p-value of two models on the same clips; 1 if they never differ.

    Args:
        only_first: number of clips on which only the first is correct.
        only_second: number of clips on which only the second is correct.
    """
    clips = only_first + only_second
    if clips == 0:
        return 1.0
    ways = total = 1  # of choosing no clip; then those of each further number, in exact integers
    for chosen in range(min(only_first, only_second)):
        ways = ways * (clips - chosen) // (chosen + 1)
        total += ways
    return min(1.0, total / 2 ** (clips - 1))


@lru_cache
def t_95(degrees: int) -> float:
    """Return the quantile of Student's t distribution at 0.975, by bisection of its closed form.

    Args:
        degrees: degrees of freedom, at least 1.

    Raises:
        ValueError: fewer than 1.
    """
    if degrees < 1:
        raise ValueError(f"degrees must be at least 1, got {degrees}")
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        low, high = (angle, high) if _t_within(angle, degrees) < 0.95 else (low, angle)
    return math.sqrt(degrees) * math.tan(angle)


def _t_within(angle: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) * tan(angle)) (Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3-4)."""
    cosine, odd = math.cos(angle), degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for step in range(2 + odd, degrees, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    within = math.sin(angle) * total
    return 2 / math.pi * (angle + within) if odd else within


def corrected_interval(differences: Sequence[float], test_to_train: float) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean difference of two models over folds and seeds (corrected resampled t).

    Training sets of cross-validation overlap, so the differences are not independent: the variance of their mean is
    their variance times 1 / n + test / train instead of 1 / n (Nadeau & Bengio, Inference for the generalization error,
    Machine Learning 2003).

    Args:
        differences: (n,) difference of each fold and seed, in any unit.
        test_to_train: test clips of a fold divided by its training clips.

    Returns:
        Lower and upper bound in that unit; None for fewer than two differences.
    """
    n = len(differences)
    if n < 2:
        return None
    mean, variance = float(np.mean(differences)), float(np.var(differences, ddof=1))
    half = t_95(n - 1) * math.sqrt((1 / n + test_to_train) * variance)
    return mean - half, mean + half
