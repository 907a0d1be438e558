"""The weighted sampler draws as AST's does, from columns alone."""

from __future__ import annotations

import numpy as np
import pytest

from reproduce.data.sampling import class_balanced_weights, draw_weighted
from reproduce.datasets.index import Labels


def random_labels(clips: int, classes: int, seed: int = 0) -> list[list[int]]:
    """Up to four labels a clip, some clips none, low classes far more frequent."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 5, size=clips)
    return [sorted({int(classes * rng.random() ** 3) for _ in range(size)}) for size in sizes]


def test_weights_equal_the_loop_over_clips() -> None:
    rows = random_labels(500, 40)
    counts = np.zeros(40)
    for row in rows:
        for label in row:
            counts[label] += 1
    expected = [sum(1000.0 / (counts[label] + 0.01) for label in row) for row in rows]
    assert class_balanced_weights(Labels.from_rows(rows), 40) == pytest.approx(expected)


def test_no_clips_and_no_labels_have_no_weight() -> None:
    assert class_balanced_weights(Labels.from_rows([]), 3).shape == (0,)
    assert class_balanced_weights(Labels.from_rows([[], []]), 3).tolist() == [0.0, 0.0]


def test_draws_follow_the_weights() -> None:
    weights = np.array([0.0, 1.0, 5.0, 0.0, 4.0, 0.0])
    draws = 200_000
    counts = np.bincount(draw_weighted(weights, draws, np.random.default_rng(0)), minlength=6)
    share = weights / weights.sum()
    assert (counts[share == 0] == 0).all()
    assert np.abs(counts - draws * share).max() < 5 * np.sqrt(draws * 0.25)  # five standard deviations at most


def test_the_generator_decides() -> None:
    weights = np.arange(1.0, 100.0)
    first, again, other = (draw_weighted(weights, 50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


class LargestDraw:
    """A generator whose every number rounds the product up to the sum of the weights."""

    def random(self, size: int) -> np.ndarray:
        return np.ones(size)


def test_rounding_never_draws_past_the_last_clip_with_weight() -> None:
    drawn = draw_weighted(np.array([1.0, 2.0, 0.0]), 4, LargestDraw())  # type: ignore[arg-type]
    assert drawn.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]])
def test_weights_that_cannot_be_drawn_from_are_errors(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be"):
        draw_weighted(np.array(weights), 3, np.random.default_rng(0))
