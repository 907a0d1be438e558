"""Reliability diagrams, as the command `calibration` writes them and the report shows them. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reproduce.figures.style import colour_of, figure_style, label_of, marker_of, save_figure
from reproduce.metrics.calibration import confidence_of, reliability
from reproduce.tables.base import TableInputs
from reproduce.tables.calibration import block_title, by_model, one_label_groups
from reproduce.tables.pooled_clips import PooledClips, pool_clips

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_SHARE = 0.005  # of the clips: a smaller bin has no mark


def write_calibration_figure(inputs: TableInputs, out: Path) -> list[Path]:
    """Write the reliability diagram of the widest comparison as `out/calibration.png` and `.svg`.

    Returns:
        The paths; none where no comparison has stored predictions.

    Raises:
        InputError: the folder cannot be written.
    """
    found = largest_pooled(inputs)
    if found is None:
        return []
    title, pooled = found
    runs = [run for clips in pooled.values() for run in clips.runs]
    return save_figure(lambda: draw_calibration(pooled, title), out, "calibration", runs)


def largest_pooled(inputs: TableInputs) -> tuple[str, Mapping[str, PooledClips]] | None:
    """Title and predictions of the widest comparison; None without stored predictions of any."""
    for group in one_label_groups(inputs):
        pooled = pool_clips(inputs, by_model(group))
        if not isinstance(pooled, str):
            return block_title(group), pooled
    return None


def draw_calibration(pooled: Mapping[str, PooledClips], title: str) -> Figure:
    """Accuracy by confidence above, the share of clips in each bin below."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(5.2, 5.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        plot_reliability(upper, pooled)
        plot_confidences(lower, pooled)
        upper.legend(loc="upper left")
        figure.suptitle(title, fontsize=8)
    return figure


def plot_reliability(axes: Axes, pooled: Mapping[str, PooledClips]) -> Axes:
    """Accuracy against confidence, a line per model and the diagonal of perfect calibration."""
    axes.plot([0, 100], [0, 100], color="0.7", linewidth=0.9, linestyle="--")
    for model, clips in pooled.items():
        bins = reliability(*_flat(clips))
        seen = bins.share >= LEAST_SHARE
        axes.plot(
            100 * bins.confidence[seen],
            100 * bins.accuracy[seen],
            color=colour_of(model),
            marker=marker_of(model),
            markersize=4.5,
            linewidth=1.4,
            label=label_of(model),
        )
    axes.set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 100))
    axes.grid(color="0.9", linewidth=0.6)
    return axes


def plot_confidences(axes: Axes, pooled: Mapping[str, PooledClips]) -> Axes:
    """Share of the clips by confidence, a step line per model."""
    for model, clips in pooled.items():
        bins = reliability(*_flat(clips))
        axes.stairs(100 * bins.share, 100 * bins.edges, color=colour_of(model), linewidth=1.4)
    axes.set(xlabel="confidence (%)", ylabel="clips (%)")
    return axes


def _flat(clips: PooledClips) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and correctness of every clip by every seed."""
    return confidence_of(clips.probabilities).ravel(), clips.correct.ravel().astype(np.float64)
