"""Scores of runs with their resamples, and the paired difference of two models. No torch here.

`Runs` are runs of one model that differ in the seed alone. Intervals and tests come from the stored predictions. The
unit of the data set is resampled: the video, recording or speaker that clips are cut from, or the clip.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.metrics.paired import (
    Difference,
    discordant_clips,
    mean_of_seeds,
    paired_difference,
    resampled_accuracy,
    resampled_map,
)
from reproduce.metrics.scores import action_correct, top_k_correct
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.tables.replicates import FOLDER, ScoredClips, cache_name, content_hash, read_scored, write_scored

Runs = Sequence[TrainedRun]

SAME_SCORE = 0.01  # points between a record and its predictions: more than rounding makes them another run's


@dataclass(frozen=True, kw_only=True)
class PairedScores:
    """First minus second on the clips that both tested.

    Args:
        difference: of the means over seeds.
        clips: how many clips both tested.
        units: how many units they are cut from, which are resampled; equal to `clips` where every clip is a unit.
        unit: what they are cut from: "clip", "video", "recording", "speaker", "group".
        seeds: of the two runs that McNemar's test compares.
    """

    difference: Difference
    clips: int
    units: int
    unit: str
    seeds: tuple[int, int]


class RunScores:
    """Resampled scores of the runs whose predictions are under `records_dir`.

    Every score is computed once per object, and once per predictions file: the replicates are cached on disk.
    """

    def __init__(self, records_dir: Path) -> None:
        self.records_dir = records_dir
        self._scored: dict[tuple[str, str, bytes, bytes], ScoredClips] = {}
        self._hashes: dict[Path, str] = {}

    def interval(self, runs: Runs, metric: str, mean: float) -> tuple[float, float] | None:
        """95 % interval around the mean over seeds; None where predictions are absent, or of clips of a single unit.

        Raises:
            InputError: the predictions cannot be read, or do not give the record's score.
        """
        scores = []
        for run in runs:
            scored = self.scored(run, metric)
            if scored is None:
                return None
            recorded = run.metrics[metric]
            if not abs(scored.score.value - recorded) <= SAME_SCORE:
                raise InputError(
                    f"{self.records_dir / str(run.predictions)}: scores {metric} {scored.score.value:.2f}, but record "
                    f"{run.key} holds {recorded}: restore the file, or train again with --run all"
                )
            scores.append(scored.score)
        low, high = replace(mean_of_seeds(scores), value=mean).interval
        return None if math.isnan(low) else (low, high)

    def scored(
        self, run: TrainedRun, metric: str, clip_ids: np.ndarray | None = None, units: np.ndarray | None = None
    ) -> ScoredClips | None:
        """A run's predictions under a metric; None where the file is absent.

        Args:
            run: see there.
            metric: of its records.
            clip_ids: the clips, sorted; by default all.
            units: (n,) names of the units to resample; by default those of the predictions.
        """
        key = (str(run.predictions), metric, _bytes(clip_ids), _bytes(units))
        if key not in self._scored:
            file = self.records_dir / str(run.predictions)
            if run.predictions is None or not file.is_file():
                return None
            if file not in self._hashes:
                self._hashes[file] = content_hash(file)
            name = cache_name(self._hashes[file], metric, clip_ids, units)
            cached = self.records_dir / FOLDER / f"{file.stem}-{name}"
            scored = read_scored(cached)
            if scored is None:
                stored = load_predictions(self.records_dir, run)
                if stored is None:
                    return None
                kept = np.sort(stored.clip_ids.astype(np.str_)) if clip_ids is None else clip_ids
                stored = stored.of_clips(kept)
                scored = _score(stored if units is None else replace(stored, groups=units), metric)
                write_scored(cached, scored)
            self._scored[key] = scored
        return self._scored[key]

    def paired(self, first: Runs, second: Runs, metric: str) -> PairedScores | str:
        """The paired comparison of two models, or why there is none."""
        runs = (*first, *second)
        absent = [run.key for run in runs if self.scored(run, metric) is None]
        if absent:
            return f"the stored predictions of {', '.join(absent)} are absent"
        shared = self._shared_clips(runs, metric)
        if not len(shared):
            return "they share no test clip"
        on_shared = self._on_shared(runs, metric, shared)
        scored_a, scored_b = on_shared[: len(first)], on_shared[len(first) :]
        if scored_a[0].targets != scored_b[0].targets:
            return "their shared clips carry other targets: they are of different data"
        a, b = ([scored.score for scored in group] for group in (scored_a, scored_b))
        unit = next((run.unit for run in runs if run.unit != "clip"), "clip")
        units = _count_units(scored_a[0])
        if units == 1 < len(shared):
            return f"their shared clips are all of one {unit}"
        i, j = _lowest_common_seed(first, second)
        correct_a, correct_b = a[i].correct, b[j].correct
        discordant = None if correct_a is None or correct_b is None else discordant_clips(correct_a, correct_b)
        return PairedScores(
            difference=paired_difference(mean_of_seeds(a), mean_of_seeds(b), discordant),
            clips=len(shared),
            units=units,
            unit=unit,
            seeds=(first[i].seed, second[j].seed),
        )

    def _shared_clips(self, runs: Runs, metric: str) -> np.ndarray:
        """Ids that every run tested, sorted."""
        ids = [scored.clip_ids for run in runs if (scored := self.scored(run, metric)) is not None]
        if all(np.array_equal(ids[0], other) for other in ids[1:]):
            return ids[0]
        return np.array(sorted(set.intersection(*(set(map(str, these)) for these in ids))), np.str_)

    def _on_shared(self, runs: Runs, metric: str, clip_ids: np.ndarray) -> list[ScoredClips]:
        """Every run on these clips, resampled by the same units: a run that stored none takes those of the others."""
        scored = [self._on(run, metric, clip_ids) for run in runs]
        units = next((s.units for s in scored if s.units is not None), None)
        return [
            s if _same(s.units, units) else self._on(run, metric, clip_ids, units)
            for run, s in zip(runs, scored, strict=True)
        ]

    def _on(self, run: TrainedRun, metric: str, clip_ids: np.ndarray, units: np.ndarray | None = None) -> ScoredClips:
        scored = self.scored(run, metric) if units is None else None
        if scored is None or not np.array_equal(scored.clip_ids, clip_ids):
            scored = self.scored(run, metric, clip_ids, units)
        assert scored is not None  # `paired` has asked for every file
        return scored


def _bytes(names: np.ndarray | None) -> bytes:
    return b"" if names is None else names.tobytes()


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)


def _count_units(scored: ScoredClips) -> int:
    return len(scored.clip_ids if scored.units is None else np.unique(scored.units))


def correct_clips(stored: StoredPredictions, metric: str) -> np.ndarray:
    """Whether each clip counts as correct under "top1", "verb_top5", "action_top1", ..., (n,) bool.

    Raises:
        ValueError: the metric is no accuracy.
    """
    head, _, top = metric.rpartition("_")
    if not top.removeprefix("top").isdecimal():
        raise ValueError(f"metric {metric!r} is no accuracy")
    k, classes = int(top.removeprefix("top")), {name: rows.argmax(axis=1) for name, rows in stored.targets.items()}
    if head == "action":
        return action_correct(stored.logits, classes, k)
    return top_k_correct(stored.logits[head or DEFAULT_HEAD], classes[head or DEFAULT_HEAD], k)


def _score(stored: StoredPredictions, metric: str) -> ScoredClips:
    units = None if stored.groups is None else stored.groups.astype(np.str_)
    if metric == "map":
        score = resampled_map(stored.targets[DEFAULT_HEAD], stored.logits[DEFAULT_HEAD], units)
    else:
        score = resampled_accuracy(correct_clips(stored, metric), units)
    return ScoredClips(clip_ids=stored.clip_ids, score=score, targets=_targets_hash(stored), units=units)


def _targets_hash(stored: StoredPredictions) -> str:
    digest = hashlib.sha256()
    for head, targets in sorted(stored.targets.items()):
        digest.update(f"{head} {targets.shape}".encode())
        digest.update(targets.astype(np.uint8).tobytes())
    return digest.hexdigest()


def _lowest_common_seed(first: Runs, second: Runs) -> tuple[int, int]:
    """Places of the runs that McNemar's test compares: those of the lowest seed that both models ran, if any."""
    ours, theirs = ([run.seed for run in runs] for runs in (first, second))
    common = sorted(set(ours) & set(theirs))
    return (ours.index(common[0]), theirs.index(common[0])) if common else (0, 0)
