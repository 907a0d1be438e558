"""Learning curves from the history that every training run carries."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.plots.base import (
    Drawn,
    by_model,
    colour_of,
    dashes_of,
    finish,
    first_of_corpora,
    grid_of,
    group_title,
    groups_of,
    label_of,
    legend_above,
    line_handles,
    plain,
    tip,
)
from reproduce.records.runs import TrainedRun
from reproduce.tables import TableInputs

LOSS = "loss"
# Scores of an epoch that a history may hold -> label; the first that is there gets a panel of its own.
SCORES = {
    "validation_top1": "validation top-1 (%)",
    "validation_map": "validation mAP (%)",
    "top1": "test top-1 (%)",
    "map": "test mAP (%)",
}
TITLES_WIDTH = 84  # characters of a row of titles


def draw_curves(inputs: TableInputs) -> Drawn | None:
    """A panel per corpus of real recordings, of its widest comparison, and another where its epochs were scored."""
    groups = [
        group
        for group in groups_of(inputs.records)
        if not group[0].standin and any(run.history for run in group) and len(by_model(group)) > 1
    ]
    panels: list[tuple[dict[str, list[TrainedRun]], str]] = []
    for group in first_of_corpora(groups, lambda group: group[0].corpus_key)[0]:
        runs = by_model(group)
        score = next((name for name in SCORES if any(name in run.history[-1] for run in group)), None)
        panels += [(runs, LOSS), *([(runs, score)] if score else [])]
    if not panels:
        return None
    columns = 2 if len(panels) in (2, 4) else 3
    figure, grid = grid_of(len(panels), 1.9, columns=columns)
    for axes, (runs, quantity) in zip(grid, panels, strict=True):
        plot_curves(axes, runs, quantity)
        title = group_title([run for of_model in runs.values() for run in of_model])
        axes.set_title(textwrap.fill(plain(title), TITLES_WIDTH // columns), fontsize=7.5)
    legend_above(figure, line_handles(dict.fromkeys(model for runs, _ in panels for model in runs)))
    scored = any(quantity != LOSS for _, quantity in panels)
    scores = ", and the score of each epoch where one was recorded" if scored else ""
    return finish(
        figure,
        f"Learning curves: training loss by epoch with augmentation{scores}. Bold lines are means over folds and "
        "seeds, thin lines are single runs.",
        "Training loss of both models by epoch, one panel per data set.",
    )


def plot_curves(axes: Axes, runs: Mapping[str, Sequence[TrainedRun]], quantity: str = LOSS) -> Axes:
    """One bold line per model (the mean), thin ones for its runs.

    Args:
        axes: drawn into and returned.
        runs: model -> its runs; those without history are left out.
        quantity: entry of each epoch's history.
    """
    for model, of_model in runs.items():
        curves = {run.key: _points(run, quantity) for run in of_model}
        by_epoch: dict[int, list[float]] = {}
        for run in of_model:
            if len(of_model) > 1 and curves[run.key]:
                (line,) = axes.plot(
                    *zip(*curves[run.key], strict=True), color=colour_of(model), linewidth=0.6, alpha=0.45
                )
                tip(line, label_of(model), f"tested on {run.fold}", f"seed {run.seed}", f"record {run.key}")
            for epoch, value in curves[run.key]:
                by_epoch.setdefault(epoch, []).append(value)
        if not by_epoch:
            continue
        epochs = sorted(by_epoch)
        means = [fmean(by_epoch[epoch]) for epoch in epochs]
        marker = "." if len(epochs) == 1 else None
        (line,) = axes.plot(
            epochs, means, color=colour_of(model), linestyle=dashes_of(model), linewidth=1.8, marker=marker
        )
        tip(line, label_of(model), f"mean of {len(curves)} runs", f"last epoch {means[-1]:.3f}", *curves)
    axes.set(xlabel="epoch", ylabel="training loss" if quantity == LOSS else SCORES[quantity], ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    return axes


def _points(run: TrainedRun, quantity: str) -> list[tuple[int, float]]:
    """Epoch and value, without epochs whose value is absent or was not a number."""
    return [(epoch["epoch"], epoch[quantity]) for epoch in run.history if epoch.get(quantity) is not None]
