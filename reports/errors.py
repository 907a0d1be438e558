"""The clips that a model classifies wrongly with the highest confidence: the ones worth listening to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.document import Grid, key_of, words
from reports.plots.base import label_of
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.records.predictions import load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.tables import TableInputs

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test clip that is classified wrongly.

    Args:
        clip: its id.
        label: its class.
        predicted: class that the model gives it.
        confidence: probability of that class in per cent.
    """

    clip: str
    label: str
    predicted: str
    confidence: float


def mistakes_of(inputs: TableInputs, runs: Sequence[TrainedRun], most: int = SHOWN) -> list[Mistake]:
    """The most confident mistakes over all runs of a model, each clip once; [] for several labels or heads."""
    worst: dict[str, Mistake] = {}
    for run in runs:
        stored = load_predictions(inputs.records_dir, run)
        if stored is None or run.multilabel or set(stored.logits) != {DEFAULT_HEAD}:
            continue
        names, logits = run.classes[DEFAULT_HEAD], stored.logits[DEFAULT_HEAD].astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        confidence = 100.0 * powers.max(axis=1) / powers.sum(axis=1)
        target, predicted = stored.targets[DEFAULT_HEAD].argmax(axis=1), logits.argmax(axis=1)
        wrong = np.flatnonzero(target != predicted)
        for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:most]:
            mistake = Mistake(
                clip=str(stored.clip_ids[index]),
                label=names[target[index]],
                predicted=names[predicted[index]],
                confidence=float(confidence[index]),
            )
            if mistake.clip not in worst or worst[mistake.clip].confidence < mistake.confidence:
                worst[mistake.clip] = mistake
    return sorted(worst.values(), key=lambda mistake: (-mistake.confidence, mistake.clip))[:most]


def mistakes_grid(inputs: TableInputs, runs: Sequence[TrainedRun]) -> Grid | None:
    """A row per mistake; None without any."""
    mistakes = mistakes_of(inputs, runs)
    if not mistakes:
        return None
    model = runs[0].model
    return Grid(
        key=key_of(f"mistakes {runs[0].dataset} {runs[0].key} {model}"),
        caption=words(f"{label_of(model)}: the wrong predictions with the highest confidence. Listen to these first."),
        header=("Clip", "Class", "Predicted", "Confidence (%)"),
        rows=tuple(
            tuple(map(words, (mistake.clip, mistake.label, mistake.predicted, f"{mistake.confidence:.1f}")))
            for mistake in mistakes
        ),
        left=frozenset({0, 1, 2}),
    )
