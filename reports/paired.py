"""Two models on the same clips, class by class, from stored predictions. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from reproduce.records.pooled import common_runs
from reproduce.records.predictions import load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.tables import TableInputs

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Outcomes:
    """Every test clip once, with the classes that two models gave it. All arrays are (clips,) class indices."""

    classes: Sequence[str]
    target: np.ndarray
    first: np.ndarray
    second: np.ndarray
    records: tuple[TrainedRun, ...]


@dataclass(frozen=True)
class Difference:
    """Recall of the second model less that of the first on one class's clips, in points, with its 95 % interval."""

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
    pairs = [(a, b) for a, b in pairs if (a.seed) == seed]
    columns: list[list[np.ndarray]] = [[], [], []]
    for a, b in pairs:
        stored_a, stored_b = load_predictions(inputs.records_dir, a), load_predictions(inputs.records_dir, b)
        if stored_a is None or stored_b is None or set(stored_a.logits) != {"label"} or "top1" not in a.metrics:
            return None
        common = np.array([c for c in map(str, stored_a.clip_ids) if c in set(map(str, stored_b.clip_ids))])
        left, right = stored_a.of_clips(common), stored_b.of_clips(common)
        for column, values in zip(columns, (left.targets, left.logits, right.logits), strict=True):
            column.append(values["label"].argmax(axis=1))
    if not pairs:
        return None
    target, ours, theirs = (np.concatenate(column) for column in columns)
    names = pairs[0][0].classes["label"]
    return Outcomes(names, target, ours, theirs, tuple(record for pair in pairs for record in pair))


def confusion(target: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) counts: rows are the clips' classes, columns the model's."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (target, predicted), 1)
    return counts


def class_differences(outcomes: Outcomes) -> list[Difference]:
    """One a class that has test clips, by value, the second model's best class last."""
    found = []
    for index, name in enumerate(outcomes.classes):
        mine = outcomes.target == index
        if mine.any():
            gained = int(((outcomes.second == index) & (outcomes.first != index) & mine).sum())
            lost = int(((outcomes.first == index) & (outcomes.second != index) & mine).sum())
            found.append(paired_difference(name, gained, lost, int(mine.sum())))
    return sorted(found, key=lambda difference: difference.value)


def paired_difference(name: str, gained: int, lost: int, clips: int) -> Difference:
    """Difference of two matched proportions, in points, with Agresti and Min's adjusted Wald interval (2005).

    Half a clip is added to each cell of the paired table, which keeps the interval from having no width where both
    models agree on every one of few clips.

    Args:
        gained, lost: clips that just the second, or just the first model got right. clips: of the class.
    """
    n = clips + 2
    centre = (gained - lost) / n
    spread = Z_95 * sqrt(max(0.0, gained + lost + 1 - (gained - lost) ** 2 / n)) / n
    low, high = max(-1.0, centre - spread), min(1.0, centre + spread)
    return Difference(name, clips, 100.0 * (gained - lost) / clips, 100.0 * low, 100.0 * high)
