"""Uncertainty of a score: 95 % intervals and the paired test, from counts and per-clip outcomes."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of an accuracy, in per cent. (0, 100) for no clips."""
    if not 0 <= correct <= n:
        raise ValueError(f"correct must lie between 0 and n, got {correct} of {n}")
    if n == 0:
        return 0.0, 100.0
    p, z2 = correct / n, Z_95**2
    centre, spread = p + z2 / (2 * n), Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    scale = 100.0 / (1 + z2 / n)
    return max(0.0, (centre - spread) * scale), min(100.0, (centre + spread) * scale)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar p-value for two models on the same clips.

    Args:
        only_first, only_second: clips that just one of the two got right.
    """
    n = only_first + only_second
    # Each binomial coefficient from the one before: VGGSound's thousands of clips would take minutes otherwise.
    term = tail = 1
    for k in range(min(only_first, only_second)):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)
