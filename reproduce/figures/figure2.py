"""Figure 2: test clips of a data set's first classes in UMAP's plane, AST left, MAST right, drawn from stored panels.

    write_figure2(load_records(records_dir), records_dir, out_dir)  # figure2.png, .svg, .csv
    figure = draw_figure2(load_records(records_dir), records_dir, "demo")

No UMAP and no torch here: `evaluation.clustering.fill_projections` measures what is drawn.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.experiments.families import LABELS
from reproduce.figures.style import figure_style, save_figure
from reproduce.files import write_text
from reproduce.paper import MODELS
from reproduce.records.clusterings import (
    DATASET,
    FIGURE,
    FIGURES,
    INPUT,
    READINGS,
    figure_runs,
    projection_of,
    tested_on,
    umap_params,
)
from reproduce.records.projections import Projection, load_projection
from reproduce.records.records import Records
from reproduce.records.runs import ClusteringRun, TrainedRun

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


# Thirty distinct classes: Okabe & Ito's eight colours (their yellow darkened, for white paper) times four shapes.
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#A89A00")
CLASS_MARKERS = ("o", "^", "s", "X")
LEGEND_COLUMNS = 5
FEW_CLIPS_PER_CLASS = 6  # below this many on average, every clip is marked with the number of its class


@dataclass(frozen=True)
class Half:
    """One half of Figure 2.

    Args:
        run: the trained run.
        measured: its projection's measurements.
        projection: its clips in the plane.
    """

    run: TrainedRun
    measured: ClusteringRun
    projection: Projection


def write_figure2(records: Records, records_dir: Path, out_dir: Path) -> list[Path]:
    """Figure 2 as PNG, SVG and CSV of its coordinates, from stored panels.

    `figure2.*` is at the paper's scale, `figure2_demo.*` at the demo's, `figure2_real.*` of real recordings;
    `figure2_second_last_block.*` and the like have the other reading of the features. Each is written only where both
    models have a panel, so the list of what was written may be empty. The same records give the same bytes.

    Raises:
        InputError: damaged coordinates, or files that cannot be written.
    """
    written = []
    for which, reading in product(FIGURES, READINGS):
        halves = _stored_halves(records, records_dir, which, reading)
        if len(halves) == len(MODELS):
            name = FIGURE if which == "paper" else f"{FIGURE}_{which}"
            name += "" if reading == INPUT else "_second_last_block"
            shown = [run for half in halves.values() for run in (half.run, half.measured)]
            written += save_figure(lambda halves=halves: _draw(halves), out_dir, name, shown)  # type: ignore[misc]
            written.append(_write_coordinates(out_dir / f"{name}.csv", halves))
    return written


def draw_figure2(records: Records, records_dir: Path, which: str) -> Figure | None:
    """One of FIGURES, from stored panels; None where a model has no panel.

    Raises:
        InputError: damaged coordinates.
    """
    halves = _stored_halves(records, records_dir, which)
    return _draw(halves) if len(halves) == len(MODELS) else None


def _stored_halves(records: Records, records_dir: Path, which: str, reading: str = INPUT) -> dict[str, Half]:
    """Model -> what is drawn of it, where it is stored."""
    halves = {}
    for model, run in figure_runs(records, which).items():
        measured = projection_of(records, run, reading)
        projection = None if measured is None else load_projection(records_dir, measured)
        if measured is not None and projection is not None:
            halves[model] = Half(run, measured, projection)
    return halves


def plot_projection(axes: Axes, projection: Projection, names: Sequence[str]) -> Axes:
    """Clips of one model in UMAP's plane, by class.

    The number of a class is at its central clip, the one nearest to the others; in a small panel beside every clip.

    Args:
        axes: drawn into and returned.
        projection: the clips.
        names: classes in the legend's order, those without a clip in this panel included: it fixes colour and shape.
    """
    from matplotlib.patheffects import withStroke

    few = len(projection) < FEW_CLIPS_PER_CLASS * len(names)
    size = float(np.clip(20_000 / max(len(projection), 1), 13, 45))  # in square points: a few clips take larger marks
    for index, name in enumerate(names):
        points = projection.points[projection.names == name]
        axes.scatter(points[:, 0], points[:, 1], s=size, alpha=0.75, linewidths=0, **class_style(index))
        if few:
            for point in points:
                axes.annotate(str(index + 1), point, (4, 3), textcoords="offset points", fontsize=7, color="0.3")
        elif len(points):
            x, y = points[np.linalg.norm(points[:, None] - points, axis=2).sum(axis=1).argmin()]
            text = axes.text(x, y, str(index + 1), fontsize=8, fontweight="bold", ha="center", va="center")
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set(xticks=[], yticks=[])  # UMAP's axes have neither unit nor direction
    axes.margins(0.04)
    return axes


def class_style(index: int) -> dict[str, Any]:
    """Colour and marker of the class at this index of the legend; neighbours differ in colour."""
    shape = index // len(CLASS_COLOURS) % len(CLASS_MARKERS)
    return {"color": CLASS_COLOURS[index % len(CLASS_COLOURS)], "marker": CLASS_MARKERS[shape]}


def _draw(halves: Mapping[str, Half]) -> Figure:
    from matplotlib.figure import Figure

    classes = sorted({str(name) for half in halves.values() for name in half.projection.names})
    with figure_style(**{"axes.spines.top": True}):
        figure = Figure(figsize=(11, 7.2), layout="constrained")
        for axes, (model, half) in zip(figure.subplots(1, len(halves)), halves.items(), strict=True):
            plot_projection(axes, half.projection, classes)
            axes.set_title(f"{LABELS[model]} ({half.run.model})", fontweight="bold")
            axes.set_xlabel(_under_the_projection(half), linespacing=1.5)
        figure.suptitle(_title(halves["ast"], len(classes)), fontsize=11)
        figure.legend(
            handles=[_legend_handle(index, name) for index, name in enumerate(classes)],
            loc="outside lower center",
            ncols=LEGEND_COLUMNS,
            fontsize=8,
            handletextpad=0.2,
        )
    return figure


def _legend_handle(index: int, name: str) -> Line2D:
    from matplotlib.lines import Line2D

    style = class_style(index)
    return Line2D([], [], linestyle="", markersize=6, markeredgewidth=0, label=f"{index + 1} {name}", **style)


def _under_the_projection(half: Half) -> str:
    metrics = half.measured.metrics
    return (
        f"{metrics['clips']:,.0f} clips; silhouette of the true classes {_text(metrics['silhouette'], 3)} in this "
        f"plane,\n"
        f"{_text(metrics['silhouette_features'], 3)} in the features; top-1 of the run "
        f"{_text(half.run.metrics['top1'], 1)} %"
    )


def _text(value: float, decimals: int) -> str:
    return "not a number" if math.isnan(value) else f"{value:.{decimals}f}"


def _title(half: Half, classes: int) -> str:
    params = umap_params()
    scale = "DEMO SCALE, not the paper's experiment: " if half.run.scale == "demo" else ""
    if not scale and half.run.dataset != DATASET:
        scale = "Not the paper's experiment: "
    return (
        f"{scale}{tested_on(half.run)}, test clips of the first {classes} of "
        f"{len(half.run.classes[DEFAULT_HEAD])} classes\n"
        f"UMAP: {params['n_neighbors']} neighbours, minimal distance {params['min_dist']}, seed {half.measured.seed}"
    )


def _write_coordinates(path: Path, halves: Mapping[str, Half]) -> Path:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("model", "clip_id", "class", "x", "y"))
    for half in halves.values():
        projection = half.projection
        for clip_id, name, (x, y) in zip(projection.clip_ids, projection.names, projection.points, strict=True):
            writer.writerow((half.run.model, clip_id, name, f"{x:.5f}", f"{y:.5f}"))
    write_text(path, out.getvalue(), "cannot be written", "choose another folder")
    return path
