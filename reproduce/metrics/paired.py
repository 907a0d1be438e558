"""Resample scores, and compare two models on the same clips. No torch here.

    first, second = (resampled_accuracy(correct) for correct in (mast_correct, ast_correct))
    difference = paired_difference(first, second)      # points, 95 % interval, bootstrap p
    difference.discordant.p                            # exact McNemar

Scores on equally many clips share their resamples: the difference of their replicates is the paired bootstrap. If
several clips come from one video, recording or speaker, `units` names it, and whole units are resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.metrics.bootstrap import (
    MAP_RESAMPLES,
    RESAMPLES,
    SEED,
    centred,
    clustered_counts,
    clustered_replicates,
    map_replicates,
    mean_replicates,
    percentile_interval,
    resample_counts,
    two_sided_p,
)
from reproduce.metrics.intervals import mcnemar
from reproduce.metrics.scores import mean_average_precision

FLIPS, FLIPS_AT_ONCE = 20_000, 500  # sign patterns of a permutation test
TOLERANCE = 1e-9  # of sums of shares


@dataclass(frozen=True, kw_only=True)
class ResampledScore:
    """A score on a sample of clips and on resamples of them.

    Args:
        value: score on the sample, in per cent.
        replicates: (resamples,) scores in per cent; NaN where a resample has none.
        correct: (n,) whether each clip is correct, or its share of correct runs for a mean over seeds; None for a mAP.
    """

    value: float
    replicates: np.ndarray
    correct: np.ndarray | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % percentile interval in per cent, within [0, 100]; for a mAP, centred on its value.

        It is NaN for clips of a single unit.
        """
        low, high = percentile_interval(_unbiased(self.replicates, self.value, self.correct is not None))
        return max(low, 0.0), min(high, 100.0)


