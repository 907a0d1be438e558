"""AST's class-balanced sampling for AudioSet (YuanGongND/psla `src/gen_weight_file.py`; RECIPES.md 2.6).

The weight of a clip is the sum over its labels of 1000 / (count + 0.01). An epoch draws as many clips as the corpus
has, with replacement, like torch's WeightedRandomSampler.
"""

from __future__ import annotations

import numpy as np

from reproduce.datasets.index import Labels

WEIGHT_NUMERATOR, COUNT_OFFSET = 1000.0, 0.01


def class_balanced_weights(labels: Labels, classes: int) -> np.ndarray:
    """Sampling weight of every clip, (n,) float64, not normalised.

    A clip without labels has weight 0 and is never drawn. A label that a clip carries twice counts twice, as in AST.

    Args:
        labels: of the n training clips alone: the counts are taken over them.
        classes: number of classes.
    """
    counts = np.bincount(labels.values, minlength=classes)
    class_weights = WEIGHT_NUMERATOR / (counts + COUNT_OFFSET)
    clip_of_label = np.repeat(np.arange(len(labels)), np.diff(labels.offsets))
    return np.bincount(clip_of_label, weights=class_weights[labels.values], minlength=len(labels))


def draw_weighted(weights: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw positions with probability weight / sum(weights), with replacement: (draws,) int64.

    torch.multinomial draws the same way, but from at most 2**24 clips.

    Raises:
        ValueError: weights that are negative, not finite or all zero.
    """
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or not (weights > 0).any():
        raise ValueError("weights must be finite and not negative, and one of them positive")
    cumulative = np.cumsum(weights)
    positions = np.searchsorted(cumulative, rng.random(draws) * cumulative[-1], side="right")
    # Rounding can make the product equal to the sum, which is one position past the end.
    return np.minimum(positions, np.flatnonzero(weights)[-1])
