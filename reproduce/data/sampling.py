"""AST's class-balanced sampling for AudioSet (the weights are YuanGongND/psla `src/gen_weight_file.py`'s; RECIPES 2.6).

A clip weighs the sum over its labels of 1000 / (count + 0.01), and an epoch draws as many clips as there are, with
replacement (torch's WeightedRandomSampler). Columns in, columns out: nothing is kept per clip but a number.
"""

from __future__ import annotations

import numpy as np

from reproduce.datasets.index import Labels

WEIGHT_NUMERATOR, COUNT_OFFSET = 1000.0, 0.01


def class_balanced_weights(labels: Labels, classes: int) -> np.ndarray:
    """(n,) float64, not normalised. Counts are taken over `labels`, so pass those of the training clips alone.

    A clip without labels weighs 0 and is never drawn. A label that a clip carries twice counts twice, as in AST.
    """
    counts = np.bincount(labels.values, minlength=classes)
    class_weights = WEIGHT_NUMERATOR / (counts + COUNT_OFFSET)
    clip_of_label = np.repeat(np.arange(len(labels)), np.diff(labels.offsets))
    return np.bincount(clip_of_label, weights=class_weights[labels.values], minlength=len(labels))


def draw_weighted(weights: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,) int64 positions, each drawn with probability weight / sum, with replacement.

    torch.multinomial does the same up to 2**24 clips; this knows no limit.

    Raises:
        ValueError: weights that are negative, not finite or all zero.
    """
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or not (weights > 0).any():
        raise ValueError("weights must be finite and not negative, and one of them positive")
    cumulative = np.cumsum(weights)
    positions = np.searchsorted(cumulative, rng.random(draws) * cumulative[-1], side="right")
    # Rounding may carry the product up to the sum itself, one past the end.
    return np.minimum(positions, np.flatnonzero(weights)[-1])
