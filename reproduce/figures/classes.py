"""The models' difference in every class, as the command `classes` writes it. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.figures.calibration import largest_pooled
from reproduce.figures.style import colour_of, figure_style, label_of, save_figure
from reproduce.tables.base import TableInputs
from reproduce.tables.classes import ClassScores, class_scores

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "0.5"


def write_classes_figure(inputs: TableInputs, out: Path) -> list[Path]:
    """Write the first two models of the widest comparison as `out/classes.png` and `.svg`.

    Returns:
        The paths; none without stored predictions of two models.

    Raises:
        InputError: the folder cannot be written.
    """
    found = largest_pooled(inputs)
    if found is None or len(found[1]) < 2:
        return []
    title, pooled = found
    runs = [run for clips in pooled.values() for run in clips.runs]
    rows = class_scores(pooled, runs[0].classes[DEFAULT_HEAD])
    first, second = list(pooled)[:2]
    return save_figure(lambda: draw_classes(rows, first, second, title), out, "classes", runs)


def draw_classes(rows: Sequence[ClassScores], first: str, second: str, title: str) -> Figure:
    """A row per class, the one where the second model gains most on top."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(5.6, 1.2 + 0.17 * len(rows)), layout="constrained")
        plot_classes(figure.subplots(), rows, first, second)
        figure.suptitle(title, fontsize=8)
    return figure


def plot_classes(axes: Axes, rows: Sequence[ClassScores], first: str, second: str) -> Axes:
    """Second minus first per class with its interval, in the colour of the model ahead; grey without a difference."""
    for place, row in enumerate(rows):
        value, interval, _ = row.gains[second]
        low, high = interval or (value, value)
        axes.errorbar(
            value,
            place,
            xerr=[[max(value - low, 0.0)], [max(high - value, 0.0)]],
            color=colour_of(second if value > 0 else first) if row.differs(second) else GREY,
            marker="o",
            markersize=3.5,
            linewidth=1,
        )
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"{label_of(second)} minus {label_of(first)}, top-1 (points)")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    return axes
