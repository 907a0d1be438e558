"""Compute scores of predictions. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


def top_k_correct(logits: np.ndarray, targets: np.ndarray, k: int = 1) -> np.ndarray:
    """Return whether each clip's class is among its k best, (n,) bool.

    Args:
        logits: (n, classes).
        targets: (n,) class indices.
        k: number of best classes; with all classes every clip is correct.

    Raises:
        ValueError: the shapes do not fit, or a logit is not finite.
    """
    return _ranks(logits, targets) < k


def _ranks(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each clip's class, (n,) int: 0 for the best."""
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ValueError(f"expected logits (n, classes) and targets (n,), got {logits.shape} and {targets.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits are not all finite")
    target_logits = np.take_along_axis(logits, targets[:, None], axis=1)
    better = (logits > target_logits).sum(axis=1)
    # A tie with a lower-numbered class ranks before the clip's class, so that constant logits do not score 100 %.
    tied_before = ((logits == target_logits) & (np.arange(logits.shape[1]) < targets[:, None])).sum(axis=1)
    return better + tied_before


def accuracy(logits: np.ndarray, targets: np.ndarray, k: int = 1) -> float:
    """Return the top-k accuracy in per cent, NaN for no clips; arguments and errors as `top_k_correct`."""
    return 100.0 * float(top_k_correct(logits, targets, k).mean()) if len(targets) else float("nan")


def action_correct(logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], k: int = 1) -> np.ndarray:
    """Return whether each clip's (verb, noun) pair is among its k best pairs, (n,) bool.

    These are EPIC-KITCHENS' actions. Pairs rank by the product of the two softmaxes, as in the official scorer
    (epic-kitchens/C1-Action-Recognition `utils/scoring.py`). All pairs of a verb and a noun are candidates.

    Args:
        logits: "verb" (n, verbs) and "noun" (n, nouns), raw.
        targets: "verb" and "noun", (n,) class indices each.
        k: number of best pairs.

    Raises:
        ValueError: as `top_k_correct`, or the heads have different numbers of clips.
    """
    ranks = {head: _ranks(logits[head], targets[head]) for head in ("verb", "noun")}
    if len(ranks["verb"]) != len(ranks["noun"]):
        raise ValueError(f"{len(ranks['verb'])} clips with verbs but {len(ranks['noun'])} with nouns")
    verb_rank, noun_rank = ranks["verb"][:, None, None], ranks["noun"][:, None, None]
    # A pair among the k best has a verb and a noun among the k best. All pairs of a clip share the normalisers of the
    # softmaxes, so sums of logits and products of probabilities give the same ranking.
    sums = _best(logits["verb"], k)[:, :, None] + _best(logits["noun"], k)[:, None, :]  # (n, <= k, <= k)
    clip = np.arange(len(sums))[:, None, None]
    within = (verb_rank < sums.shape[1]) & (noun_rank < sums.shape[2])
    target_sums = sums[clip, np.where(within, verb_rank, 0), np.where(within, noun_rank, 0)]
    verbs, nouns = np.arange(sums.shape[1])[:, None], np.arange(sums.shape[2])
    tied_before = (sums == target_sums) & ((verbs < verb_rank) | ((verbs == verb_rank) & (nouns < noun_rank)))
    return within[:, 0, 0] & (((sums > target_sums) | tied_before).sum(axis=(1, 2)) < k)


def _best(logits: np.ndarray, k: int) -> np.ndarray:
    """Return the k best logits of each clip, best first, (n, at most k) float64."""
    return -np.sort(-np.asarray(logits, np.float64), axis=1)[:, :k]


