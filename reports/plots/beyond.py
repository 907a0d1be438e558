"""Beyond top-1: reliability of the models' probabilities, and accuracy under other conditions and lengths."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes

from reports.plots.base import PAGE_WIDTH, Drawn, finish, legend_above, line_handles, plain
from reproduce.figures.calibration import largest_pooled, plot_confidences, plot_reliability
from reproduce.figures.conditions import kinds_of, plot_condition
from reproduce.figures.data_efficiency import largest_parts, plot_data_efficiency
from reproduce.metrics.calibration import BINS
from reproduce.records.condition_runs import ConditionsRun, RobustnessRun, TransferRun
from reproduce.tables import TableInputs
from reproduce.tables.robustness import condition_scores

PANEL_HEIGHT = 2.4  # inches
TITLE_WIDTH = 48  # characters


def draw_calibration(inputs: TableInputs) -> Drawn | None:
    """The reliability of both models in the widest comparison."""
    found = largest_pooled(inputs)
    if found is None:
        return None
    from matplotlib import pyplot

    title, pooled = found
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(PAGE_WIDTH, PANEL_HEIGHT + 0.3), layout="constrained")
    plot_reliability(left, pooled)
    plot_confidences(right, pooled)
    left.set_xlabel("confidence (%)")
    _title(left, title)
    legend_above(figure, line_handles(pooled, marks=True))
    clips = len(next(iter(pooled.values())).clip_ids)
    return finish(
        figure,
        f"Left: how often a prediction is right by the probability that the model gives it ({BINS} bins of equal "
        "width; on the dashed line a probability is what it says, below it the model is overconfident). Right: how the "
        f"probabilities are spread. {clips:,} test clips, every seed.",
        f"Reliability diagram of {' and '.join(pooled)}.",
    )


def draw_robustness(inputs: TableInputs) -> Drawn | None:
    """Top-1 under noise, low-pass and shift."""
    what = (
        "Accuracy of trained models whose test clips are disturbed, as the models never heard them in training: white "
        "noise, a low-pass and a shift in time, the same for both models."
    )
    return _draw(inputs, RobustnessRun, what)


def draw_transfer(inputs: TableInputs) -> Drawn | None:
    """Top-1 on clips of other lengths."""
    what = (
        "Accuracy on clips shorter and longer than those of training, without training again: positions are resized. A "
        "shorter clip is the start of the clip, a longer one the clip repeated."
    )
    return _draw(inputs, TransferRun, what)


def draw_data_efficiency(inputs: TableInputs) -> Drawn | None:
    """Top-1 by the number of training clips."""
    found = largest_parts(inputs.records)
    if found is None:
        return None
    from matplotlib import pyplot

    title, parts = found
    figure, axes = pyplot.subplots(figsize=(0.6 * PAGE_WIDTH, PANEL_HEIGHT + 0.3), layout="constrained")
    plot_data_efficiency(axes, parts)
    axes.set_ylabel("top-1 (%)")
    _title(axes, title)
    models = list(parts[-1].scores)
    legend_above(figure, line_handles(models, marks=True))
    values = "; ".join(
        f"{100 * part.fraction:g} % "
        + ", ".join(f"{model} {score.value:.1f} %" for model, score in part.scores.items())
        for part in parts
    )
    return finish(
        figure,
        "Accuracy by the number of training clips, for equally many optimiser steps on the same parts of the clips. "
        "Bars: 95 % Wilson intervals over test clips.",
        f"Top-1 by part of the training clips: {values}.",
    )


def _title(axes: Axes, title: str) -> None:
    """What was measured, above the first panel and flush with its left edge."""
    text = textwrap.fill(plain(title.removeprefix("demo scale: ")), TITLE_WIDTH)
    axes.set_title(text, loc="left", fontsize=7.5)


def _draw(inputs: TableInputs, kind: type[ConditionsRun], what: str) -> Drawn | None:
    found = condition_scores(inputs, kind)
    if not found:
        return None
    from matplotlib import pyplot

    scores, kinds = found[0], kinds_of(found[0])
    width = PAGE_WIDTH if len(kinds) > 1 else 0.6 * PAGE_WIDTH
    figure, panels = pyplot.subplots(
        1, len(kinds), figsize=(width, PANEL_HEIGHT), layout="constrained", sharey=True, squeeze=False
    )
    for axes, name in zip(panels[0], kinds, strict=True):
        plot_condition(axes, scores, name)
    panels[0][0].set_ylabel("top-1 (%)")
    _title(panels[0][0], scores.title)
    legend_above(figure, line_handles(scores.correct, marks=True))
    values = "; ".join(
        f"{model} {', '.join(f'{100 * own.mean():.1f}' for own in correct)} %"
        for model, correct in scores.correct.items()
    )
    return finish(
        figure,
        f"{what} Bars: 95 % intervals over the {scores.unit}s of {len(scores.units):,} test clips.",
        f"Top-1 as trained and under {len(scores.conditions) - 1} conditions: {values}.",
    )
