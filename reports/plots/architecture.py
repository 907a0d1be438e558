"""Both architectures drawn to one scale, and their MACs by rule."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from reports.plots.base import PAGE_WIDTH, Drawn, area_handles, colour_of, finish, legend_above, tip
from reproduce.experiments.families import LABELS, PAPER_MODELS
from reproduce.records.measured_runs import CostRun
from reproduce.records.selection import cost_of
from reproduce.tables import TableInputs
from reproduce.tables.base import GIGA

PATCHES = "patch embedding"


def costs_of(inputs: TableInputs) -> dict[str, CostRun] | None:
    """Model ("ast", "mast") -> its cost at the paper's size; None unless both were counted."""
    newest = {model: cost_of(inputs.records, preset) for model, preset in PAPER_MODELS.items()}
    kept = {model: run for model, run in newest.items() if run is not None}
    return kept if len(kept) == len(newest) else None


def draw_architecture(inputs: TableInputs) -> Drawn | None:
    """Blocks of both models left, their MACs by rule right."""
    costs = costs_of(inputs)
    if costs is None:
        return None
    from matplotlib import pyplot

    figure, axes = pyplot.subplot_mosaic(
        [["ast", "macs"], ["mast", "macs"]], figsize=(PAGE_WIDTH, 3.5), width_ratios=(5, 3), layout="constrained"
    )
    highest = max(shape.tokens for run in costs.values() for shape in run.shapes)
    for model, run in costs.items():
        plot_blocks(axes[model], run, highest)
    plot_macs(axes["macs"], costs)
    missed = Patch(facecolor="0.7", hatch="////", edgecolor="white", label="missed by the paper's counting")
    legend_above(figure, [*area_handles(PAPER_MODELS.values()), missed])
    return finish(
        figure,
        "Left: every transformer block drawn to one scale, as high as the tokens that leave it and as wide as its "
        "features (labels: tokens × features). AST keeps one grid; MAST starts with many narrow tokens and ends with "
        f"few wide ones. Right: multiply-accumulates of one clip of {_input(costs)}; the hatched part are the products "
        "inside attention.",
        "; ".join(
            f"{LABELS[model]}: {run.metric('macs_full') / GIGA:.1f} G MACs in full" for model, run in costs.items()
        ),
    )


def _input(costs: Mapping[str, CostRun]) -> str:
    mels, frames = costs["mast"].input_size
    return f"{mels} mel bands × {frames} frames"


def plot_blocks(axes: Axes, run: CostRun, highest: int) -> Axes:
    """One rectangle per block: tokens high, features wide. A number marks where tokens or width change."""
    left, before = 0.0, (0, 0)
    for shape in run.shapes:
        if shape.block == PATCHES:
            continue
        block = Rectangle(
            (left, 0), shape.width, shape.tokens, facecolor=colour_of(run.model), edgecolor="white", linewidth=0.8
        )
        axes.add_patch(block)
        grid = f"{shape.tokens:,} tokens ({shape.freq} × {shape.time})"
        tip(block, f"{run.label} {shape.block}", grid, f"{shape.width} wide", run.key)
        if (shape.tokens, shape.width) != before:
            text = f"{shape.tokens:,} × {shape.width}"
            axes.annotate(text, (left, shape.tokens), (1, 3), textcoords="offset points", color="0.15", fontsize=7)
        left, before = left + shape.width, (shape.tokens, shape.width)
    axes.set(xlim=(0, left), ylim=(0, highest * 1.15), ylabel="tokens per clip", title=run.label)
    axes.set_xlabel("features, block after block")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return axes


def plot_macs(axes: Axes, costs: Mapping[str, CostRun]) -> Axes:
    """MACs per clip, stacked: what the paper's counting sees, and the products that it misses (hatched)."""
    for position, run in enumerate(costs.values()):
        left = 0.0
        seen = run.metric("macs_module_only") / GIGA
        full = run.metric("macs_full") / GIGA
        for width, hatch, alpha in ((seen, "", 1.0), (full - seen, "////", 0.45)):
            (bar,) = axes.barh(
                position, width, 0.35, left, color=colour_of(run.model), alpha=alpha, hatch=hatch, edgecolor="white"
            )
            tip(bar, run.label, f"{width:.2f} G", "missed by the paper's rule" if hatch else "counted", run.key)
            left += width
        axes.text(0, position - 0.23, f"{seen:.1f} G counted by the paper,\n{full:.1f} G in full", fontsize=7.5)
    axes.set_yticks(range(len(costs)), labels=[run.label for run in costs.values()])
    axes.set(xlabel="MACs per clip (10⁹)", ylim=(len(costs) - 0.6, -0.6))
    return axes
