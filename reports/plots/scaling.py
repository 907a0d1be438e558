"""Cost against clip length, and time against MACs, on every machine that was measured."""

from __future__ import annotations

from reports.plots.base import Drawn, finish
from reproduce.figures.scaling import plot_scaling, plot_scaling_ratio
from reproduce.records.runs import ScalingRun
from reproduce.tables import TableInputs
from reproduce.tables.scaling import by_machine


def draw_scaling(inputs: TableInputs) -> Drawn | None:
    """A row a machine and pair of models: latency beside MACs, then both as ratios."""
    records = inputs.records.newest(ScalingRun)
    groups = [g for g in by_machine(records) if any(r.metrics["latency_s"] is not None for r in g)]
    if not groups:
        return None
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(
        len(groups), 2, figsize=(8.6, 3.4 * len(groups)), width_ratios=(3, 2), layout="constrained", squeeze=False
    )
    for (left, right), group in zip(rows, groups, strict=True):
        plot_scaling(left, group)
        plot_scaling_ratio(right, group)
        environment, models = group[0].environment, sorted({record.model for record in group})
        place = f"{environment['device']}, {environment['torch_threads']} threads, {environment['precision']}"
        left.set_title(f"{' and '.join(models)} on {place}", fontsize=8)
    return finish(
        figure,
        "Cost of one clip against its length, inference, batch 1. Left: time (solid, with quartiles) and MACs (dashed, "
        "scaled so that AST's lines meet in the middle). Right: how many times less MAST needs; where the time's line "
        "lies below that of the MACs, the saving in MACs is not had in time.",
    )
