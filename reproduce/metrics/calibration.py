"""Scores beyond top-1 accuracy, of clips that each carry one label, on a sample and on resamples of it. NumPy only.

`weights` (n, resamples) say how often each clip counts in each resample, see `bootstrap.clustered_counts`; a column of
ones gives the score of the sample itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # of equal width over the confidence, as in Guo et al., On Calibration of Modern Neural Networks (2017)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A reliability diagram: what a model says and what is true, by confidence.

    Args:
        edges: (bins + 1,) of the confidence, from 0 to 1.
        share: (bins,) share of the clips.
        confidence: (bins,) mean confidence, NaN in an empty bin.
        accuracy: (bins,) share of correct clips, NaN in an empty bin.
    """

    edges: np.ndarray
    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def confidence_of(probabilities: np.ndarray) -> np.ndarray:
    """The probability of each clip's likeliest class, (n,), of (n, classes)."""
    return np.asarray(probabilities.max(axis=-1))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Bin clips by confidence, (n,) within 0..1, and compare with whether each is correct, (n,)."""
    place = _bin_of(confidence, bins)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights=values, minlength=bins) / counts for values in (confidence, correct)]
    return Reliability(
        edges=np.linspace(0, 1, bins + 1), share=counts / len(place), confidence=means[0], accuracy=means[1]
    )


def _bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Number of each clip's bin; a bin contains its upper edge."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Expected calibration error within 0..1, (resamples,).

    It is the mean over clips of |accuracy - confidence| of their bin.

    Args:
        confidence: (n,) probability of the predicted class.
        correct: (n,) whether it is the clip's class.
        weights: (n, resamples).
        bins: of equal width.
    """
    gaps = (np.asarray(correct, np.float64) - confidence)[:, None] * weights
    place = _bin_of(confidence, bins)
    total = np.zeros(weights.shape[1])
    for number in np.unique(place):
        total += np.abs(gaps[place == number].sum(axis=0))
    return np.asarray(total / weights.sum(axis=0))


def brier_scores(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Brier score of each clip, (n,): the squared distance of its probabilities from its label, summed over classes.

    Args:
        probabilities: (n, classes).
        targets: (n,) class indices.
    """
    return np.asarray(((probabilities - np.eye(probabilities.shape[1])[targets]) ** 2).sum(axis=1))


def log_losses(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each clip's class in nats, (n,); arguments as `brier_scores`."""
    own = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(own, np.finfo(np.float64).tiny)))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (n,) values in every resample, (resamples,)."""
    return np.asarray(values @ weights / weights.sum(axis=0))


def balanced_accuracy(correct: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of correct clips, within 0..1, (resamples,); classes without clips do not count.

    Args:
        correct: (n,) shares of correct runs.
        targets: (n,) class indices.
        weights: (n, resamples).
    """
    total, classes = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for name in np.unique(targets):
        own = targets == name
        clips = weights[own].sum(axis=0)
        present = clips > 0
        total[present] += (correct[own] @ weights[own])[present] / clips[present]
        classes += present
    return np.asarray(total / classes)
