"""Recall per class, and balanced accuracy: the mean recall over the classes that have test clips. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reproduce.metrics.bootstrap import RESAMPLES, clustered_counts, percentile_interval, resample_counts


def recalls(correct: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Compute the recall of each class in per cent, (count,); NaN for a class without clips.

    Args:
        correct: (n,) 1 for a correct clip, 0 for a wrong one; values between them for a mean over seeds.
        classes: (n,) class indices.
        count: number of classes.
    """
    clips = np.bincount(classes, minlength=count)
    with np.errstate(invalid="ignore"):
        return 100.0 * np.bincount(classes, weights=correct, minlength=count) / np.where(clips, clips, np.nan)


def balanced_accuracy(correct: np.ndarray, classes: np.ndarray) -> float:
    """Compute the mean recall over the classes present, in per cent; NaN for no clips."""
    values = recalls(correct, classes, int(classes.max(initial=0)) + 1)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def balanced_interval(
    correct: np.ndarray, classes: np.ndarray, units: Sequence[str] | np.ndarray | None, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Compute the 95 % bootstrap interval of the balanced accuracy, in per cent.

    A resample that lacks a class is scored over the others.

    Args:
        correct: see `recalls`.
        classes: (n,) class indices.
        units: (n,) name of the recording or speaker of each clip, which are resampled; None where every clip is one.
        resamples: number of resamples.

    Returns:
        Lower and upper bound; None for no clips, or clips of a single unit.
    """
    if not len(correct) or (units is not None and len(set(units)) < 2):
        return None
    counts = (
        resample_counts(len(correct), resamples) if units is None else clustered_counts(np.asarray(units), resamples)
    )
    total, present = np.zeros(resamples), np.zeros(resamples)
    for index in np.unique(classes):
        rows = classes == index
        weights = counts[rows].astype(np.float64)
        drawn = weights.sum(axis=0)
        total += np.divide(correct[rows] @ weights, drawn, out=np.zeros(resamples), where=drawn > 0)
        present += drawn > 0
    return percentile_interval(100.0 * total / present)
