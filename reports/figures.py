"""Figures from records. Every plot takes an Axes and returns it; colours and letters are the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from reproduce.figures import COLOURS, LABELS
from reproduce.records import RunRecord


def plot_tokens(axes: Axes, costs: Mapping[str, RunRecord]) -> Axes:
    """Tokens that leave every block (log scale), one step line a model; numbers say the width where it changes.

    Args:
        axes: drawn into and returned.
        costs: model ("ast", "mast") -> its cost record.
    """
    for model, record in costs.items():
        shapes = [shape for shape in record.details["shapes"] if shape[0] != "patch embedding"]
        tokens, widths = [shape[1] for shape in shapes], [shape[4] for shape in shapes]
        edges = [block - 0.5 for block in range(len(tokens) + 1)]
        axes.stairs(tokens, edges, baseline=None, color=COLOURS[model], linewidth=2.5, label=LABELS[model])
        for block, (count, width) in enumerate(zip(tokens, widths, strict=True)):
            if block == 0 or widths[block - 1] != width:
                axes.annotate(
                    f"{width} wide", (block - 0.4, count), (0, 4), textcoords="offset points", color="0.2", fontsize=8
                )
    counts = sorted({shape[1] for record in costs.values() for shape in record.details["shapes"]})
    axes.set(xlabel="Transformer block", ylabel="tokens a clip", yscale="log", ylim=(counts[0] / 1.7, counts[-1] * 2))
    axes.set_yticks(counts, labels=[f"{count:,}" for count in counts], minor=False)
    axes.tick_params(axis="y", which="minor", left=False)
    axes.legend(frameon=False, loc="upper right")
    return axes


def plot_macs(axes: Axes, costs: Mapping[str, RunRecord]) -> Axes:
    """MACs per clip by kind, stacked: what the paper's counting sees, and the products that it misses (hatched)."""
    for position, (model, record) in enumerate(costs.items()):
        left = 0.0
        seen = float(record.metrics["macs_module_only"] or 0) / 1e9
        full = float(record.metrics["macs_full"] or 0) / 1e9
        for width, hatch, alpha in ((seen, "", 1.0), (full - seen, "////", 0.45)):
            axes.barh(position, width, 0.4, left, color=COLOURS[model], alpha=alpha, hatch=hatch, edgecolor="white")
            left += width
        axes.text(0, position - 0.26, f"{seen:.1f} G by the paper's rule, {full:.1f} G in full", fontsize=9)
    axes.set_yticks(range(len(costs)), labels=[LABELS[model] for model in costs])
    axes.set(xlabel="MACs a clip (G); hatched: products in attention", ylim=(len(costs) - 0.6, -0.6))
    return axes
