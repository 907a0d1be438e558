"""Resample test clips: bootstrap intervals and p-values of scores and paired differences. No torch here.

    counts = resample_counts(len(correct))                   # count of each clip in each resample
    percentile_interval(mean_replicates(correct, counts))    # interval of an accuracy, in per cent
    percentile_interval(clustered_replicates(correct, videos))  # the same for clips from fewer videos
    percentile_interval(centred(map_replicates(targets, scores, counts), mean_ap))

For a paired bootstrap, use the same `counts` for two runs on the same clips and subtract their replicates.

An mAP needs centring. A resample repeats clips. A positive that occurs twice follows itself in the ranking, which
raises the average precision of its class. At AudioSet's size the mAP of resamples is about a point above that of the
sample, four times its spread, so that the plain percentile interval does not contain the score. Accuracies have no
such bias.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

RESAMPLES, MAP_RESAMPLES = 1000, 500  # an mAP over AudioSet's 15,818 clips and 527 classes takes 10 ms per resample
SEED = 0
DRAWS_AT_ONCE = 2**18  # of several resamples: they are those that one resample after the other would draw


@lru_cache(maxsize=8)
def resample_counts(n: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Count the draws of each clip in each resample of `n` clips with replacement, (n, resamples) uint8, read-only.

    The same arguments give the same resamples: a report draws those of a few sizes some hundred times.

    Raises:
        ValueError: `n` or `resamples` is below 1.
    """
    if n < 1 or resamples < 1:
        raise ValueError(f"a bootstrap needs clips and resamples, got {n} and {resamples}")
    rng = np.random.default_rng(seed)
    counts = np.empty((n, resamples), np.uint8)  # 256 draws of one clip have a probability below 1e-500
    step = max(1, DRAWS_AT_ONCE // n)
    for start in range(0, resamples, step):
        several = min(step, resamples - start)
        draws = rng.integers(n, size=(several, n)) + n * np.arange(several)[:, None]
        counts[:, start : start + several] = np.bincount(draws.ravel(), minlength=n * several).reshape(several, n).T
    counts.flags.writeable = False
    return counts


def mean_replicates(outcomes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute an accuracy in every resample, in per cent, (resamples,).

    Args:
        outcomes: (n,) 1 for a correct clip, 0 for a wrong one; values between them for a mean over seeds.
        counts: (n, resamples), see `resample_counts`.

    Raises:
        ValueError: `outcomes` and `counts` have different numbers of clips.
    """
    outcomes = np.asarray(outcomes, np.float32)
    if outcomes.shape != counts.shape[:1]:
        raise ValueError(f"{outcomes.shape} outcomes but counts of {counts.shape[0]} clips")
    total = np.zeros(counts.shape[1])
    for start in range(0, len(outcomes), 4096):  # in slices, so that the counts as floats stay small
        total += outcomes[start : start + 4096] @ counts[start : start + 4096].astype(np.float32)
    return 100.0 * total / len(outcomes)


def clustered_replicates(
    values: np.ndarray, clusters: Sequence[str] | np.ndarray, resamples: int = RESAMPLES
) -> np.ndarray:
    """Compute a mean over clips in every resample of whole clusters of clips, in per cent, (resamples,).

    Outcomes of clips from one recording are correlated, and a new test set has new recordings.

    Args:
        values: (n,) value of each clip, as a share.
        clusters: (n,) name of the cluster of each clip.
        resamples: number of resamples.

    Raises:
        ValueError: no clips, or no resamples.
    """
    names, cluster = np.unique(np.asarray(clusters, np.str_), return_inverse=True)
    sums, sizes = np.bincount(cluster, weights=values), np.bincount(cluster)
    counts = resample_counts(len(names), resamples).astype(np.float64)
    return np.asarray(100.0 * (sums @ counts) / (sizes @ counts))


def clustered_counts(clusters: Sequence[str] | np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Count each clip in each resample of whole clusters of clips, (n, resamples) uint8.

    Args:
        clusters: (n,) name of the cluster of each clip.
        resamples: number of resamples.

    Raises:
        ValueError: no clips, or no resamples.
    """
    names, cluster = np.unique(np.asarray(clusters, np.str_), return_inverse=True)
    return resample_counts(len(names), resamples)[cluster]


def weighted_average_precision(positives: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the average precision of one class for every column of weights, (columns,) within 0..1.

    The result equals scikit-learn's `average_precision_score(positives, scores, sample_weight=column)`, and NaN where
    the positives have no weight. All columns share one argsort.

    Args:
        positives: (n,) bool.
        scores: (n,); equal scores share a threshold.
        weights: (n, columns) uint8.
    """
    positives = np.asarray(positives, bool)
    order = np.argsort(-scores)
    ranked, hits = scores[order], positives[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    ends = np.flatnonzero(last_of_tie)
    tie_of_hit = np.searchsorted(ends, np.flatnonzero(hits))
    # Recall changes only at ties that contain a positive: only these need a precision.
    ties, starts_of_ties = np.unique(tie_of_hit, return_index=True)
    if not len(ties):
        return np.full(weights.shape[1], np.nan)
    all_weight = _segment_sums(weights, order, np.append(0, ends[ties] + 1))
    hit_weight = _segment_sums(weights, order[hits], np.append(starts_of_ties, len(tie_of_hit)))
    hits_so_far, all_so_far = np.cumsum(hit_weight, axis=0), np.cumsum(all_weight, axis=0)
    precision = hits_so_far / np.maximum(all_so_far, 1)  # 0 before the first clip
    total = hits_so_far[-1]
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, (hit_weight * precision).sum(axis=0) / total, np.nan)


def _segment_sums(weights: np.ndarray, order: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums of weights[order[bounds[i]:bounds[i + 1]]] over clips, (segments, columns) int64.

    A loop, because np.add.reduceat is six times slower along this axis.
    """
    sums = np.empty((len(bounds) - 1, weights.shape[1]), np.int64)
    for i, (start, stop) in enumerate(itertools.pairwise(bounds)):
        sums[i] = weights[order[start:stop]].sum(axis=0, dtype=np.int32)
    return sums


def map_replicates(targets: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the mAP in every resample, in per cent, (resamples,): the mean over the classes with positives in it.

    Args:
        targets: (n, classes) of 0 and 1.
        scores: (n, classes).
        counts: (n, resamples), see `resample_counts`.

    Raises:
        ValueError: the shapes do not fit, or a score is not finite.
    """
    targets, scores = np.asarray(targets, bool), np.asarray(scores)
    if targets.shape != scores.shape or targets.shape[:1] != counts.shape[:1]:
        raise ValueError(f"targets {targets.shape}, scores {scores.shape} and counts {counts.shape} do not fit")
    if not np.isfinite(scores).all():
        raise ValueError("scores are not all finite")
    total, classes = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for k in np.flatnonzero(targets.any(axis=0)):
        precision = weighted_average_precision(targets[:, k], scores[:, k], counts)
        total += np.nan_to_num(precision)
        classes += ~np.isnan(precision)
    with np.errstate(invalid="ignore"):
        return 100.0 * total / classes


def centred(replicates: np.ndarray, value: float) -> np.ndarray:
    """Shift `replicates`, (resamples,), so that their mean is the observed `value`; both have the same unit."""
    return replicates - np.nanmean(replicates) + value if not np.isnan(replicates).all() else replicates


def percentile_interval(replicates: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of (resamples,) without NaN, in their unit; NaN if no replicate remains."""
    kept = replicates[~np.isnan(replicates)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.percentile(kept, (2.5, 97.5))
    return float(low), float(high)


def two_sided_p(differences: np.ndarray) -> float:
    """Return the bootstrap p-value of a paired difference: twice the smaller tail at 0.

    The tails are the shares of resamples at or below 0 and at or above 0. The observed sample counts as one more
    resample in both, so that p is at least 2 / (resamples + 1).

    Args:
        differences: (resamples,) in any unit; NaN is left out.
    """
    kept = differences[~np.isnan(differences)]
    tail = min(int((kept <= 0).sum()), int((kept >= 0).sum()))
    return min(1.0, 2.0 * (tail + 1) / (len(kept) + 1))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation over seeds, in the unit of `values`; None for a single seed.

    Raises:
        statistics.StatisticsError: no values.
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
