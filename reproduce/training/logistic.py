"""Logistic regression with its strength chosen on the training clips. No torch here; scikit-learn is imported late."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # inverse regularisation, scikit-learn's C
DEFAULT_STRENGTH = 0.01
CHOSEN_ON = 3000  # training clips at most, by which C is chosen
FOLDS = 3
ITERATIONS = 200
ABSENT = -10.0  # below the lowest logit, for a class without training clips


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows that a regression is fitted to.

    Args:
        features: (n, dims).
        targets: (n, classes), 0 or 1.
        groups: (n,) names of recordings or speakers, which no fold of the choice divides.
        multilabel: one regression per class, rather than one over all.
        balanced: weigh classes alike.
    """

    features: np.ndarray
    targets: np.ndarray
    groups: Sequence[str]
    multilabel: bool
    balanced: bool


def fit_and_score(rows: TrainingRows, tested: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit to the training rows, features standardised by them.

    Args:
        rows: see there.
        tested: (m, dims) features of the test clips.

    Returns:
        (m, classes) float32 logits, and the chosen C.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows.features)
    rows = TrainingRows(
        features=scaler.transform(rows.features),
        targets=rows.targets,
        groups=rows.groups,
        multilabel=rows.multilabel,
        balanced=rows.balanced,
    )
    strength = _choose(rows)
    return _logits(rows, scaler.transform(tested), strength), strength


def _choose(rows: TrainingRows) -> float:
    """The C with the highest score on folds of the training clips."""
    positions = np.arange(len(rows.features))
    if len(positions) > CHOSEN_ON:
        positions = np.sort(np.random.default_rng(0).choice(len(positions), CHOSEN_ON, replace=False))
    groups = [str(rows.groups[i]) for i in positions.tolist()]
    if len(set(groups)) < 2:
        return DEFAULT_STRENGTH
    scores = dict.fromkeys(STRENGTHS, 0.0)
    for train, val in _folds(rows.targets[positions], groups):
        part = _take(rows, positions[train])
        for strength in STRENGTHS:
            logits = _logits(part, rows.features[positions[val]], strength)
            scores[strength] += _correct(logits, rows.targets[positions[val]], rows.multilabel)
    return max(STRENGTHS, key=lambda strength: scores[strength])


def _folds(targets: np.ndarray, groups: Sequence[str]) -> Any:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    classes, count = targets.argmax(axis=1), min(FOLDS, len(set(groups)))
    splitter = StratifiedGroupKFold if np.bincount(classes).max() >= count else GroupKFold
    with warnings.catch_warnings():  # a class with fewer clips than folds
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter(n_splits=count).split(classes, classes, groups))


def _take(rows: TrainingRows, positions: np.ndarray) -> TrainingRows:
    return TrainingRows(
        features=rows.features[positions],
        targets=rows.targets[positions],
        groups=[rows.groups[i] for i in positions.tolist()],
        multilabel=rows.multilabel,
        balanced=rows.balanced,
    )


def _correct(logits: np.ndarray, targets: np.ndarray, multilabel: bool) -> float:
    """Correct clips; of clips with several labels, correct labels."""
    if multilabel:
        return float(((logits > 0) == (targets > 0)).mean(axis=1).sum())
    return float((logits.argmax(axis=1) == targets.argmax(axis=1)).sum())


def _logits(rows: TrainingRows, tested: np.ndarray, strength: float) -> np.ndarray:
    """(m, classes) float32 logits of rows fitted with one C."""
    count = rows.targets.shape[1]
    if rows.multilabel:
        columns = [_binary_logit(rows, rows.targets[:, c].astype(int), tested, strength) for c in range(count)]
        return np.stack(columns, axis=1).astype(np.float32)
    classes = rows.targets.argmax(axis=1)
    present = np.unique(classes)
    logits = np.full((len(tested), count), np.nan)
    if len(present) > 2:
        logits[:, present] = _fitted(rows, classes, strength).decision_function(tested)
    elif len(present) == 2:
        second = _binary_logit(rows, (classes == present[1]).astype(int), tested, strength)
        logits[:, present] = np.stack([-second / 2, second / 2], axis=1)
    else:
        logits[:, present] = 0.0
    lowest = np.nanmin(logits, axis=1, keepdims=True)
    return np.where(np.isnan(logits), lowest + ABSENT, logits).astype(np.float32)


def _binary_logit(rows: TrainingRows, labels: np.ndarray, tested: np.ndarray, strength: float) -> np.ndarray:
    """(m,) logit of label 1; a constant where all training rows have one label."""
    if len(np.unique(labels)) < 2:
        return np.full(len(tested), -ABSENT if labels[0] else ABSENT)
    return np.asarray(_fitted(rows, labels, strength).decision_function(tested))


def _fitted(rows: TrainingRows, labels: np.ndarray, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = "balanced" if rows.balanced else None
    with warnings.catch_warnings():  # a baseline need not be exact, and a class may have a single clip
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        return LogisticRegression(C=strength, class_weight=weights, max_iter=ITERATIONS, tol=1e-3).fit(
            rows.features, labels
        )
