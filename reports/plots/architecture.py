"""Both architectures drawn to one scale, and their MACs by rule and by kind of operation."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reports.plots.base import GREY, Drawn, finish, tip
from reproduce.experiments.families import LABELS, PAPER_MODELS
from reproduce.figures.style import COLOURS
from reproduce.records.selection import cost_of
from reproduce.tables import TableInputs
from reproduce.tables.base import GIGA


def costs_of(inputs: TableInputs) -> dict[str, RunRecord] | None:
    """Model -> its cost record at the paper's size; None unless both are there."""
    found = {model: cost_of(inputs.records, preset) for model, preset in PAPER_MODELS.items()}
    kept = {model: record for model, record in found.items() if record is not None}
    return kept if len(kept) == len(found) else None


def draw_architecture(inputs: TableInputs) -> Drawn | None:
    costs = costs_of(inputs)
    if costs is None:
        return None
    from matplotlib import pyplot

    figure, axes = pyplot.subplot_mosaic(
        [["ast", "macs"], ["mast", "macs"]], figsize=(8.6, 4.4), width_ratios=(5, 3), layout="constrained"
    )
    highest = max(shape[1] for record in costs.values() for shape in record.shapes)
    for model, record in costs.items():
        plot_blocks(axes[model], record, model, highest)
    plot_macs(axes["macs"], costs)
    return finish(
        figure,
        "Left: every transformer block drawn to one scale, as high as the tokens that leave it and as wide as its "
        "features; both axes are linear, so areas are the numbers that a block hands on. Right: multiply-accumulates "
        f"of one clip of {_input(costs)}; hatched, the products inside attention that the paper's counting misses.",
    )


def _input(costs: Mapping[str, RunRecord]) -> str:
    mels, frames = costs["mast"].input_size
    return f"{mels} mels × {frames} frames"


def plot_blocks(axes: Axes, record: RunRecord, model: str, highest: int) -> Axes:
    """One rectangle a block: tokens high, features wide. A number stands where tokens or width change."""
    left, before = 0.0, (0, 0)
    for name, tokens, freq, time, width, _ in record.shapes:
        if name == "patch embedding":
            continue
        block = Rectangle((left, 0), width, tokens, facecolor=COLOURS[model], edgecolor="white", linewidth=0.8)
        axes.add_patch(block)
        tip(block, f"{LABELS[model]} {name}", f"{tokens:,} tokens ({freq} × {time})", f"{width} wide", record.key)
        if (tokens, width) != before:
            text = f"{tokens:,} × {width}"
            axes.annotate(text, (left, tokens), (1, 3), textcoords="offset points", color="0.15", fontsize=7.5)
        left, before = left + width, (tokens, width)
    axes.set(xlim=(0, left), ylim=(0, highest * 1.12), ylabel="tokens a clip", title=LABELS[model])
    axes.set_xlabel("features, block after block (labels: tokens × features)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return axes


def plot_macs(axes: Axes, costs: Mapping[str, RunRecord]) -> Axes:
    """MACs per clip by rule, stacked: what the paper's counting sees, and the products that it misses (hatched)."""
    for position, (model, record) in enumerate(costs.items()):
        left = 0.0
        seen = record.metric("macs_module_only") / GIGA
        full = record.metric("macs_full") / GIGA
        for width, hatch, alpha in ((seen, "", 1.0), (full - seen, "////", 0.45)):
            (bar,) = axes.barh(
                position, width, 0.35, left, color=COLOURS[model], alpha=alpha, hatch=hatch, edgecolor="white"
            )
            tip(bar, LABELS[model], f"{width:.2f} G", "missed by the paper's rule" if hatch else "seen", record.key)
            left += width
        axes.text(0, position - 0.23, f"{seen:.1f} G by the paper's rule, {full:.1f} G in full", fontsize=8)
    axes.set_yticks(range(len(costs)), labels=[LABELS[model] for model in costs])
    axes.set(xlabel="MACs a clip (G)", ylim=(len(costs) - 0.6, -0.5), title="Cost of one clip")
    return axes


def draw_macs_by_kind(inputs: TableInputs) -> Drawn | None:
    costs = costs_of(inputs)
    if costs is None or not all(record.items for record in costs.values()):
        return None
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.6, 3.2), layout="constrained")
    plot_macs_by_kind(axes, costs)
    return finish(
        figure,
        f"Multiply-accumulates of one clip of {_input(costs)} by kind of operation, full rule. The axis is "
        "logarithmic; numbers in G.",
    )


def plot_macs_by_kind(axes: Axes, costs: Mapping[str, RunRecord]) -> Axes:
    """A pair of bars a kind, on a logarithmic axis, the numbers at their ends."""
    totals: dict[str, dict[str, float]] = {}
    for model, record in costs.items():
        for _, kind, macs in record.items:
            if kind != "linear bias":  # belongs to the ptflops 0.7 rule alone
                row = totals.setdefault(kind, dict.fromkeys(costs, 0.0))
                row[model] += macs / GIGA
    kinds = sorted(totals, key=lambda kind: -max(totals[kind].values()))
    smallest = min((value for row in totals.values() for value in row.values() if value > 0), default=1.0)
    for offset, model in enumerate(costs):
        for place, kind in enumerate(kinds):
            value, y = totals[kind][model], place + (offset - 0.5) * 0.38
            if value > 0:
                (bar,) = axes.barh(y, value, 0.36, color=COLOURS[model], label=LABELS[model] if not place else None)
                tip(bar, LABELS[model], kind, f"{value:.4g} G", costs[model].key)
            axes.text(max(value, smallest / 2) * 1.08, y, f"{value:.3g}" if value else "none", va="center", fontsize=7)
    largest = max((value for row in totals.values() for value in row.values()), default=1.0)
    axes.set_yticks(range(len(kinds)), labels=kinds)
    axes.set(xlabel="MACs a clip (G)", xscale="log", xlim=(smallest / 2, largest * 4), ylim=(len(kinds) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(GREY)
    axes.legend(loc="lower right")
    return axes
