"""Actions, AUC and d-prime equal scikit-learn, torchmetrics and the official scorer; empty classes are counted."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from reproduce.metrics.scores import action_correct, average_precision, d_prime, mean_auc, roc_auc, top_k_correct

few_scores = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])  # so few that ties are the rule


def epic_problem(
    n: int = 200, verbs: int = 9, nouns: int = 14, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits that favour the right class, so that all four combinations of right and wrong occur."""
    rng = np.random.default_rng(seed)
    targets = {"verb": rng.integers(verbs, size=n), "noun": rng.integers(nouns, size=n)}
    logits = {"verb": rng.standard_normal((n, verbs)), "noun": rng.standard_normal((n, nouns))}
    for head, classes in targets.items():
        logits[head][np.arange(n), classes] += 1.5
    return logits, targets


# --- actions --------------------------------------------------------------------------------------------------------


def test_an_action_is_right_only_if_verb_and_noun_are() -> None:
    verb, noun = np.array([[2.0, 0], [2, 0], [0, 2], [0, 2]]), np.array([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 0, 2]])
    targets = {"verb": np.zeros(4, int), "noun": np.zeros(4, int)}
    assert action_correct({"verb": verb, "noun": noun}, targets).tolist() == [True, False, False, False]


def test_top_1_of_actions_is_both_top_1_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    logits = {
        "verb": rng.integers(3, size=(300, 4)).astype(float),
        "noun": rng.integers(3, size=(300, 5)).astype(float),
    }
    targets = {"verb": rng.integers(4, size=300), "noun": rng.integers(5, size=300)}
    both = np.logical_and(*(top_k_correct(logits[head], targets[head]) for head in ("verb", "noun")))
    assert both.any() and not both.all()
    assert (action_correct(logits, targets) == both).all()


@pytest.mark.parametrize("k", [1, 2, 5, 12, 30])
def test_top_k_of_actions_ranks_products_of_softmaxes(k: int) -> None:
    """The rule of the official scorer, on the whole matrix of pairs."""
    logits, targets = epic_problem()
    probabilities = {head: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for head, x in logits.items()}
    products = probabilities["verb"][:, :, None] * probabilities["noun"][:, None, :]
    own = products[np.arange(200), targets["verb"], targets["noun"]]
    expected = (products > own[:, None, None]).sum(axis=(1, 2)) < k
    assert 0 < expected.sum() < 200
    assert (action_correct(logits, targets, k) == expected).all()


@given(
    arrays(np.float64, (3, 3), elements=few_scores), arrays(np.float64, (3, 4), elements=few_scores), st.integers(1, 13)
)
@settings(deadline=None, max_examples=30)
def test_exactly_k_pairs_of_every_clip_are_among_its_k_best(verb: np.ndarray, noun: np.ndarray, k: int) -> None:
    logits = {"verb": verb, "noun": noun}
    among = [
        action_correct(logits, {"verb": np.full(3, v), "noun": np.full(3, n)}, k) for v in range(3) for n in range(4)
    ]
    assert (np.sum(among, axis=0) == min(k, 12)).all()


def test_actions_of_unequal_heads_or_no_clips() -> None:
    logits, targets = epic_problem(5)
    with pytest.raises(ValueError, match="5 clips with verbs but 4 with nouns"):
        action_correct({**logits, "noun": logits["noun"][:4]}, {**targets, "noun": targets["noun"][:4]})
    assert action_correct({h: x[:0] for h, x in logits.items()}, {h: t[:0] for h, t in targets.items()}, 5).shape == (
        0,
    )
    logits["noun"][2, 2] = math.nan
    with pytest.raises(ValueError, match="not all finite"):
        action_correct(logits, targets)


# --- AUC ------------------------------------------------------------------------------------------------------------


def test_auc_by_hand() -> None:
    # Of the four (positive, negative) pairs two are in order, one is reversed and one is tied.
    assert roc_auc(np.array([[1], [1], [0], [0]]), np.array([[0.9], [0.2], [0.2], [0.5]])) == pytest.approx([2.5 / 4])


