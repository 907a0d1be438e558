"""Training curves from the history that every training record carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.plots.base import (
    DASHES,
    Drawn,
    by_model,
    colour_of,
    finish,
    grid_of,
    group_title,
    groups_of,
    label_of,
    tip,
)
from reproduce.experiments.families import family
from reproduce.tables import TableInputs


def draw_curves(inputs: TableInputs) -> Drawn | None:
    groups = [
        runs
        for group in groups_of(inputs.records)
        if any(r.history for r in group) and len(runs := by_model(group)) > 1  # a model alone is compared with nothing
    ]
    if not groups:
        return None
    figure, grid = grid_of(len(groups), 3.1 if len(groups) > 1 else 5.5, 2.6)
    for axes, runs in zip(grid, groups, strict=True):
        plot_curves(axes, runs)
        axes.set_title(_broken(group_title([r for of_model in runs.values() for r in of_model])), fontsize=7.5)
    return finish(
        figure,
        "Training loss by epoch, augmentation included. Bold: mean over folds and seeds; thin: each run, where there "
        "are several.",
    )


def _broken(title: str) -> str:
    """A long title in two lines, at a comma."""
    parts = title.split(", ")
    half = -(-len(parts) // 2)
    return ", ".join(parts[:half]) + ",\n" + ", ".join(parts[half:]) if len(title) > 48 else title


def plot_curves(axes: Axes, runs: Mapping[str, Sequence[RunRecord]]) -> Axes:
    """One line a model (mean loss), thin ones for its runs.

    Args:
        axes: drawn into and returned.
        runs: model -> records of its runs; those without history are passed over.
    """
    for model, records in runs.items():
        curves = {
            r.key: ([e["epoch"] for e in r.history], [e["loss"] for e in r.history]) for r in records if r.history
        }
        if len(curves) > 1:
            for record in records:
                if record.key in curves:
                    (line,) = axes.plot(*curves[record.key], color=colour_of(model), linewidth=0.6, alpha=0.45)
                    fold = ",".join(record.test_splits)
                    tip(line, model, f"tested on {fold}", f"seed {record.seed}", f"record {record.key}")
        by_epoch: dict[int, list[float]] = {}
        for epochs, losses in curves.values():
            for epoch, loss in zip(epochs, losses, strict=True):
                if loss is not None:
                    by_epoch.setdefault(epoch, []).append(loss)
        places = sorted(by_epoch)
        means = [fmean(by_epoch[epoch]) for epoch in places]
        style: Any = {"color": colour_of(model), "linestyle": DASHES[family(model)], "linewidth": 2}
        (line,) = axes.plot(places, means, label=label_of(model), marker="." if len(places) == 1 else None, **style)
        tip(line, model, f"mean of {len(curves)} runs", f"last epoch {means[-1]:.3f}", *curves)
    axes.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend()
    return axes
