"""Pool a model's scores over folds and seeds. No torch here; pandas is imported late."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reproduce.records.runs import TrainedRun

if TYPE_CHECKING:
    import pandas


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
        KeyError: a run lacks the metric.
        ValueError: the seeds ran different folds, or a score is not a number.
    """
    table = _scores(runs, metric)
    folds = {seed: tuple(sorted(part.fold)) for seed, part in table.groupby("seed")}
    if len(set(folds.values())) != 1:
        raise ValueError(f"seeds ran different folds: {folds}")
    by_seed = table.groupby("seed")[["weighted", "clips"]].sum()
    seeds = len(by_seed)
    correct = int(table.correct.sum()) if "correct" in table else None
    total = table.clips.sum()
    return Pooled(
        value=float(table.weighted.sum() / total if correct is None else 100.0 * correct / total),
        clips=int(total) // seeds,
        correct=None if correct is None else round(correct / seeds),
        folds=next(iter(folds.values())),
        seeds=tuple(int(seed) for seed in by_seed.index),
        fold_sd=_sd(table.groupby("fold").value.mean()),
        seed_sd=_sd(by_seed.weighted / by_seed.clips),
        runs=tuple(runs),
    )


def _scores(runs: Sequence[TrainedRun], metric: str) -> pandas.DataFrame:
    import pandas

    table = pandas.DataFrame(
        {
            "seed": [run.seed for run in runs],
            "fold": [run.fold for run in runs],
            "value": [run.metric(metric) for run in runs],
            "clips": [run.metric("clips") for run in runs],
        }
    )
    if metric.endswith("top1"):
        table["correct"] = [run.metric(metric.replace("top1", "correct")) for run in runs]
    table["weighted"] = table.value * table.clips
    return table


def _sd(values: pandas.Series) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


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


def common_runs(first: Sequence[TrainedRun], second: Sequence[TrainedRun]) -> tuple[list[TrainedRun], list[TrainedRun]]:
    """Return the runs of two models on the folds and seeds that both have, in the same order."""
    by_split = [{(run.test_splits, run.seed): run for run in runs} for runs in (first, second)]
    shared = sorted(by_split[0].keys() & by_split[1].keys())
    return [by_split[0][key] for key in shared], [by_split[1][key] for key in shared]