@given(arrays(bool, 12), arrays(np.float64, 12, elements=few_scores))
@settings(deadline=None)
def test_auc_equals_scikit_learn_with_ties(positives: np.ndarray, scores: np.ndarray) -> None:
    ours = roc_auc(positives[:, None], scores[:, None])[0]
    if positives.any() and not positives.all():
        assert ours == pytest.approx(roc_auc_score(positives, scores), abs=1e-12)
    else:
        assert math.isnan(ours)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_of_any_precision_and_targets_of_any_type_rank_alike(dtype: type) -> None:
    rng = np.random.default_rng(3)
    targets, scores = rng.random((60, 3)) < 0.4, rng.integers(-8, 8, size=(60, 3))
    for kind in (bool, np.uint8, np.float32):
        assert (roc_auc(targets.astype(kind), scores.astype(dtype)) == roc_auc(targets, scores)).all()
        assert (
            average_precision(targets.astype(kind), scores.astype(dtype)) == average_precision(targets, scores)
        ).all()


def test_ties_count_alike_in_whatever_order_they_come() -> None:
    """The sort is unstable, so nothing may depend on the order of equal scores."""
    rng = np.random.default_rng(4)
    targets, scores = rng.random((5000, 1)) < 0.2, rng.integers(6, size=(5000, 1)).astype(np.float32)
    for _ in range(3):
        order = rng.permutation(5000)
        assert roc_auc(targets[order], scores[order]) == roc_auc(targets, scores)
        assert average_precision(targets[order], scores[order]) == average_precision(targets, scores)


def test_classes_without_positives_or_negatives_are_not_scored() -> None:
    targets = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    scores = np.array([[0.9] * 4, [0.1] * 4, [0.2] * 4])
    result = mean_auc(targets, scores)
    assert result.value == pytest.approx(100 * (1.0 + 0.0) / 2)
    assert result.d_prime == pytest.approx(0.0)


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_to_score_gives_no_auc(n: int) -> None:
    result = mean_auc(np.zeros((n, 4)), np.zeros((n, 4)))
    assert math.isnan(result.value) and math.isnan(result.d_prime)


def test_shapes_that_do_not_fit_and_scores_that_are_not_finite_are_errors() -> None:
    with pytest.raises(ValueError, match="expected targets and scores"):
        roc_auc(np.zeros((3, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="not all finite"):
        roc_auc(np.zeros((1, 2)), np.array([[0.0, math.inf]]))


# --- d-prime --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auc", [1e-9, 0.2, 0.5, 0.75, 0.97, 1 - 1e-9])
def test_d_prime_equals_scipys_quantile(auc: float) -> None:
    assert d_prime(auc) == pytest.approx(math.sqrt(2) * norm.ppf(auc), rel=1e-9, abs=1e-12)


def test_d_prime_is_that_of_the_mean_auc() -> None:
    rng = np.random.default_rng(5)
    targets = rng.random((400, 6)) < 0.3
    scores = targets * rng.uniform(0.5, 3.0, 6) + rng.standard_normal((400, 6))
    result, values = mean_auc(targets, scores), roc_auc(targets, scores)
    assert result.d_prime == pytest.approx(math.sqrt(2) * norm.ppf(values.mean()))
    assert result.d_prime != pytest.approx(np.mean([d_prime(value) for value in values]), abs=1e-3)


def test_d_prime_at_its_ends() -> None:
    assert (d_prime(0.0), d_prime(0.5), d_prime(1.0)) == (-math.inf, 0.0, math.inf)
    assert math.isnan(d_prime(math.nan))
    with pytest.raises(ValueError, match="not per cent"):
        d_prime(97.0)


def test_metrics_import_neither_scipy_nor_torch() -> None:
    code = "import sys, reproduce.metrics.scores; print(sorted({'scipy', 'torch', 'sklearn'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
