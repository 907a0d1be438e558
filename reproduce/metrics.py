"""Scores of predictions: arrays in, floats out. Nothing is printed, plotted or opened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def top_k_correct(logits: np.ndarray, targets: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether each clip's class is among its k best, (n,) bool.

    Args:
        logits: (n, classes).
        targets: (n,) class indices.
        k: at least the number of classes makes every clip right.

    Raises:
        ValueError: shapes that do not fit, or logits that are not finite.
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ValueError(f"expected logits (n, classes) and targets (n,), got {logits.shape} and {targets.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits are not all finite")
    own = np.take_along_axis(logits, targets[:, None], axis=1)
    better = (logits > own).sum(axis=1)
    # A tie with a lower-numbered class counts against the clip, so that constant logits do not score 100 %.
    tied_before = ((logits == own) & (np.arange(logits.shape[1]) < targets[:, None])).sum(axis=1)
    return better + tied_before < k


def accuracy(logits: np.ndarray, targets: np.ndarray, k: int = 1) -> float:
    """Top-k accuracy in per cent; NaN for no clips."""
    return 100.0 * float(top_k_correct(logits, targets, k).mean()) if len(targets) else float("nan")


def average_precision(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision per class, (classes,), equal to scikit-learn's; NaN for a class without positives.

    Args:
        targets: (n, classes) of 0 and 1.
        scores: (n, classes), any monotone scale.
    """
    targets, scores = np.asarray(targets, bool), np.asarray(scores)
    if targets.shape != scores.shape or targets.ndim != 2:
        raise ValueError(f"expected targets and scores (n, classes), got {targets.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores are not all finite")
    return np.array([_average_precision(t, s) for t, s in zip(targets.T, scores.T, strict=True)])


def _average_precision(positives: np.ndarray, scores: np.ndarray) -> float:
    """Of one class, (n,) and (n,). Clips of equal score share one threshold, as in scikit-learn."""
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(positives[order]), scores[order]
    if not len(hits) or not hits[-1]:
        return float("nan")
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    precision = hits[ends] / (ends + 1)
    return float(np.sum(np.diff(hits[ends], prepend=0) * precision) / hits[-1])


@dataclass(frozen=True)
class MeanAveragePrecision:
    """Macro mean over the classes that have positives, in per cent, and how many classes were left out."""

    value: float
    classes_scored: int
    classes_without_positives: int


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> MeanAveragePrecision:
    """AudioSet's mAP (YuanGongND/ast `src/utilities/stats.py`), except that empty classes are counted, not zeros."""
    values = average_precision(targets, scores)
    present = ~np.isnan(values)
    value = 100.0 * float(values[present].mean()) if present.any() else float("nan")
    return MeanAveragePrecision(value, int(present.sum()), int((~present).sum()))


def confusion_matrix(predicted: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) counts, true class in rows."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(targets), np.asarray(predicted)), 1)
    return matrix