@dataclass(frozen=True)
class Discordant:
    """Numbers of clips on which exactly one of two models is correct.

    Args:
        only_first: number of clips on which only the first is correct.
        only_second: number of clips on which only the second is correct.
    """

    only_first: int
    only_second: int

    @property
    def p(self) -> float:
        """Exact two-sided McNemar p-value."""
        return mcnemar(self.only_first, self.only_second)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first score minus the second, on the same clips.

    Args:
        value: difference in points.
        ci: 95 % interval of the paired bootstrap, in points.
        p: two-sided p-value of the paired bootstrap.
        resamples: number of resamples with a score.
        discordant: numbers of clips on which exactly one of the two is correct; None for a mAP.
    """

    value: float
    ci: tuple[float, float]
    p: float
    resamples: int
    discordant: Discordant | None = None


def resampled_accuracy(correct: np.ndarray, units: np.ndarray | None = None) -> ResampledScore:
    """Compute the accuracy on a sample and its resamples.

    Args:
        correct: (n,) bool.
        units: (n,) name of the unit of each clip; None if every clip is a unit. The replicates of a single unit are
            NaN: it has no spread.

    Raises:
        ValueError: no clips.
    """
    shared = _shared(units)
    if shared is None:
        replicates = mean_replicates(correct, resample_counts(len(correct), RESAMPLES))
    else:
        replicates = np.full(RESAMPLES, np.nan) if _is_single(shared) else clustered_replicates(correct, shared)
    return ResampledScore(value=100.0 * float(correct.mean()), replicates=replicates, correct=correct)


def resampled_map(targets: np.ndarray, logits: np.ndarray, units: np.ndarray | None = None) -> ResampledScore:
    """Compute the mAP on a sample and its resamples.

    Args:
        targets: (n, classes) of 0 and 1.
        logits: (n, classes).
        units: see `resampled_accuracy`.

    Raises:
        ValueError: the shapes do not fit, or a logit is not finite.
    """
    value = mean_average_precision(targets, logits).value
    shared = _shared(units)
    if shared is not None and _is_single(shared):
        return ResampledScore(value=value, replicates=np.full(MAP_RESAMPLES, np.nan))
    counts = resample_counts(len(targets), MAP_RESAMPLES) if shared is None else clustered_counts(shared, MAP_RESAMPLES)
    return ResampledScore(value=value, replicates=map_replicates(targets, logits, counts))


def _shared(units: np.ndarray | None) -> np.ndarray | None:
    """Return `units`, or None if every clip is a unit."""
    return None if units is None or len(np.unique(units)) == len(units) else units


def _is_single(units: np.ndarray) -> bool:
    return bool((units == units[0]).all())


def mean_of_seeds(scores: Sequence[ResampledScore]) -> ResampledScore:
    """Average the scores of several runs of one model on the same clips."""
    correct = [score.correct for score in scores if score.correct is not None]
    return ResampledScore(
        value=float(np.mean([score.value for score in scores])),
        replicates=np.mean([score.replicates for score in scores], axis=0),
        correct=np.mean(correct, axis=0) if len(correct) == len(scores) else None,
    )


def paired_difference(
    first: ResampledScore, second: ResampledScore, discordant: Discordant | None = None
) -> Difference:
    """Subtract `second` from `first`, both on the same clips in the same order.

    Raises:
        ValueError: the scores have different numbers of resamples.
    """
    value, differences = first.value - second.value, first.replicates - second.replicates
    replicates = _unbiased(differences, value, first.correct is not None)
    return Difference(
        value=value,
        ci=percentile_interval(replicates),
        p=two_sided_p(replicates),
        resamples=int((~np.isnan(differences)).sum()),
        discordant=discordant,
    )


def clustered_difference(gains: np.ndarray, clusters: Sequence[str] | np.ndarray) -> Difference:
    """Compute the mean gain per clip, resampled by whole clusters: recordings, videos or speakers.

    Args:
        gains: (n,) outcome of the first model minus that of the second, as shares.
        clusters: (n,) name of the cluster of each clip.
    """
    replicates = clustered_replicates(gains, clusters)
    return Difference(
        value=100.0 * float(gains.mean()),
        ci=percentile_interval(replicates),
        p=two_sided_p(replicates),
        resamples=len(replicates),
    )


def sign_flip_p(gains: np.ndarray, clusters: Sequence[str] | np.ndarray) -> float:
    """Compute the two-sided p of a mean gain by flipping the signs of whole clusters: recordings, videos or speakers.

    If two models do not differ, the sum of a cluster's gains is as likely below 0 as above. p is the share of random
    sign patterns that give a sum as far from 0, the observed one counted among them (Phipson & Smyth 2010): at least
    1 / (FLIPS + 1), where a bootstrap of few resamples cannot judge one of many tests.

    Args:
        gains: (n,) outcome of the first model minus that of the second, as shares.
        clusters: (n,) name of the cluster of each clip.
    """
    _, cluster = np.unique(np.asarray(clusters, np.str_), return_inverse=True)
    sums = np.bincount(cluster, weights=gains)
    sums = sums[np.abs(sums) > TOLERANCE]  # the sign of 0 changes nothing
    rng, as_far = np.random.default_rng(SEED), 0
    for _ in range(FLIPS // FLIPS_AT_ONCE):
        signs = rng.integers(0, 2, (FLIPS_AT_ONCE, len(sums)), dtype=np.int8) * 2 - 1
        as_far += int((np.abs(signs @ sums) >= abs(sums.sum()) - TOLERANCE).sum())
    return (1 + as_far) / (FLIPS + 1)


def discordant_clips(first: np.ndarray, second: np.ndarray) -> Discordant:
    """Count the clips on which exactly one of two models is correct.

    Args:
        first: (n,) bool, whether the first model is correct.
        second: (n,) bool, whether the second model is correct.
    """
    return Discordant(int((first & ~second).sum()), int((second & ~first).sum()))


def _unbiased(replicates: np.ndarray, value: float, is_accuracy: bool) -> np.ndarray:
    """Centre the replicates of a mAP on its value: repeated clips raise it (see `bootstrap`)."""
    return replicates if is_accuracy else centred(replicates, value)
