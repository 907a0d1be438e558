"""Scores equal scikit-learn's and torchmetrics', and say so when there is nothing to score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, top_k_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from reproduce.metrics.scores import (
    accuracy,
    average_precision,
    confusion_matrix,
    mean_average_precision,
    top_k_correct,
)

few_scores = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])  # so few that ties are the rule


def random_problem(n: int = 60, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, classes)), rng.integers(classes, size=n)


# --- top-k ----------------------------------------------------------------------------------------------------------


def test_top_1_and_top_2_by_hand() -> None:
    logits = np.array([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3], [0.0, 1.0, 2.0]])
    targets = np.array([1, 2, 0])
    assert top_k_correct(logits, targets).tolist() == [True, False, False]
    assert top_k_correct(logits, targets, 2).tolist() == [True, True, False]
    assert accuracy(logits, targets) == pytest.approx(100 / 3)
    assert accuracy(logits, targets, 2) == pytest.approx(200 / 3)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_equals_scikit_learn_without_ties(k: int) -> None:
    logits, targets = random_problem()
    theirs = 100 * top_k_accuracy_score(targets, logits, k=k, labels=np.arange(7))
    assert accuracy(logits, targets, k) == pytest.approx(theirs)


def test_top_1_is_argmax_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.integers(3, size=(200, 5)).astype(float), rng.integers(5, size=200)
    assert (top_k_correct(logits, targets) == (logits.argmax(axis=1) == targets)).all()


def test_constant_logits_score_chance_not_everything() -> None:
    targets = np.repeat(np.arange(10), 3)
    for k in (1, 5, 10):
        assert accuracy(np.zeros((30, 10)), targets, k) == pytest.approx(10.0 * k)


@given(arrays(np.float64, (6, 4), elements=few_scores), arrays(np.int64, 6, elements=st.integers(0, 3)))
def test_exactly_k_classes_of_every_clip_are_among_its_k_best(logits: np.ndarray, targets: np.ndarray) -> None:
    for k in range(1, 5):
        among = [top_k_correct(logits, np.full(6, c), k) for c in range(4)]
        assert (np.sum(among, axis=0) == k).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    logits, targets = random_problem()
    logits[3, 2] = bad
    with pytest.raises(ValueError, match="not all finite"):
        top_k_correct(logits, targets)
    with pytest.raises(ValueError, match="not all finite"):
        average_precision(np.zeros_like(logits), logits)


@pytest.mark.parametrize(("logits", "targets"), [((4,), (4,)), ((4, 2), (3,)), ((4, 2), (4, 2))])
def test_shapes_that_do_not_fit_are_an_error(logits: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected logits"):
        top_k_correct(np.zeros(logits), np.zeros(targets, int))


def test_no_clips_give_no_accuracy() -> None:
    assert top_k_correct(np.zeros((0, 5)), np.zeros(0, int)).shape == (0,)
    assert math.isnan(accuracy(np.zeros((0, 5)), np.zeros(0, int)))


# --- average precision ----------------------------------------------------------------------------------------------


def test_average_precision_by_hand() -> None:
    # Ranked by score: 1 0 1 0, so precision 1/1 and 2/3 at the two positives.
    assert average_precision(np.array([[0], [1], [1], [0]]), np.array([[0.8], [0.9], [0.3], [0.1]])) == pytest.approx(
        [(1 + 2 / 3) / 2]
    )


@given(arrays(bool, 12), arrays(np.float64, 12, elements=few_scores))
@settings(deadline=None)
def test_average_precision_equals_scikit_learn_with_ties(positives: np.ndarray, scores: np.ndarray) -> None:
    ours = average_precision(positives[:, None], scores[:, None])[0]
    if positives.any():
        assert ours == pytest.approx(average_precision_score(positives, scores), abs=1e-12)
    else:
        assert math.isnan(ours)


def test_classes_without_positives_are_counted_and_not_taken_as_zero() -> None:
    targets = np.array([[1, 0, 0], [0, 0, 1]])
    scores = np.array([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    result = mean_average_precision(targets, scores)
    assert result.value == pytest.approx(100 * (1.0 + 0.5) / 2)
    assert result.classes_without_positives == 1


@pytest.mark.parametrize("n", [0, 3])
def test_no_positives_at_all_give_no_map(n: int) -> None:
    result = mean_average_precision(np.zeros((n, 4)), np.zeros((n, 4)))
    assert math.isnan(result.value)
    assert result.classes_without_positives == 4


def test_targets_of_another_shape_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected targets and scores"):
        average_precision(np.zeros((3, 2)), np.zeros((2, 3)))


# --- confusion matrix -----------------------------------------------------------------------------------------------


def test_confusion_matrix_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    predicted, targets = rng.integers(8, size=(2, 500))
    theirs = sklearn_confusion_matrix(targets, predicted, labels=np.arange(8))
    assert (confusion_matrix(predicted, targets, 8) == theirs).all()
