"""Accuracy against the number of training clips, as `data_efficiency` writes it and the report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.figures.style import figure_style, save_figure, score_line
from reproduce.metrics.intervals import wilson_interval
from reproduce.records.records import Records
from reproduce.records.selection import data_efficiency_groups
from reproduce.tables.data_efficiency import DATASET, Part, parts_of
from reproduce.tables.notes import run_title

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def largest_parts(records: Records) -> tuple[str, list[Part]] | None:
    """Title and parts of the widest group; None where nothing was run."""
    for group in data_efficiency_groups(records, DATASET):
        parts = parts_of(group)
        if parts:
            return run_title(group), parts
    return None


def write_data_efficiency_figure(records: Records, out: Path) -> list[Path]:
    """Write `out/data_efficiency.png` and `.svg`.

    Returns:
        The paths; none where nothing was run.

    Raises:
        InputError: the folder cannot be written.
    """
    found = largest_parts(records)
    if found is None:
        return []
    title, parts = found
    runs = [run for part in parts for own in part.runs.values() for run in own]
    return save_figure(lambda: draw_data_efficiency(parts, title), out, "data_efficiency", runs)


def draw_data_efficiency(parts: Sequence[Part], title: str) -> Figure:
    """One panel with its legend."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axes = figure.subplots()
        plot_data_efficiency(axes, parts)
        axes.set_ylabel("top-1 (%)")
        axes.legend(loc="lower right")
        figure.suptitle(title, fontsize=8)
    return figure


def plot_data_efficiency(axes: Axes, parts: Sequence[Part]) -> Axes:
    """Top-1 with its interval per model against training clips on a logarithmic axis."""
    for model in dict.fromkeys(model for part in parts for model in part.scores):
        shown = [part for part in parts if model in part.scores]
        scores = [part.scores[model] for part in shown]
        bounds = [(0.0, 0.0) if s.correct is None else wilson_interval(s.correct, s.clips) for s in scores]
        score_line(axes, model, [part.clips for part in shown], [score.value for score in scores], bounds)
    axes.set_xscale("log")
    axes.set_xticks([part.clips for part in parts], [f"{part.clips:,.0f}" for part in parts])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training clips of one run")
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    return axes
