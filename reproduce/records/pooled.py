"""Pool a model's scores over folds and seeds. No torch and no pandas here."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.records.runs import TrainedRun


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A model's score over the folds and seeds that were run.

    Args:
        value: mean over every (clip, seed), in the metric's unit.
        clips: distinct test clips, the n of the interval: seeds repeat clips, they do not add any.
        correct: correct clips per seed, rounded to whole clips; None for a metric that is not a share of clips.
        folds: folds of the runs.
        seeds: seeds of the runs.
        fold_sd: standard deviation over folds; NaN for one fold.
        seed_sd: standard deviation over seeds; NaN for one seed.
        runs: the pooled runs.
    """

    value: float
    clips: int
    correct: int | None
    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    fold_sd: float
    seed_sd: float
    runs: tuple[TrainedRun, ...]


def pooled(runs: Sequence[TrainedRun], metric: str = "top1") -> Pooled:
    """Pool one model's `metric` over folds and seeds, weighted by clips.

    Raises:
        InputError: a run lacks the metric, or it is not a number.
        ValueError: the seeds ran different folds.
    """
    by_seed = _parted((run.seed, run) for run in runs)
    folds = {seed: tuple(sorted(run.fold for run in part)) for seed, part in by_seed.items()}
    if len(set(folds.values())) != 1:
        raise ValueError(f"seeds ran different folds: {folds}")
    total = sum(run.metric("clips") for run in runs)
    correct = None
    if metric.endswith("top1"):
        correct = round(sum(run.metric(metric.replace("top1", "correct")) for run in runs))
    by_fold = _parted((run.fold, run.metric(metric)) for run in runs)
    return Pooled(
        value=_mean(runs, metric) if correct is None else 100.0 * correct / total,
        clips=int(total) // len(by_seed),
        correct=None if correct is None else round(correct / len(by_seed)),
        folds=next(iter(folds.values())),
        seeds=tuple(by_seed),
        fold_sd=_sd([statistics.fmean(by_fold[fold]) for fold in sorted(by_fold)]),
        seed_sd=_sd([_mean(part, metric) for part in by_seed.values()]),
        runs=tuple(runs),
    )


def _parted(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The second values by the first, which are sorted."""
    parts: dict[Any, list[Any]] = {}
    for name, value in sorted(pairs, key=lambda pair: pair[0]):
        parts.setdefault(name, []).append(value)
    return parts


def _mean(runs: Sequence[TrainedRun], metric: str) -> float:
    """Mean of the metric, weighted by clips."""
    clips = [run.metric("clips") for run in runs]
    return sum(run.metric(metric) * n for run, n in zip(runs, clips, strict=True)) / sum(clips)


def _sd(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def runs_of_all(by_model: Mapping[str, Sequence[TrainedRun]]) -> dict[str, list[TrainedRun]]:
    """Keep the comparable runs of every model: the same folds for every model and seed.

    If no fold has runs with all seeds, keep the folds of the lowest seed.
    """
    common = set.intersection(*({(run.fold, run.seed) for run in runs} for runs in by_model.values()))
    folds: dict[int, set[str]] = {}
    for fold, seed in common:
        folds.setdefault(seed, set()).add(fold)
    shared = set.intersection(*folds.values()) if folds else set()
    kept = {(fold, seed) for seed in folds for fold in shared}
    if folds and not shared:
        kept = {(fold, min(folds)) for fold in folds[min(folds)]}
    return {model: [run for run in runs if (run.fold, run.seed) in kept] for model, runs in by_model.items()}


def runs_side_by_side(by_model: Mapping[str, Sequence[TrainedRun]]) -> dict[str, list[TrainedRun]]:
    """Keep the same folds of every model, as many as all have, and of each model the whole seeds that another has too.

    `runs_of_all` keeps the seeds of the model that has the fewest, and the folds of the seed that has the fewest: a
    third model with one seed, or a seed that is half run, would hide the others' runs. Means over other seeds are
    comparable, for a seed of one model has no counterpart in another.
    """
    tested = {
        model: {seed: {run.fold for run in runs if run.seed == seed} for seed in sorted({run.seed for run in runs})}
        for model, runs in by_model.items()
    }
    folds = set.intersection(*(max(of_seed.values(), key=len, default=set()) for of_seed in tested.values()))
    whole = {model: {seed for seed, own in of_seed.items() if folds <= own} for model, of_seed in tested.items()}
    models = Counter(seed for seeds in whole.values() for seed in seeds)
    shared = {seed for seed, count in models.items() if count >= min(2, len(by_model))}
    if not folds or not all(seeds & shared for seeds in whole.values()):
        return runs_of_all(by_model)
    return {
        model: [run for run in runs if run.fold in folds and run.seed in whole[model] & shared]
        for model, runs in by_model.items()
    }


def alike_runs(by_row: Mapping[str, Sequence[TrainedRun]]) -> dict[str, list[TrainedRun]]:
    """Keep the runs of every row whose speeds may be compared: those under the settings that most rows have.

    A row without a run under them keeps the runs under its first run's settings.
    """
    rows = Counter(s for runs in by_row.values() for s in {run.environment.settings for run in runs})
    every = Counter(run.environment.settings for runs in by_row.values() for run in runs)
    common = max(every, key=lambda settings: (rows[settings], every[settings], settings), default="")
    kept = {}
    for label, runs in by_row.items():
        own = common if any(run.environment.settings == common for run in runs) else runs[0].environment.settings
        kept[label] = [run for run in runs if run.environment.settings == own]
    return kept


def common_runs(first: Sequence[TrainedRun], second: Sequence[TrainedRun]) -> tuple[list[TrainedRun], list[TrainedRun]]:
    """Return the runs of two models on the folds and seeds that both have, in the same order."""
    by_split = [{(run.test_splits, run.seed): run for run in runs} for runs in (first, second)]
    shared = sorted(by_split[0].keys() & by_split[1].keys())
    return [by_split[0][key] for key in shared], [by_split[1][key] for key in shared]
