"""Cost against clip length, and time against MACs, on every machine that was measured."""

from __future__ import annotations

from collections.abc import Sequence

from reports.plots.base import PAGE_WIDTH, Drawn, finish, label_of
from reproduce.experiments.families import in_order, listed
from reproduce.figures.scaling import plot_scaling, plot_scaling_ratio
from reproduce.records.contests import scaling_runs
from reproduce.records.measured_runs import ScalingRun
from reproduce.tables import TableInputs
from reproduce.tables.scaling import by_machine


def draw_scaling(inputs: TableInputs) -> Drawn | None:
    """A row per machine and pair of models: latency beside MACs, then both as ratios."""
    runs = scaling_runs(inputs.records)
    groups = [group for group in by_machine(runs) if not all(run.failure for run in group) and _is_shown(group)]
    if not groups:
        return None
    from matplotlib import pyplot

    heights = [2.9 + 0.7 * max(0, len({run.model for run in group}) - 2) for group in groups]
    figure, rows = pyplot.subplots(
        len(groups),
        2,
        figsize=(PAGE_WIDTH, sum(heights)),
        height_ratios=heights,
        width_ratios=(1, 1),
        layout="constrained",
        squeeze=False,
    )
    for (left, right), group in zip(rows, groups, strict=True):
        plot_scaling(left, group)
        plot_scaling_ratio(right, group)
        models = listed([label_of(model) for model in in_order({run.model for run in group})])
        left.set_title(f"{models} on {group[0].environment.machine}, {group[0].environment.precision}", fontsize=7.5)
    return finish(
        figure,
        "Cost of one clip against its length, inference, batch 1. Left: time (solid, with quartiles) and MACs (dashed, "
        "scaled so that AST's lines meet in the middle). Right: AST's cost divided by MAST's; where the line of the "
        "time is below that of the MACs, fewer MACs do not give a proportional speed-up.",
        "Time, MACs and memory of both models for clips of 1 to 60 seconds.",
    )


def _is_shown(group: Sequence[ScalingRun]) -> bool:
    """Whether there is something to compare: a model of others alone has its table only."""
    return len({run.model for run in group}) > 1 or bool(group[0].size)
