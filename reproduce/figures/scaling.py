"""Cost against clip length, as the target `scaling` writes it and the report shows it. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.experiments.families import LABELS, PAPER_SECONDS, ShownModel, listed, ratios_of, shown_models
from reproduce.figures.style import by_model, colour_of, figure_style, legend_below, marker_of, save_figure
from reproduce.records.measured_runs import ScalingRun
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
        more = max(0, len(by_model(records)) - 2)  # further models need further lines of the legends
        figure = Figure(figsize=(10.5, 4.2 + 0.5 * more), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        plot_scaling(left, records)
        plot_scaling_ratio(right, records)
        right.spines["right"].set_visible(False)
        models = listed(list(by_model(records)))
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
    series_of = by_model(records)
    for shown in shown_models(list(series_of)):
        series, colour = series_of[shown.name], colour_of(shown.name)
        timed = [record for record in series if _was_timed(record)]
        seconds = [record.seconds for record in timed]
        q1, median, q3 = (
            [1e3 * record.metric(f"latency_s{which}") for record in timed] for which in ("_q1", "", "_q3")
        )
        axes.plot(seconds, median, color=colour, marker=marker_of(shown.name), label=f"{shown.label}, time")
        axes.fill_between(seconds, q1, q3, color=colour, alpha=0.2, linewidth=0)
        gmacs = [record.metric("macs_full") / GIGA for record in series]
        label = f"{shown.label}, MACs"
        right.plot([r.seconds for r in series], gmacs, color=colour, linestyle="--", linewidth=1.2, label=label)
        heights += [*q1, *q3, *(value / factor for value in gmacs)]
    _log_seconds(axes, records)
    low, high = min(heights) / 1.3, max(heights) * 1.3
    axes.set(ylabel="ms per clip (solid)", yscale="log", ylim=(low, high))
    right.set(ylabel="G MACs per clip, full rule (dashed)", yscale="log", ylim=(low * factor, high * factor))
    handles, labels = axes.get_legend_handles_labels()
    more_handles, more_labels = right.get_legend_handles_labels()
    legend_below(axes, [*handles, *more_handles], [*labels, *more_labels])
    return axes


def plot_scaling_ratio(axes: Axes, records: Sequence[ScalingRun]) -> Axes:
    """AST : MAST against clip length: measured time and memory, and MACs by both rules. Above 1 MAST is cheaper.

    Of three models or more, time and full MACs of each divided by those of MAST, or of the first, in its colour.
    """
    series = by_model(records)
    ratios = list(ratios_of(shown_models(list(series))).values())
    for over, under in ratios:
        pairs = [(a, b) for a in series[over.name] for b in series[under.name] if a.seconds == b.seconds]
        for key, (label, dashes) in SCALING_RATIOS.items():
            if len(ratios) > 1 and key not in ("latency_s", "macs_full"):
                continue
            points = [(a.seconds, ratio) for a, b in pairs if (ratio := _ratio(a, b, key)) is not None]
            if points:
                style = MEASURED_STYLE if key in ("latency_s", "peak_memory_bytes") else COUNTED_STYLE
                several = {"label": f"{over.label}, {label}", "color": colour_of(over.name)} if len(ratios) > 1 else {}
                axes.plot(*zip(*points, strict=True), **{"linestyle": dashes, "label": label, **style, **several})
    axes.axhline(1, color="0.7", linewidth=0.8)
    _log_seconds(axes, records)
    axes.set(ylabel=_ratio_label(ratios))
    axes.set_ylim(bottom=0)
    if ratios:
        legend_below(axes, *axes.get_legend_handles_labels())
    return axes


def _ratio_label(ratios: Sequence[tuple[ShownModel, ShownModel]]) -> str:
    """What the ratios divide: "AST : MAST", whatever the size."""
    if not ratios:
        return ""
    over, under = (LABELS.get(model.key, model.name) for model in ratios[0])
    return f"{over if len(ratios) == 1 else 'model'} : {under}"


def _was_timed(run: ScalingRun) -> bool:
    return not math.isnan(run.metrics["latency_s"])


def _ratio(over: ScalingRun, under: ScalingRun, metric: str) -> float | None:
    """The median of the rounds' ratios for time, as in the table, else the quotient; None where one is absent."""
    ratio = over.metrics["time_ratio"] if metric == "latency_s" else over.metrics[metric] / under.metrics[metric]
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
    timed = [r for r in records if _was_timed(r)]
    series = sorted((r for r in timed if r.family == "ast"), key=lambda r: (r.model, r.seconds)) or timed
    middle = series[len(series) // 2]
    return middle.metric("macs_full") / GIGA / (1e3 * middle.metric("latency_s"))
