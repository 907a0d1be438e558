"""Accuracy against cost: the rows of tables that hold both, and the paper's pooling variants."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from reports.plots.base import Drawn, colour_of, finish, grid_of, label_of, tip
from reproduce.experiments.families import family
from reproduce.figures.style import MARKERS
from reproduce.tables import Cell, Column, Table, TableInputs, table_specs

# In this order, the first that a table has measured stands for it.
SCORES = ("top1", "action_top1", "action", "map")
COST = "macs"
MOST_NAMED = 3  # points of a panel whose names find room beside them
TITLE_WIDTH = 46  # characters


@dataclass(frozen=True)
class Point:
    """One model or variant: module-only MACs in G, score in per cent with its 95 % interval if there is one."""

    model: str
    name: str
    macs: float
    score: float
    ci: tuple[float, float] | None
    conditions: str


def draw_accuracy_cost(
    inputs: TableInputs, targets: Sequence[str] = ("esc50", "equal_macs", "pooling")
) -> Drawn | None:
    """A panel for each measured table of the targets with at least two models."""
    panels = [
        (part, column, points)
        for target in targets
        for part in _parts(table_specs()[target].build(inputs))
        for column, points in [measured_points(part)]
        if column is not None and len(points) > 1
    ]
    if not panels:
        return None
    figure, grid = grid_of(len(panels), 3.1 if len(panels) > 1 else 5.0, 2.9)
    for axes, (part, column, points) in zip(grid, panels, strict=True):
        plot_points(axes, points, column.title)
        axes.set_title(part.title if len(panels) == 1 else _short(part.title), fontsize=7.5)
    return finish(
        figure,
        "Accuracy against multiply-accumulates (module-only rule) of the input used. Bars: 95 % Wilson intervals over "
        "test clips, which know nothing of the spread over training runs. Up and to the left is better.",
    )


def _short(title: str) -> str:
    return textwrap.fill(title, TITLE_WIDTH)


def _parts(table: Table) -> Iterator[Table]:
    yield table
    for block in table.blocks:
        yield from _parts(block)


def measured_points(table: Table) -> tuple[Column | None, list[Point]]:
    """The table's first measured score and its points; (None, []) where it has no score beside a cost."""
    columns = {column.key: column for column in table.columns}
    for key in SCORES:
        points = [
            Point(row.key, row.label, cost.measured, score.measured, score.ci, score.conditions)
            for row in table.rows
            if (score := row.cells.get(key)) and (cost := row.cells.get(COST))
            if score.measured is not None and cost.measured is not None and score.unit == "%"
        ]
        if points:
            return columns[key], points
    return None, []


def plot_points(axes: Axes, points: Sequence[Point], title: str) -> Axes:
    """Points with intervals and names, cost on a logarithmic axis; many are numbered and named below."""
    crowded = len(points) > MOST_NAMED
    for number, point in enumerate(points, start=1):
        below, above = (0.0, 0.0) if point.ci is None else (point.score - point.ci[0], point.ci[1] - point.score)
        container = axes.errorbar(
            point.macs,
            point.score,
            yerr=[[below], [above]] if point.ci else None,
            color=colour_of(point.model),
            marker=MARKERS[family(point.model)],
            markersize=7,
            capsize=3,
            linestyle="none",
            label=f"{number}  {label_of(point.name)}",
        )
        tip(container.lines[0], point.name, f"{point.score:.1f} % at {point.macs:.3g} G", point.conditions)
        name = str(number) if crowded else label_of(point.name)
        axes.annotate(name, (point.macs, point.score), (6, 4), textcoords="offset points", fontsize=8)
    if crowded:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), fontsize=6.5, markerscale=0.6, labelspacing=0.3)
    costs = [point.macs for point in points]
    right = max(costs) * (2.4 if crowded else 4)  # room for a name beside the last point
    axes.set(xlabel="MACs a clip (G)", ylabel=f"{title} (%)", xscale="log", xlim=(min(costs) / 1.6, right))
    _plain_ticks(axes)
    axes.grid(axis="y")
    return axes


def _plain_ticks(axes: Axes) -> None:
    """A logarithmic axis with 1, 2 and 5 of every decade, written out."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def draw_ablations(inputs: TableInputs) -> Drawn | None:
    """The paper's mAP of its pooling variants against what each costs here; measured mAP where there is one."""
    table = table_specs()["ablations"].build(inputs)
    points = {
        row.key: (row.label, row.cells["map"], row.cells[COST]) for row in table.rows if {"map", COST} <= set(row.cells)
    }
    if sum(cost.measured is not None for _, _, cost in points.values()) < 2:
        return None
    figure, (axes,) = grid_of(1, 6.2, 3.3)
    plot_variants(axes, points)
    ast = next((row.cells.get(COST) for row in table.rows if row.key == "ast"), None)
    if ast is not None and ast.measured is not None:
        axes.axvline(ast.measured, color=colour_of("ast"), linestyle=":", linewidth=1.2)
        axes.annotate(
            "AST's cost",
            (ast.measured, 0),
            (3, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=7.5,
            color=colour_of("ast"),
        )
    return finish(
        figure,
        "MAST's pooling variants on balanced AudioSet. Hollow: the paper's mAP (quoted), single runs, no interval; "
        "filled: measured here at the paper's scale. MACs are counted here, by the module-only rule.",
    )


def plot_variants(axes: Axes, points: Mapping[str, tuple[str, Cell, Cell]]) -> Axes:
    """Quoted mAP hollow, measured mAP filled, against measured MACs.

    Args:
        axes: drawn into and returned.
        points: variant -> (label, mAP cell, MACs cell).
    """
    costs = []
    for label, score, cost in points.values():
        if cost.measured is None:
            continue
        costs.append(cost.measured)
        for value, fill in ((score.paper, "white"), (score.measured, colour_of("mast"))):
            if value is not None:
                (mark,) = axes.plot(
                    cost.measured, value, MARKERS["mast"], color=colour_of("mast"), markerfacecolor=fill, markersize=7
                )
                origin = "quoted from the paper" if fill == "white" else score.conditions
                tip(mark, label, f"mAP {value:.1f} %", origin, f"MACs: {cost.conditions}")
        if score.paper is not None:
            axes.annotate(label, (cost.measured, score.paper), (7, 5), textcoords="offset points", fontsize=8)
    axes.set(
        xlabel="MACs a clip (G), module-only", ylabel="mAP (%)", xscale="log", xlim=(min(costs) / 1.3, max(costs) * 4)
    )
    _plain_ticks(axes)
    axes.margins(y=0.15)
    axes.grid(axis="y")
    return axes
