"""Class by class: confusion matrices of both models, and their paired difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from reports.paired import Difference, Outcomes, class_differences, confusion, outcomes_of
from reports.plots.base import (
    GREY,
    Drawn,
    by_model,
    colour_of,
    finish,
    group_title,
    groups_of,
    label_of,
    tip,
)
from reproduce.figures.style import MARKERS
from reproduce.tables import TableInputs

KEYS_NAMED = 4  # of the records behind a figure
MOST_CLASSES = 60  # more cannot be read on a page
NUMBERED_CLASSES = 20  # up to here, every cell of a matrix has its number


def largest_pairing(inputs: TableInputs) -> tuple[str, tuple[str, str], Outcomes] | None:
    """Title, models and outcomes of the pairing with the most test clips; real recordings go before stand-ins."""
    found = []
    for group in groups_of(inputs.records):
        runs = by_model(group)
        if len(runs) == 2 and (outcomes := outcomes_of(inputs, *runs.values())):
            rank = (not group[0].standin, len(outcomes.target), max(r.created for r in group))
            first, second = runs
            found.append((rank, group_title(group), (first, second), outcomes))
    if not found:
        return None
    _, title, models, outcomes = max(found, key=lambda entry: entry[0])
    return title, models, outcomes


def _keys(outcomes: Outcomes) -> str:
    keys = [record.key for record in outcomes.records]
    more = f" and {len(keys) - KEYS_NAMED} more" if len(keys) > KEYS_NAMED else ""
    return ", ".join(keys[:KEYS_NAMED]) + more


def draw_confusion(inputs: TableInputs) -> Drawn | None:
    pairing = largest_pairing(inputs)
    if pairing is None or len(pairing[2].classes) > MOST_CLASSES:
        return None
    from matplotlib import pyplot

    title, models, outcomes = pairing
    side = 3.0 + 0.12 * len(outcomes.classes)
    figure, panels = pyplot.subplots(1, 2, figsize=(2 * side, side), sharey=True, layout="constrained")
    for axes, model, predicted in zip(panels, models, (outcomes.first, outcomes.second), strict=True):
        plot_confusion(axes, confusion(outcomes.target, predicted, len(outcomes.classes)), outcomes.classes)
        axes.set_title(label_of(model), color="black")
    panels[0].set_ylabel("class of the clip")
    return finish(
        figure,
        f"Confusion of {len(outcomes.target)} test clips ({title}), in clips; shading is the share of the row. "
        f"Records: {_keys(outcomes)}.",
    )


def plot_confusion(axes: Axes, counts: np.ndarray, classes: Sequence[str]) -> Axes:
    """Counts by true class (down) and predicted class (across), shaded by the share of the row.

    Args:
        axes: drawn into and returned.
        counts: (classes, classes).
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    places, names = range(len(classes)), [plain(name) for name in classes]
    axes.set_xticks(places, labels=names, rotation=90, fontsize=7)
    axes.set_yticks(places, labels=names, fontsize=7)
    axes.set_xlabel("class that the model gave")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(classes) <= NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "black"
            text = axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize=7)
            tip(text, f"{classes[row]} taken for {classes[column]}", f"{counts[row, column]} clips")
    return axes


def plain(name: str) -> str:
    """A class's name as text: matplotlib would read two dollar signs as mathematics."""
    return name.replace("\\", "\\\\").replace("$", r"\$") if "$" in name else name


def draw_class_differences(inputs: TableInputs) -> Drawn | None:
    pairing = largest_pairing(inputs)
    if pairing is None or len(pairing[2].classes) > MOST_CLASSES:
        return None
    from matplotlib import pyplot

    title, models, outcomes = pairing
    differences = class_differences(outcomes)
    figure, axes = pyplot.subplots(figsize=(6.5, 1.1 + 0.24 * len(differences)), layout="constrained")
    plot_differences(axes, differences, models)
    return finish(
        figure,
        f"Recall of {label_of(models[1])} less that of {label_of(models[0])}, class by class, on the same "
        f"{len(outcomes.target)} test clips ({title}). Bars: 95 % intervals of paired differences (Agresti, Min), "
        f"one class at a time; n is the number of clips. Records: {_keys(outcomes)}.",
    )


def plot_differences(axes: Axes, differences: Sequence[Difference], models: tuple[str, str]) -> Axes:
    """A mark and an interval a class; its colour is that of the model ahead, grey where the interval holds 0."""
    for place, found in enumerate(differences):
        ahead = models[1] if found.value > 0 else models[0]
        colour = GREY if found.low <= 0 <= found.high else colour_of(ahead)
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.6)
        (mark,) = axes.plot(
            found.value, place, MARKERS["mast" if found.value > 0 else "ast"], color=colour, markersize=5
        )
        interval = f"{found.value:+.1f} points [{found.low:.1f}, {found.high:.1f}]"
        tip(mark, found.name, interval, f"{found.clips} clips")
    axes.axvline(0, color="0.2", linewidth=0.8)
    labels = [f"{plain(found.name)} (n = {found.clips})" for found in differences]
    axes.set_yticks(range(len(differences)), labels=labels, fontsize=8)
    axes.set_xlabel(f"points of recall: ← {label_of(models[0])} ahead, {label_of(models[1])} ahead →")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return axes
