"""Accuracy against what training cost: multiply-accumulates, time and epochs, for every model and length of it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from reports.plots.base import (
    PAGE_WIDTH,
    Drawn,
    colour_of,
    data_title,
    finish,
    groups_of,
    label_beside,
    label_of,
    legend_above,
    line_handles,
    log_ticks,
    marker_of,
    plain,
    plural,
    runs_text,
    tip,
)
from reports.scores import Score, headline_score
from reproduce.records.pooled import alike_runs, runs_of_all, runs_side_by_side
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import equal_macs_groups
from reproduce.tables import TableInputs
from reproduce.tables.studies import training_macs

MINUTE = 60.0
MOST_CORPORA, MOST_PANELS = 2, 4  # of one figure
BESIDE = 1.08  # factor between the marks of two models that have the same cost
TITLES_WIDTH = 84  # characters of the titles of one row
NARROWEST = 6.0  # ratio of the ends of an axis
# Field of `BudgetPoint` -> label of its axis.
COSTS = {
    "macs": "training MACs (10¹²)",
    "minutes": "training time (min)",
    "epochs": "epochs",
}


@dataclass(frozen=True, kw_only=True)
class BudgetPoint:
    """One model trained for so many epochs.

    Args:
        model: registered name.
        epochs: of training.
        macs: multiply-accumulates of one training run, in 10^12.
        minutes: of training and prediction of one run, over the runs under the settings that most points share.
        machine: of these runs, and whether they were compiled.
        score: with its interval.
        runs: behind it.
    """

    model: str
    epochs: int
    macs: float
    minutes: float
    machine: str
    score: Score
    runs: tuple[TrainedRun, ...]


def budget_points(group: Sequence[TrainedRun]) -> list[BudgetPoint]:
    """A point per model and number of epochs; [] where they share no fold.

    Over the folds of `runs_side_by_side`, or, where a model has several lengths of training, over those of all points.
    """
    rows: dict[tuple[str, int], list[TrainedRun]] = {}
    for run in sorted(group, key=lambda r: (r.model, r.epochs)):
        rows.setdefault((run.model, run.epochs), []).append(run)
    by_row = {f"{model} {epochs}": runs for (model, epochs), runs in rows.items()}
    shared = runs_of_all(by_row) if _has_lengths([model for model, _ in rows]) else runs_side_by_side(by_row)
    timed = alike_runs({label: runs for label, runs in shared.items() if runs})
    return [
        BudgetPoint(
            model=runs[0].model,
            epochs=runs[0].epochs,
            macs=training_macs(runs),
            minutes=fmean(run.wall_time_s for run in timed[label]) / MINUTE,
            machine=_machine(timed[label][0]),
            score=headline_score(runs),
            runs=tuple(runs),
        )
        for label, runs in shared.items()
        if runs
    ]


def _machine(run: TrainedRun) -> str:
    return f"{run.environment.machine}{', compiled' if run.environment.compiled else ''}"


def real_budgets(inputs: TableInputs) -> list[list[BudgetPoint]]:
    """One list per corpus of real recordings on which two models were trained: the group with the most test clips."""
    best: dict[tuple[Any, ...], list[BudgetPoint]] = {}
    for group in groups_of(inputs.records):
        run = group[0]
        if run.standin or run.recipe_name:
            continue
        with_longer = equal_macs_groups(inputs.records, run.dataset)
        whole = next((longer for longer in with_longer if {r.key for r in group} <= {r.key for r in longer}), group)
        points = budget_points(whole)
        corpus = run.corpus_key
        if len({point.model for point in points}) > 1 and _size(points) > _size(best.get(corpus, [])):
            best[corpus] = points
    return sorted(best.values(), key=_size, reverse=True)


def _size(points: Sequence[BudgetPoint]) -> tuple[int, int]:
    return (points[0].score.clips, sum(len(point.runs) for point in points)) if points else (0, 0)


def _has_lengths(models: Sequence[str]) -> bool:
    """Whether a model was trained for several numbers of epochs: whether it has several rows or points."""
    return len(set(models)) < len(models)


def draw_accuracy_cost(inputs: TableInputs) -> Drawn | None:
    """Accuracy against training MACs, training time and, where there is room, epochs: a panel each, for two corpora."""
    budgets = real_budgets(inputs)[:MOST_CORPORA]
    if not budgets:
        return None
    # A run of another tool, or an old one, may not say how long it took.
    costs = [cost for cost in COSTS if all(getattr(point, cost) > 0 for points in budgets for point in points)]
    machines = " and ".join(dict.fromkeys(point.machine for points in budgets for point in points))
    return _drawn(budgets, costs[: MOST_PANELS // len(budgets)], f" Times on {machines}.")


def draw_longer_training(inputs: TableInputs) -> Drawn | None:
    """Accuracy of short and longer training against MACs and epochs, on a corpus that `draw_accuracy_cost` omits."""
    longer = next((b for b in real_budgets(inputs)[MOST_CORPORA:] if _has_lengths([point.model for point in b])), None)
    return _drawn([longer], ["macs", "epochs"], "") if longer else None


def _drawn(budgets: Sequence[Sequence[BudgetPoint]], costs: Sequence[str], times: str) -> Drawn:
    """A panel per corpus and cost."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(PAGE_WIDTH, 2.15), layout="constrained")
    for part, points in zip(figure.subfigures(1, len(budgets), squeeze=False)[0], budgets, strict=True):
        panels = part.subplots(1, max(len(costs), 1), squeeze=False, sharey=True)[0]
        for axes, cost in zip(panels, costs, strict=False):
            plot_budgets(axes, points, cost)
            axes.set_xlabel(COSTS[cost])
        panels[0].set_ylabel(f"{points[0].score.title} (%)")
        one_length = f", {plural(points[0].epochs, 'epoch')}" if len({point.epochs for point in points}) == 1 else ""
        title = textwrap.fill(plain(data_title(points[0].runs[0]) + one_length), TITLES_WIDTH // len(budgets))
        panels[0].set_title(title, loc="left")
    legend_above(figure, line_handles(dict.fromkeys(p.model for points in budgets for p in points), marks=True))
    first = budgets[0]
    scores = "; ".join(f"{label_of(p.model)} after {plural(p.epochs, 'epoch')} {p.score.text}" for p in first)
    return finish(
        figure,
        "Accuracy against the cost of training, on real recordings. A line joins one model's lengths of training; bars "
        f"are {first[0].score.interval_name} over test clips and exclude the spread over training runs "
        f"({'; '.join(map(_runs_text, budgets))}).{times} Up and to the left is better.",
        f"Scores against training cost: {scores}.",
    )


def _runs_text(points: Sequence[BudgetPoint]) -> str:
    """ "4 folds × 2 seeds", or "4 folds × 2 seeds or 4 folds × 1 seed" where models have unlike numbers of seeds."""
    return " or ".join(dict.fromkeys(runs_text(point.runs) for point in points))


def plot_budgets(axes: Axes, points: Sequence[BudgetPoint], cost: str) -> Axes:
    """A mark per point with its interval, joined per model, on a logarithmic axis.

    Args:
        axes: drawn into and returned.
        points: of one corpus.
        cost: field of `BudgetPoint` on the horizontal axis, "macs", "minutes" or "epochs".
    """
    models = list(dict.fromkeys(point.model for point in points))
    lengths = {point.epochs for point in points}
    for place, model in enumerate(models):
        series = [point for point in points if point.model == model]
        beside = BESIDE ** (place - (len(models) - 1) / 2) if cost == "epochs" else 1  # all models have the same
        costs = [getattr(point, cost) * beside for point in series]
        axes.plot(costs, [point.score.value for point in series], color=colour_of(model), linewidth=0.9, alpha=0.6)
        for point, x in zip(series, costs, strict=True):
            low, high = point.score.interval or (point.score.value, point.score.value)
            bars = axes.errorbar(
                x,
                point.score.value,
                yerr=[[point.score.value - low], [high - point.score.value]],
                color=colour_of(model),
                marker=marker_of(model),
                markersize=6,
                capsize=2.5,
                linewidth=1.2,
            )
            keys = f"{len(point.runs)} runs, the first {point.runs[0].key}"
            tip(bars.lines[0], label_of(model), plural(point.epochs, "epoch"), point.score.text, keys)
            if cost != "epochs" and len(lengths) > 1:
                label_beside(axes, plural(point.epochs, "epoch"), (x, point.score.value), (6, -10))
    log_ticks(axes)
    low, high = axes.get_xlim()
    around = max(1.0, math.sqrt(NARROWEST / (high / low)))  # a narrow axis would have one tick
    low, high = low / around, high * around
    axes.set_xlim(low, high * (high / low) ** 0.4)  # space for the last point's label
    axes.grid(axis="y")
    return axes
