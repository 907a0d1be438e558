"""Accuracy under other conditions, as `robustness` and `transfer` write it and the report shows it. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.experiments.conditions import AS_TRAINED, LENGTH, TITLES, Condition
from reproduce.figures.style import figure_style, save_figure, score_line
from reproduce.tables.robustness import ConditionScores

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_conditions_figure(scores: Sequence[ConditionScores], name: str, out: Path) -> list[Path]:
    """Write the comparison on most clips as `out/NAME.png` and `.svg`.

    Returns:
        The paths; none where nothing was measured.

    Raises:
        InputError: the folder cannot be written.
    """
    if not scores:
        return []
    return save_figure(lambda: draw_conditions(scores[0]), out, name, scores[0].runs)


def draw_conditions(scores: ConditionScores) -> Figure:
    """A panel per kind of condition, with one legend."""
    from matplotlib.figure import Figure

    kinds = kinds_of(scores)
    with figure_style():
        figure = Figure(figsize=(max(5.2, 1.2 + 2.9 * len(kinds)), 3.6), layout="constrained")
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            plot_condition(axes, scores, kind)
        panels[0].set_ylabel("top-1 (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
        figure.suptitle(scores.title, fontsize=8)
    return figure


def kinds_of(scores: ConditionScores) -> list[str]:
    """The kinds of conditions other than as trained, in their order."""
    return list(dict.fromkeys(c.kind for c in scores.conditions if c != AS_TRAINED))


def plot_condition(axes: Axes, scores: ConditionScores, kind: str) -> Axes:
    """Top-1 with its interval per model, from the conditions of training on; lengths in ascending order."""
    shown = [c for c in scores.conditions if c == AS_TRAINED or c.kind == kind]
    if kind == LENGTH:
        shown.sort(key=lambda c: 1.0 if c == AS_TRAINED else c.level)
    for number, (model, correct) in enumerate(scores.correct.items()):
        values = [correct[scores.conditions.index(c)] for c in shown]
        heights = [100.0 * float(own.mean()) for own in values]
        bounds = [scores.interval(own) for own in values]
        places = [place + 0.06 * number for place in range(len(shown))]  # beside each other, not over each other
        score_line(axes, model, places, heights, bounds)
    axes.set_xticks(range(len(shown)), [_tick(c, kind) for c in shown])
    axes.set_xlabel(TITLES[kind])
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    return axes


def _tick(condition: Condition, kind: str) -> str:
    if condition == AS_TRAINED:
        return "1" if kind == LENGTH else "none"
    return f"{condition.level:g}"
