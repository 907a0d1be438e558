"""Cost against clip length, as the target `scaling` writes it and the report shows it. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.experiments.families import LABELS, PAPER_SECONDS
from reproduce.figures.style import COLOURS, LEGEND_BELOW, MARKERS, by_family, figure_style, save_figure
from reproduce.records.runs import ScalingRun
from reproduce.tables.base import GIGA

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SCALING_RATIOS = {  # metric -> label and dashes
    "latency_s": ("time, measured", "-"),
    "macs_full": ("MACs, full", "--"),
    "macs_module_only": ("MACs, module-only", ":"),
    "peak_memory_bytes": ("peak memory, measured", "-."),
}


MEASURED_STYLE: Any = {"color": "0.1", "marker": "D", "markersize": 3.5}
COUNTED_STYLE: Any = {"color": "0.5"}


def write_scaling_figure(records: Sequence[ScalingRun], out: Path) -> list[Path]:
    """Write cost against clip length as `out/scaling.png` and `out/scaling.svg`; the same records give the same bytes.

    Args:
        records: of one pair of models on one device.
        out: folder, created if absent.

    Returns:
        The paths; none where no record holds a latency.

    Raises:
        InputError: the folder cannot be written.
    """
    if not any(_was_timed(record) for record in records):
        return []
    return save_figure(lambda: draw_scaling(records), out, "scaling", records)


def draw_scaling(records: Sequence[ScalingRun]) -> Figure:
    """Latency and MACs left, the ratios of both models right; at least one of the runs was timed."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(10.5, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        plot_scaling(left, records)
        plot_scaling_ratio(right, records)
        right.spines["right"].set_visible(False)
        models = " and ".join(sorted({record.model for record in records}))
        machine = f"{records[0].environment.machine}, {records[0].environment.precision}"
        figure.suptitle(f"{models}, inference, batch 1, on {machine}", fontsize=9)
    return figure


def plot_scaling(axes: Axes, records: Sequence[ScalingRun]) -> Axes:
    """Latency (solid, left axis) and full MACs (dashed, right axis) against clip length, all logarithmic.

    The right axis is the left one times a constant, chosen so that AST's two lines meet in the middle: where a solid
    line departs from its dashed one, time is not proportional to MACs. Shades span the quartiles.
    """
    right = axes.twinx()
    factor, heights = _gmacs_per_ms(records), []
    for family, series in by_family(records).items():
        colour, timed = COLOURS[family], [record for record in series if _was_timed(record)]
        seconds = [record.seconds for record in timed]
        q1, median, q3 = (
            [1e3 * record.metric(f"latency_s{which}") for record in timed] for which in ("_q1", "", "_q3")
        )
        axes.plot(seconds, median, color=colour, marker=MARKERS[family], label=f"{LABELS[family]}, time")
        axes.fill_between(seconds, q1, q3, color=colour, alpha=0.2, linewidth=0)
        gmacs = [record.metric("macs_full") / GIGA for record in series]
        label = f"{LABELS[family]}, MACs"
        right.plot([r.seconds for r in series], gmacs, color=colour, linestyle="--", linewidth=1.2, label=label)
        heights += [*q1, *q3, *(value / factor for value in gmacs)]
    _log_seconds(axes, records)
    low, high = min(heights) / 1.3, max(heights) * 1.3
    axes.set(ylabel="ms per clip (solid)", yscale="log", ylim=(low, high))
    right.set(ylabel="G MACs per clip, full rule (dashed)", yscale="log", ylim=(low * factor, high * factor))
    handles, labels = axes.get_legend_handles_labels()
    more_handles, more_labels = right.get_legend_handles_labels()
    axes.legend([*handles, *more_handles], [*labels, *more_labels], **LEGEND_BELOW)
    return axes


def plot_scaling_ratio(axes: Axes, records: Sequence[ScalingRun]) -> Axes:
    """AST : MAST against clip length: measured time and memory, and MACs by both rules. Above 1 MAST is cheaper."""
    families = by_family(records)
    pairs = [(a, m) for a in families.get("ast", []) for m in families.get("mast", []) if a.seconds == m.seconds]
    for key, (label, dashes) in SCALING_RATIOS.items():
        points = [(a.seconds, ratio) for a, m in pairs if (ratio := _ratio(a, m, key)) is not None]
        if points:
            style = MEASURED_STYLE if key in ("latency_s", "peak_memory_bytes") else COUNTED_STYLE
            axes.plot(*zip(*points, strict=True), linestyle=dashes, label=label, **style)
    axes.axhline(1, color="0.7", linewidth=0.8)
    _log_seconds(axes, records)
    axes.set(ylabel="AST : MAST")
    axes.set_ylim(bottom=0)
    axes.legend(**LEGEND_BELOW)
    return axes


def _was_timed(run: ScalingRun) -> bool:
    return not math.isnan(run.metrics["latency_s"])


def _ratio(ast: ScalingRun, mast: ScalingRun, metric: str) -> float | None:
    """The median of the rounds' ratios for time, as in the table, else the quotient; None where one is absent."""
    ratio = ast.metrics["time_ratio"] if metric == "latency_s" else ast.metrics[metric] / mast.metrics[metric]
    return None if math.isnan(ratio) else ratio


def _log_seconds(axes: Axes, records: Sequence[ScalingRun]) -> None:
    lengths = sorted({record.seconds for record in records})
    ticks = [length for length in lengths if length != PAPER_SECONDS]  # its label would overlap that of 10
    axes.set(xlabel="clip length (s)", xscale="log")
    axes.set_xticks(ticks, labels=[f"{length:g}" for length in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _gmacs_per_ms(records: Sequence[ScalingRun]) -> float:
    """GMACs per millisecond of AST at the middle length; of any model where AST was not timed."""
    families = by_family(records)
    series = [r for r in families.get("ast", []) if _was_timed(r)]
    series = series or [r for r in records if _was_timed(r)]
    middle = series[len(series) // 2]
    return middle.metric("macs_full") / GIGA / (1e3 * middle.metric("latency_s"))
