"""The stored predictions of models on the clips that all of them were tested on, over folds and seeds. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.metrics.headline import softmax
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.predictions import load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.tables.base import TableInputs
from reproduce.tables.notes import Rows
from reproduce.tables.units import sources_of, unit_of


@dataclass(frozen=True, kw_only=True)
class PooledClips:
    """One model's predictions of n clips, by each of its seeds.

    Args:
        clip_ids: (n,) sorted.
        units: (n,) the recording, video or speaker of each clip, or the clip itself.
        unit: "recording", "video", "speaker" or "clip".
        targets: (n,) class indices.
        probabilities: (seeds, n, classes).
        runs: behind them.
    """

    clip_ids: np.ndarray
    units: np.ndarray
    unit: str
    targets: np.ndarray
    probabilities: np.ndarray
    runs: tuple[TrainedRun, ...]

    @property
    def correct(self) -> np.ndarray:
        """Whether each seed's likeliest class is the clip's, (seeds, n)."""
        return np.asarray(self.probabilities.argmax(axis=2) == self.targets)


def pool_clips(inputs: TableInputs, rows: Rows) -> dict[str, PooledClips] | str:
    """The predictions of every row on the same clips, by label; or why there are none.

    Args:
        inputs: of the table.
        rows: label -> runs of one model, over folds and seeds, on clips with one label.
    """
    shared = runs_side_by_side(rows)
    if not all(shared.values()):
        return "the models share no fold and seed"
    sources: dict[str, str] = {}
    by_row: dict[str, list[dict[str, tuple[np.ndarray, int]]]] = {}
    for label, runs in shared.items():
        seeds: dict[int, dict[str, tuple[np.ndarray, int]]] = {}
        for run in runs:
            stored = load_predictions(inputs.records_dir, run)
            if stored is None:
                return f"the stored predictions of {run.key} are absent"
            sources |= sources_of(run, stored)
            own = zip(softmax(stored.logits[DEFAULT_HEAD]), stored.targets[DEFAULT_HEAD].argmax(axis=1), strict=True)
            seeds.setdefault(run.seed, {}).update(zip(map(str, stored.clip_ids), own, strict=True))
        by_row[label] = [seeds[seed] for seed in sorted(seeds)]
    ids = sorted(set.intersection(*(set(clips) for seeds in by_row.values() for clips in seeds)))
    if not ids:
        return "the models share no test clip"
    return {label: _pooled(seeds, ids, sources, tuple(shared[label])) for label, seeds in by_row.items()}


def _pooled(
    seeds: list[dict[str, tuple[np.ndarray, int]]],
    ids: list[str],
    sources: Mapping[str, str],
    runs: tuple[TrainedRun, ...],
) -> PooledClips:
    units = np.array([sources[clip] for clip in ids])
    return PooledClips(
        clip_ids=np.array(ids),
        units=units,
        unit=unit_of(runs[0], dict(zip(ids, units, strict=True))),
        targets=np.array([int(seeds[0][clip][1]) for clip in ids]),
        probabilities=np.array([[clips[clip][0] for clip in ids] for clips in seeds]),
        runs=runs,
    )
