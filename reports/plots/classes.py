"""Class by class: confusion matrices of both models, and their paired difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from reports.paired import ClassDifference, Outcomes, class_differences, outcomes_of
from reports.plots.base import (
    GREY,
    PAGE_WIDTH,
    Drawn,
    colour_of,
    finish,
    group_title,
    groups_of,
    label_of,
    marker_of,
    plain,
    tip,
)
from reports.plots.comparisons import comparison_of
from reproduce.metrics.scores import confusion_matrix
from reproduce.records.pairs import width
from reproduce.tables import TableInputs

MOST_CLASSES = 60  # more cannot be read on a page
NUMBERED_CLASSES = 20  # up to here, every cell of a matrix has its number


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two models that were scored on the same clips.

    Args:
        title: data and length of training.
        models: registered names.
        outcomes: on every clip.
    """

    title: str
    models: tuple[str, str]
    outcomes: Outcomes


def largest_pairing(inputs: TableInputs) -> Pairing | None:
    """The pair of models with the most test clips of real recordings: runs on stand-ins compare nothing."""
    pairings = []
    for group in groups_of(inputs.records):
        comparison = None if group[0].standin else comparison_of(group)
        if comparison and (outcomes := outcomes_of(inputs, *comparison.pair.values())):
            first, second = comparison.pair
            rank = (*width(group), max(run.created for run in group))
            pairings.append((rank, Pairing(title=group_title(group), models=(first, second), outcomes=outcomes)))
    return max(pairings, key=lambda entry: entry[0])[1] if pairings else None


def draw_confusion(inputs: TableInputs) -> Drawn | None:
    """Two matrices side by side."""
    pairing = largest_pairing(inputs)
    if pairing is None or len(pairing.outcomes.classes) > MOST_CLASSES:
        return None
    from matplotlib import pyplot

    outcomes = pairing.outcomes
    if len(outcomes.classes) <= NUMBERED_CLASSES:
        figure, panels = pyplot.subplots(1, 2, figsize=(PAGE_WIDTH, 0.6 * PAGE_WIDTH), sharey=True, layout="compressed")
    else:  # names need the height of a page
        figure, panels = pyplot.subplots(2, 1, figsize=(0.8 * PAGE_WIDTH, 9.0), sharex=True, layout="compressed")
    for axes, model, predicted in zip(panels, pairing.models, (outcomes.first, outcomes.second), strict=True):
        plot_confusion(axes, confusion_matrix(predicted, outcomes.target, len(outcomes.classes)), outcomes.classes)
        axes.set_title(label_of(model))
    for axes in panels:
        axes.label_outer()
    return finish(
        figure,
        f"Confusion matrices of {len(outcomes.target):,} test clips ({pairing.title}), in clips; the shade is the "
        "share of the row. The diagonal holds correct predictions; dark cells off it are pairs of classes that the "
        "model confuses.",
        f"Confusion matrices of {label_of(pairing.models[0])} and {label_of(pairing.models[1])}.",
    )


def plot_confusion(axes: Axes, counts: np.ndarray, classes: Sequence[str]) -> Axes:
    """Counts by true class (down) and predicted class (across), shaded by the share of the row.

    Args:
        axes: drawn into and returned.
        counts: (classes, classes).
        classes: their names.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    positions, names = range(len(classes)), [plain(name) for name in classes]
    size = min(7.0, 240 / len(classes))
    axes.set_xticks(positions, labels=names, rotation=90, fontsize=size)
    axes.set_yticks(positions, labels=names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="class of the clip")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(classes) <= NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "black"
            text = axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize=7)
            tip(text, f"{classes[row]} predicted as {classes[column]}", f"{counts[row, column]} clips")
    return axes


def draw_class_differences(inputs: TableInputs) -> Drawn | None:
    """A row per class."""
    pairing = largest_pairing(inputs)
    if pairing is None or len(pairing.outcomes.classes) > MOST_CLASSES:
        return None
    from matplotlib import pyplot

    differences = class_differences(pairing.outcomes)
    figure, axes = pyplot.subplots(figsize=(PAGE_WIDTH, 0.8 + 0.17 * len(differences)), layout="constrained")
    plot_differences(axes, differences, pairing.models)
    first, second = map(label_of, pairing.models)
    clear = [difference.name for difference in differences if difference.low > 0 or difference.high < 0]
    phrase = f"the interval excludes 0 for {', '.join(clear)}" if clear else "no interval excludes 0"
    return finish(
        figure,
        f"Recall of {second} minus that of {first}, class by class, on the same {len(pairing.outcomes.target):,} test "
        f"clips ({pairing.title}). Bars: 95 % intervals of one class at a time (Agresti and Min), without a correction "
        "for the number of classes and without the spread over training runs; grey where the interval holds 0.",
        f"Differences of recall for {len(differences)} classes; {phrase}.",
    )


def plot_differences(axes: Axes, differences: Sequence[ClassDifference], models: tuple[str, str]) -> Axes:
    """A mark and an interval per class, in the colour of the better model, grey where the interval holds 0."""
    for row, difference in enumerate(differences):
        better = models[1] if difference.value > 0 else models[0]
        colour = GREY if difference.low <= 0 <= difference.high else colour_of(better)
        axes.plot([difference.low, difference.high], [row, row], color=colour, linewidth=1.4)
        (mark,) = axes.plot(difference.value, row, marker_of(better), color=colour, markersize=4.5)
        interval = f"{difference.value:+.1f} points [{difference.low:.1f}, {difference.high:.1f}]"
        tip(mark, difference.name, interval, f"{difference.clips} clips")
    axes.axvline(0, color="0.2", linewidth=0.8)
    labels = [f"{plain(difference.name)} (n = {difference.clips})" for difference in differences]
    axes.set_yticks(range(len(differences)), labels=labels, fontsize=7.5 if len(labels) < 30 else 6.5)
    axes.set_xlabel(f"points of recall: ← {label_of(models[0])} is better, {label_of(models[1])} is better →")
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.5 / max(len(differences), 1))
    axes.grid(axis="x")
    return axes
