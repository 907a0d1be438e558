"""When an interleaved benchmark has enough rounds. No torch here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

CONFIDENCE = 0.95
SLOW_S = 1.0  # two calls that take this long and agree are enough: each averages over what disturbs short ones


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many rounds an interleaved benchmark runs.

    Args:
        least: rounds that always run; two if every call takes SLOW_S and both rounds agree within `width`.
        most: rounds after which it stops.
        seconds: seconds of all rounds after which no further round starts.
        width: it stops as soon as every candidate's interval of the median is this narrow, relative to the median.
    """

    least: int = 3
    most: int = 15
    seconds: float = 10.0
    width: float = 0.05

    def is_spent(self, samples: Sequence[Sequence[float]]) -> bool:
        """Decide whether the rounds so far are enough.

        Args:
            samples: seconds per call so far, one sequence per candidate that still runs.
        """
        if not samples:
            return True
        rounds = min(len(times) for times in samples)
        if rounds < min(self.least, 2):
            return False
        if rounds < self.least:
            return all(min(times) >= SLOW_S for times in samples) and self._is_certain(samples)
        if rounds >= self.most or sum(map(sum, samples)) >= self.seconds:
            return True
        return self._is_certain(samples)

    def _is_certain(self, samples: Sequence[Sequence[float]]) -> bool:
        return all(relative_width(times) <= self.width for times in samples)


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Compute the distribution-free interval of the median: the k-th smallest and the k-th largest sample.

    k is the largest with a coverage of at least CONFIDENCE; up to five samples the interval is their whole range,
    whose coverage is lower (75 % for three, 94 % for five).

    Args:
        samples: at least one number, in any order.
    """
    ordered, n = sorted(samples), len(samples)
    k, tail = 1, 1  # tail: sum of comb(n, i) for i < k, the samples below rank k
    while 2 * (tail + comb(n, k)) <= (1 - CONFIDENCE) * 2**n:
        tail += comb(n, k)
        k += 1
    return ordered[k - 1], ordered[n - k]


def relative_width(samples: Sequence[float]) -> float:
    """Width of `median_interval` relative to the median; 0 where the median is 0."""
    low, high = median_interval(samples)
    median = statistics.median(samples)
    return (high - low) / median if median else 0.0
