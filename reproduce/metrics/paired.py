"""Resampled scores, and the paired difference of two models on the same clips. Arrays in, numbers out; no torch here.

    first, second = (resampled_accuracy(correct) for correct in (mast_correct, ast_correct))
    difference = paired_difference(first, second)      # points, 95 % interval, bootstrap p
    difference.discordant.p                            # exact McNemar

Two scores on as many clips take the same resamples: the difference of their replicates is the paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reproduce.metrics.bootstrap import (
    MAP_RESAMPLES,
    RESAMPLES,
    centred,
    clustered_replicates,
    map_replicates,
    mean_replicates,
    percentile_interval,
    resample_counts,
    two_sided_p,
)
from reproduce.metrics.intervals import mcnemar
from reproduce.metrics.scores import mean_average_precision


@dataclass(frozen=True, kw_only=True)
class ResampledScore:
    """A score on a sample of clips and on resamples of them.

    Args:
        value: per cent.
        replicates: (resamples,) per cent; NaN where a resample has no score.
        correct: (n,) whether each clip is correct, for a mean over seeds how often; None for a mAP.
    """

    value: float
    replicates: np.ndarray
    correct: np.ndarray | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % percentile interval in per cent, within [0, 100]. That of a mAP is centred on its value."""
        low, high = percentile_interval(_unbiased(self.replicates, self.value, self.correct is not None))
        return max(low, 0.0), min(high, 100.0)


@dataclass(frozen=True)
class Discordant:
    """Clips that just one of two models got right.

    Args:
        only_first: clips on which only the first is correct.
        only_second: clips on which only the second is correct.
    """

    only_first: int
    only_second: int

    @property
    def p(self) -> float:
        """Exact two-sided McNemar p-value."""
        return mcnemar(self.only_first, self.only_second)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First minus second on the same clips.

    Args:
        value: points.
        ci: 95 % interval of the paired bootstrap, points.
        p: two-sided p-value of the paired bootstrap.
        resamples: that had a score.
        discordant: clips that just one of the two got right; None for a mAP.
    """

    value: float
    ci: tuple[float, float]
    p: float
    resamples: int
    discordant: Discordant | None = None


def resampled_accuracy(correct: np.ndarray) -> ResampledScore:
    """The accuracy of (n,) bool."""
    replicates = mean_replicates(correct, _counts(len(correct), RESAMPLES))
    return ResampledScore(value=100.0 * float(correct.mean()), replicates=replicates, correct=correct)


def resampled_map(targets: np.ndarray, logits: np.ndarray) -> ResampledScore:
    """The mAP of (n, classes) of 0 and 1 and (n, classes) of scores."""
    value = mean_average_precision(targets, logits).value
    return ResampledScore(value=value, replicates=map_replicates(targets, logits, _counts(len(targets), MAP_RESAMPLES)))


def mean_of_seeds(scores: Sequence[ResampledScore]) -> ResampledScore:
    """The mean over runs of one model on the same clips."""
    correct = [score.correct for score in scores if score.correct is not None]
    return ResampledScore(
        value=float(np.mean([score.value for score in scores])),
        replicates=np.mean([score.replicates for score in scores], axis=0),
        correct=np.mean(correct, axis=0) if len(correct) == len(scores) else None,
    )


def paired_difference(
    first: ResampledScore, second: ResampledScore, discordant: Discordant | None = None
) -> Difference:
    """First minus second, both on the same clips in the same order."""
    value, differences = first.value - second.value, first.replicates - second.replicates
    replicates = _unbiased(differences, value, first.correct is not None)
    return Difference(
        value=value,
        ci=percentile_interval(replicates),
        p=two_sided_p(replicates),
        resamples=int((~np.isnan(differences)).sum()),
        discordant=discordant,
    )


def clustered_difference(gains: np.ndarray, clusters: Sequence[str]) -> Difference:
    """The mean of (n,) gains per clip in points, resampled by whole clusters: recordings, videos or speakers."""
    replicates = clustered_replicates(gains, clusters)
    return Difference(
        value=100.0 * float(gains.mean()),
        ci=percentile_interval(replicates),
        p=two_sided_p(replicates),
        resamples=len(replicates),
    )


def discordant_clips(first: np.ndarray, second: np.ndarray) -> Discordant:
    """Of (n,) bool each: whether the two models are correct on each clip."""
    return Discordant(int((first & ~second).sum()), int((second & ~first).sum()))


def _unbiased(replicates: np.ndarray, value: float, is_accuracy: bool) -> np.ndarray:
    """Repeated clips lift a mAP (see `bootstrap`): its replicates are centred on the value."""
    return replicates if is_accuracy else centred(replicates, value)


@lru_cache(maxsize=4)
def _counts(clips: int, resamples: int) -> np.ndarray:
    """The same resamples for every score on as many clips: this pairs them."""
    return resample_counts(clips, resamples)