def average_precision(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the average precision per class, (classes,) within 0..1; NaN for a class without positives.

    The values equal scikit-learn's.

    Args:
        targets: (n, classes) of 0 and 1.
        scores: (n, classes), any monotone scale.

    Raises:
        ValueError: the shapes do not fit, or a score is not finite.
    """
    targets, scores = _checked(targets, scores)
    return np.array([_average_precision(t, s) for t, s in zip(targets.T, scores.T, strict=True)])


def _checked(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, scores = np.asarray(targets, bool), np.asarray(scores)
    if targets.shape != scores.shape or targets.ndim != 2:
        raise ValueError(f"expected targets and scores (n, classes), got {targets.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores are not all finite")
    return targets, scores


def _average_precision(positives: np.ndarray, scores: np.ndarray) -> float:
    """Average precision of one class, from (n,) and (n,). Clips of equal score share one threshold."""
    hits, clips = _counts_up_to(-scores, positives)
    if not len(hits) or not hits[-1]:
        return float("nan")
    return float(np.sum(np.diff(hits, prepend=0) * (hits / clips)) / hits[-1])


def _counts_up_to(values: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of positives and of all clips whose value is at most each distinct value, in ascending order."""
    if not len(values):
        return np.zeros(0, int), np.zeros(0, int)
    order = np.argsort(values)  # an unstable sort is twice as fast; the order within a tie has no effect
    ranked = values[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return np.cumsum(positives[order])[ends], ends + 1


@dataclass(frozen=True)
class MeanAveragePrecision:
    """A mean of average precisions.

    Args:
        value: macro mean over the classes that have positives, in per cent; NaN if no class has any.
        classes_without_positives: classes that the mean leaves out.
    """

    value: float
    classes_without_positives: int


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> MeanAveragePrecision:
    """Compute AudioSet's mAP (YuanGongND/ast `src/utilities/stats.py`), but exclude classes without positives.

    Arguments and errors as `average_precision`.
    """
    values = average_precision(targets, scores)
    present = ~np.isnan(values)
    value = 100.0 * float(values[present].mean()) if present.any() else float("nan")
    return MeanAveragePrecision(value, int((~present).sum()))


def roc_auc(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve per class, (classes,) within 0..1, equal to scikit-learn's.

    It is the share of (positive, negative) pairs in the right order, where a tie counts half, and NaN for a class
    without positives or without negatives. Arguments and errors as `average_precision`.
    """
    targets, scores = _checked(targets, scores)
    return np.array([_roc_auc(t, s) for t, s in zip(targets.T, scores.T, strict=True)])


def _roc_auc(positives: np.ndarray, scores: np.ndarray) -> float:
    """Area of one class, from (n,) and (n,): count the negatives below each positive at every distinct score."""
    hits, clips = _counts_up_to(scores, positives)
    if not len(hits) or not 0 < hits[-1] < clips[-1]:
        return float("nan")
    negatives = clips - hits
    negatives_below = np.append(0, negatives[:-1])
    pairs = np.diff(hits, prepend=0) * (negatives_below + negatives) / 2
    return float(pairs.sum() / hits[-1] / negatives[-1])


@dataclass(frozen=True)
class MeanAUC:
    """A mean of areas under the ROC curve.

    Args:
        value: macro mean over the classes that have positives and negatives, in per cent; NaN if no class has both.
        d_prime: `d_prime` of that mean, without a unit.
    """

    value: float
    d_prime: float


def mean_auc(targets: np.ndarray, scores: np.ndarray) -> MeanAUC:
    """Compute AudioSet's mAUC and the d-prime of that mean (YuanGongND/ast `src/utilities/stats.py`).

    Arguments and errors as `average_precision`.
    """
    values = roc_auc(targets, scores)
    present = ~np.isnan(values)
    mean = float(values[present].mean()) if present.any() else float("nan")
    return MeanAUC(100.0 * mean, d_prime(mean))


def d_prime(auc: float) -> float:
    """Return sqrt(2) times the standard normal quantile of an AUC within 0..1: 0 at chance, infinite for an AUC of 1.

    Raises:
        ValueError: the AUC is outside 0..1.
    """
    if math.isnan(auc):
        return float("nan")
    if not 0 <= auc <= 1:
        raise ValueError(f"an AUC must be within 0..1 (not per cent), got {auc}")
    if auc in (0.0, 1.0):
        return math.inf if auc else -math.inf
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def confusion_matrix(predicted: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """Count the clips by true class (rows) and predicted class (columns), (classes, classes) int64.

    Args:
        predicted: (n,) class indices.
        targets: (n,) class indices.
        classes: number of classes.
    """
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(targets), np.asarray(predicted)), 1)
    return matrix
