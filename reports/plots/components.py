"""From AST to MAST one component at a time: accuracy against cost along the path, and the gain of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from reports.plots.base import (
    GREY,
    PAGE_WIDTH,
    Drawn,
    colour_of,
    data_title,
    finish,
    label_beside,
    legend_above,
    log_ticks,
    mark_handles,
    marker_of,
    plain,
    plural,
    runs_text,
    tip,
)
from reports.scores import Score, headline_score
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import component_groups
from reproduce.tables import TableInputs
from reproduce.tables.base import MEGA
from reproduce.tables.components import DATASET, Step, path_rows, path_steps


@dataclass(frozen=True, kw_only=True)
class PathPoint:
    """One model of the path.

    Args:
        number: place on the path, from 1.
        label: of its row.
        macs: of one clip, full rule, in 10^6.
        score: with its interval.
        runs: behind it.
    """

    number: int
    label: str
    macs: float
    score: Score
    runs: tuple[TrainedRun, ...]


def path_points(group: Sequence[TrainedRun]) -> list[PathPoint]:
    """The models of the path that were run, over the folds that all have; [] where they share none."""
    shared = runs_side_by_side(path_rows(group))
    return [
        PathPoint(
            number=number,
            label=label,
            macs=runs[0].metric("macs_full") / MEGA,
            score=headline_score(runs),
            runs=tuple(runs),
        )
        for number, (label, runs) in enumerate(shared.items(), start=1)
        if runs
    ]


def draw_components(inputs: TableInputs) -> Drawn | None:
    """The path of the widest group on real recordings; None where fewer than two of its models were run."""
    groups = [group for group in component_groups(inputs.records, DATASET) if not group[0].standin]
    points = path_points(groups[0]) if groups else []
    if len(points) < 2:
        return None
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(PAGE_WIDTH, 0.6 + 0.28 * max(len(points), 7)), layout="constrained", width_ratios=(3, 2)
    )
    plot_path(left, points)
    left.set_ylabel(f"{points[0].score.title} (%)")
    left.set_title(plain(data_title(points[0].runs[0])))
    plot_gains(right, points, path_steps(inputs, groups[0]))
    legend_above(figure, mark_handles(dict.fromkeys(point.runs[0].model for point in points)))
    run = points[0].runs[0]
    return finish(
        figure,
        "From AST to MAST, one component at a time. Left: accuracy against the cost of one clip; numbers follow the "
        f"path, bars are {points[0].score.interval_name} over test clips. Right: what each component adds to the model "
        "before it, with the 95 % interval of the paired difference by recording. Bars exclude the spread over "
        "training runs: a component whose bar crosses 0 shows nothing, one whose bar excludes 0 shows a difference of "
        f"these trained models alone. Every model: {plural(run.epochs, 'epoch')}, one learning rate, "
        f"{runs_text(points[0].runs)}.",
        "Scores along the path: " + "; ".join(f"{point.label} {point.score.text}" for point in points),
    )


def plot_path(axes: Axes, points: Sequence[PathPoint]) -> Axes:
    """A numbered mark per model with its interval, joined in the order of the path, against MACs on a log axis."""
    axes.plot([p.macs for p in points], [p.score.value for p in points], color="0.75", linewidth=0.9, zorder=1)
    for point in points:
        model, (low, high) = point.runs[0].model, point.score.interval or (point.score.value, point.score.value)
        bars = axes.errorbar(
            point.macs,
            point.score.value,
            yerr=[[point.score.value - low], [high - point.score.value]],
            color=colour_of(model),
            marker=marker_of(model),
            markersize=5.5,
            capsize=2,
            linewidth=1,
        )
        tip(bars.lines[0], f"{point.number} {point.label}", point.score.text, f"{point.macs:.3g} M MACs")
        label_beside(axes, str(point.number), (point.macs, point.score.value), (5, 3))
    log_ticks(axes)
    axes.set_xlabel("MACs per clip (10⁶), attention products included")
    axes.grid(axis="y")
    return axes


def plot_gains(axes: Axes, points: Sequence[PathPoint], steps: Mapping[str, Step]) -> Axes:
    """A row per model, the first on top: its gain over the model before, with the interval of the paired difference."""
    for point in points:
        step = steps.get(point.label)
        if step is None or step.difference is None:
            continue
        mean = step.difference
        bars = axes.errorbar(
            mean.value,
            point.number,
            xerr=[[max(mean.value - mean.low, 0)], [max(mean.high - mean.value, 0)]],
            color=GREY,
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1,
        )
        tip(bars.lines[0], point.label, f"{mean.value:+.1f} points [{mean.low:+.1f}, {mean.high:+.1f}]")
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks([p.number for p in points], [plain(f"{p.number} {p.label}") for p in points])
    axes.set_ylim(len(points) + 0.6, 0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("gain (points)")
    axes.grid(axis="x")
    return axes
