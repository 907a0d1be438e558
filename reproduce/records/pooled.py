"""A model's score over the folds and seeds that were run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reproduce.records.record import RunRecord, number


@dataclass(frozen=True)
class Pooled:
    """A model's score over the folds and seeds that were run.

    Args:
        value: pooled over every (clip, seed), in the metric's unit.
        clips: distinct test clips, the n of the interval: seeds repeat clips, they do not add any.
        correct: right answers per seed, rounded to whole clips; None for a metric that is no share of clips.
        folds, seeds: what was run. fold_sd, seed_sd: standard deviation over folds, over seeds; NaN for one of them.
        records: the runs behind it.
    """

    value: float
    clips: int
    correct: int | None
    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    fold_sd: float
    seed_sd: float
    records: tuple[RunRecord, ...]


def runs_of_all(by_model: Mapping[str, Sequence[RunRecord]]) -> dict[str, list[RunRecord]]:
    """Of every model the runs that may fairly stand together: the same folds for every model and seed.

    Where no fold has been run with all seeds, the lowest seed's folds are taken.
    """
    folds: dict[int, set[tuple[str, ...]]] = {}
    for fold, seed in set.intersection(*({(fold_of(r), r.seed or 0) for r in runs} for runs in by_model.values())):
        folds.setdefault(seed, set()).add(fold)
    common = set.intersection(*folds.values()) if folds else set()
    kept = {(fold, seed) for seed in folds for fold in common}
    if folds and not common:
        first = min(folds)
        kept = {(fold, first) for fold in folds[first]}
    return {model: [r for r in runs if (fold_of(r), r.seed or 0) in kept] for model, runs in by_model.items()}


def fold_of(record: RunRecord) -> tuple[str, ...]:
    return tuple(record.experiment["test_splits"])


def pooled(records: Sequence[RunRecord], metric: str = "top1") -> Pooled:
    """One model's `metric` over folds and seeds, weighted by clips. ValueError unless every seed ran the same folds."""
    by_seed: dict[int, list[RunRecord]] = {}
    for record in records:
        by_seed.setdefault(record.seed or 0, []).append(record)
    folds = {seed: tuple(sorted(",".join(fold_of(r)) for r in runs)) for seed, runs in by_seed.items()}
    if len(set(folds.values())) != 1:
        raise ValueError(f"seeds ran different folds: {folds}")
    predictions = sum(int(number(r.metrics["clips"])) for r in records)
    total = sum(number(r.metrics[metric]) * number(r.metrics["clips"]) for r in records)
    counted = metric.replace("top1", "correct")
    correct = sum(int(number(r.metrics[counted])) for r in records) if counted != metric else None
    by_fold: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        by_fold.setdefault(fold_of(record), []).append(number(record.metrics[metric]))
    means = [statistics.fmean(scores) for scores in by_fold.values()]
    of_seeds = [
        sum(number(r.metrics[metric]) * number(r.metrics["clips"]) for r in runs)
        / sum(number(r.metrics["clips"]) for r in runs)
        for runs in by_seed.values()
    ]
    return Pooled(
        value=total / predictions if correct is None else 100.0 * correct / predictions,
        clips=predictions // len(by_seed),
        correct=None if correct is None else round(correct / len(by_seed)),
        folds=next(iter(folds.values())),
        seeds=tuple(sorted(by_seed)),
        fold_sd=statistics.stdev(means) if len(means) > 1 else float("nan"),
        seed_sd=statistics.stdev(of_seeds) if len(of_seeds) > 1 else float("nan"),
        records=tuple(records),
    )


def common_runs(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs of two models on the folds and seeds that both have, in the same order."""

    def place(record: RunRecord) -> tuple[tuple[str, ...], int]:
        return tuple(record.experiment["test_splits"]), record.seed or 0

    ours, theirs = {place(r): r for r in first}, {place(r): r for r in second}
    shared = sorted(set(ours) & set(theirs))
    return [ours[p] for p in shared], [theirs[p] for p in shared]
