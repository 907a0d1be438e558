"""Two models on the same clips, class by class, from stored predictions. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.metrics.intervals import Z_95
from reproduce.records.pooled import common_runs
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.tables import TableInputs


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Every test clip once, with the classes that two models predict.

    Args:
        classes: names of the classes.
        target: (clips,) index of the clip's class.
        first: (clips,) index of the class that the first model predicts.
        second: (clips,) index of the class that the second model predicts.
        runs: behind the predictions.
    """

    classes: Sequence[str]
    target: np.ndarray
    first: np.ndarray
    second: np.ndarray
    runs: tuple[TrainedRun, ...]


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """Recall of the second model minus that of the first on one class.

    Args:
        name: of the class.
        clips: test clips of the class.
        value: in percentage points.
        low: lower bound of the 95 % interval.
        high: upper bound of the 95 % interval.
    """

    name: str
    clips: int
    value: float
    low: float
    high: float


def outcomes_of(inputs: TableInputs, first: Sequence[TrainedRun], second: Sequence[TrainedRun]) -> Outcomes | None:
    """Both models' predictions on the clips that both have, folds put together; the lowest seed alone.

    Seeds repeat the same clips, so that one of them keeps each clip once. None without stored predictions, or where
    clips have several labels or heads.
    """
    pairs = list(zip(*common_runs(first, second), strict=True))
    seed = min((a.seed for a, _ in pairs), default=0)
    pairs = [(a, b) for a, b in pairs if a.seed == seed]
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    for a, b in pairs:
        stored = load_predictions(inputs.records_dir, a), load_predictions(inputs.records_dir, b)
        if stored[0] is None or stored[1] is None or a.multilabel or set(stored[0].logits) != {DEFAULT_HEAD}:
            return None
        for column, values in zip(columns, _on_common_clips(stored[0], stored[1]), strict=True):
            column.append(values)
    if not pairs:
        return None
    target, ours, theirs = (np.concatenate(column) for column in columns)
    runs = tuple(run for pair in pairs for run in pair)
    return Outcomes(classes=pairs[0][0].classes[DEFAULT_HEAD], target=target, first=ours, second=theirs, runs=runs)


def _on_common_clips(a: StoredPredictions, b: StoredPredictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class of every clip that both have, and the classes that the two predict, each (clips,)."""
    _, ours, theirs = np.intersect1d(a.clip_ids, b.clip_ids, assume_unique=True, return_indices=True)
    return (
        a.targets[DEFAULT_HEAD][ours].argmax(axis=1),
        a.logits[DEFAULT_HEAD][ours].argmax(axis=1),
        b.logits[DEFAULT_HEAD][theirs].argmax(axis=1),
    )


def class_differences(outcomes: Outcomes) -> list[ClassDifference]:
    """One per class that has test clips, sorted by value: the second model's best class is last."""
    count = len(outcomes.classes)
    right_first, right_second = (predicted == outcomes.target for predicted in (outcomes.first, outcomes.second))

    def per_class(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(outcomes.target[chosen], minlength=count)

    clips = np.bincount(outcomes.target, minlength=count)
    gained, lost = per_class(right_second & ~right_first), per_class(right_first & ~right_second)
    differences = [
        class_difference(name, int(gained[index]), int(lost[index]), int(clips[index]))
        for index, name in enumerate(outcomes.classes)
        if clips[index]
    ]
    return sorted(differences, key=lambda difference: difference.value)


def class_difference(name: str, gained: int, lost: int, clips: int) -> ClassDifference:
    """Difference of two matched proportions with Agresti and Min's adjusted Wald interval (2005).

    Half a clip is added to each cell of the paired table, so that the interval has a width even where both models agree
    on every one of few clips.

    Args:
        name: of the class.
        gained: clips that only the second model classifies correctly.
        lost: clips that only the first model classifies correctly.
        clips: of the class.
    """
    n = clips + 2
    centre = (gained - lost) / n
    spread = Z_95 * sqrt(max(0.0, gained + lost + 1 - (gained - lost) ** 2 / n)) / n
    low, high = max(-1.0, centre - spread), min(1.0, centre + spread)
    return ClassDifference(
        name=name, clips=clips, value=100.0 * (gained - lost) / clips, low=100.0 * low, high=100.0 * high
    )
