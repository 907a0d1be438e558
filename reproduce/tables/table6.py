"""Table 6 and the numbers of Figure 2: how the test clips of VGGSound cluster. From records alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.experiments.families import LABELS
from reproduce.metrics.bootstrap import mean_and_sd
from reproduce.paper import MODELS
from reproduce.records.clusterings import (
    CLUSTERING_SEEDS,
    DATASET,
    FIGURE_SEED,
    KMEANS_N_INIT,
    PRIMARY,
    PROTOCOLS,
    WITH_KMEANS,
    clusterings_of,
    figure_classes,
    figure_runs,
    has_predictions,
    projection_of,
    runs_to_cluster,
    umap_params,
)
from reproduce.records.runs import ClusteringRun, TrainedRun
from reproduce.tables.base import Cell, Column, Row, Table, TableInputs, measured, not_run, register_table
from reproduce.tables.blocks import standin_notes
from reproduce.tables.conditions import run_conditions
from reproduce.tables.score_cells import score_cell
from reproduce.tables.target import Target

Runs = Mapping[str, Sequence[TrainedRun]]  # model -> its runs, by training seed

TOP1 = Column("top1", "Top-1 of the same runs", "%", 1)
SILHOUETTES = (
    Column("silhouette", "Silhouette, UMAP's plane", "", 3),
    Column("silhouette_features", "Silhouette, features", "", 3),
)
ALTERNATES = tuple(protocol for protocol in PROTOCOLS if protocol != PRIMARY)
FEATURES_NOTE = (
    'Features: the input of the final linear layer (AST: mean of both prefix tokens; MAST: mean over tokens). "Second '
    'last layer" may also mean the output of the second-last block, which is not measured here.'
)
# P1 on points spread evenly over a disc: the same for the paper's 12,790 clips and 309 clusters as for a tenth of both.
STRUCTURELESS_SILHOUETTE = 0.34
SILHOUETTE_NOTE = (
    f"A silhouette near {STRUCTURELESS_SILHOUETTE} means no structure under {PRIMARY}: KMeans gives as much for points "
    "spread evenly over a disc, with many clips per cluster. Only ARI and homogeneity use the labels; homogeneity is "
    "not corrected for chance, and is well above 0 for any clusters of few clips."
)
ACCURACY_NOTE = (
    "The paper does not report the accuracy of the AST it compares with; the last column has the accuracy of our runs."
)


@register_table("table6", "VGGSound: how well the embeddings of both models cluster, from stored runs")
def table6(inputs: TableInputs) -> Table:
    """Table 6: P1 beside the paper's numbers; the other readings, and demo scale, in blocks of their own."""
    printed = inputs.paper.table("table6")
    columns = tuple(Column(c.key, c.title.partition(" [")[0], c.unit, c.decimals) for c in printed.columns)
    runs = runs_to_cluster(inputs.records, "paper")
    rows = []
    for line in printed.rows:
        model = str(line.measured_as)
        clustered = Clustered(inputs=inputs, model=model, runs=runs[model], protocol=PRIMARY)
        cells = {column.key: clustered.cell(column, line.cells[column.key]) for column in columns}
        rows.append(Row(line.key, line.label, {**cells, TOP1.key: _top1(inputs, model, runs[model])}))
    notes = (_p1_note(), SILHOUETTE_NOTE, FEATURES_NOTE, ACCURACY_NOTE, *_coverage_notes(runs))
    blocks = []
    if any(clusterings_of(inputs.records, run, p) for group in runs.values() for run in group for p in ALTERNATES):
        title = "Paper scale, VGGSound: the other readings of Table 6, for which the paper has no number"
        empty = Table("table6 alternates", title, (*columns, TOP1))
        blocks.append(_protocols_block(inputs, empty, runs, ALTERNATES))
    demo = {model: group for model, group in runs_to_cluster(inputs.records, "demo").items() if group}
    if demo:
        empty = Table("table6 demo", demo_title(demo), (*columns, TOP1))
        blocks.append(_protocols_block(inputs, empty, demo, tuple(PROTOCOLS)))
    return Table("table6", printed.title, (*columns, TOP1), tuple(rows), notes=notes, blocks=tuple(blocks))


def _protocols_block(inputs: TableInputs, empty: Table, runs: Runs, protocols: Sequence[str]) -> Table:
    """The table `empty` with a row per protocol and model, without a number of the paper."""
    rows = []
    for protocol in protocols:
        shown = [c for c in empty.columns[:-1] if protocol in WITH_KMEANS or c.key == "silhouette"]
        for model, group in runs.items():
            clustered = Clustered(inputs=inputs, model=model, runs=group, protocol=protocol)
            cells = {column.key: clustered.cell(column) for column in shown}
            cells[TOP1.key] = _top1(inputs, model, group)
            rows.append(Row(f"{model} {protocol}", f"{protocol}, {_name(model, group)}", cells))
    behind = tuple(run for group in runs.values() for run in group)
    notes = [*standin_notes(behind), *(f"{protocol}: {PROTOCOLS[protocol]}." for protocol in protocols)]
    notes += [*_coverage_notes(runs), *_absence_notes(runs)]
    return replace(empty, rows=tuple(rows), notes=tuple(notes), runs=behind)


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """The clusterings of one model's runs by one protocol.

    Args:
        inputs: of the table.
        model: "ast" or "mast".
        runs: trained runs, by seed.
        protocol: reading of Table 6.
    """

    inputs: TableInputs
    model: str
    runs: Sequence[TrainedRun]
    protocol: str

    def cell(self, column: Column, paper: float | None = None) -> Cell:
        """Mean of one metric over clustering seeds, and over training runs where there are several.

        The sd is that over clustering seeds, pooled over runs: the spread of UMAP and KMeans, not of training.
        """
        by_run = {run.key: clusterings_of(self.inputs.records, run, self.protocol) for run in self.runs}
        clustered = [run for run in self.runs if by_run[run.key]]
        if not clustered:
            return not_run(column.unit, _why_not(self.inputs, self.model, self.runs), paper)
        values = [[clustering.metrics[column.key] for clustering in by_run[run.key]] for run in clustered]
        if any(math.isnan(value) for group in values for value in group):
            return not_run(column.unit, f"not run: {column.title} of {self.model} was not a number", paper)
        spreads = [mean_and_sd(group) for group in values]
        deviations = [sd for _, sd in spreads if sd is not None]
        first = by_run[clustered[0].key][0]
        over_runs = mean_and_sd([mean for mean, _ in spreads])[1]
        trained = "" if over_runs is None else f", sd over {len(spreads)} training runs {over_runs:.{column.decimals}f}"
        versions = first.environment.libraries
        return Cell(
            paper=paper,
            measured=statistics.fmean(mean for mean, _ in spreads),
            unit=column.unit,
            conditions=f"{run_conditions(*clustered)}; {self.protocol}, k = {first.metric('clusters'):.0f}, umap-learn "
            f"{versions['umap-learn']}, scikit-learn {versions['scikit-learn']}{trained}",
            n=int(first.metric("clips")),
            seeds=tuple(sorted({clustering.seed for run in clustered for clustering in by_run[run.key]})),
            sd=math.sqrt(statistics.fmean(sd**2 for sd in deviations)) if deviations else None,
        )


def _top1(inputs: TableInputs, model: str, runs: Sequence[TrainedRun]) -> Cell:
    return score_cell(inputs.scores, runs, TOP1, "top1", why="" if runs else _why_not(inputs, model, runs))


def _why_not(inputs: TableInputs, model: str, runs: Sequence[TrainedRun], target: str = "table6") -> str:
    """Why nothing is clustered, and the command that does it."""
    if not runs:
        missing = Target(name=target, dataset=DATASET, columns={}, inputs=inputs)
        return missing.not_run(model, variant="", recipe_name="mast")
    absent = [run for run in runs if not has_predictions(run, inputs.records_dir)]
    if absent:
        file = inputs.records_dir / (absent[0].predictions or "predictions")
        return f"not run: {file}, the embeddings of run {absent[0].key}, is absent: train it with --run all"
    remedy = f"`python -m reproduce {target}` clusters it or names the obstacle"
    return f"not run: run {runs[0].key} is not clustered: {remedy}"


def _coverage_notes(runs: Runs) -> list[str]:
    """A warning where the two models cannot be compared."""
    tested = {group[0].test_sha256 for group in runs.values() if group}
    return ["Warning: the two models were tested on different clips."] if len(tested) > 1 else []


def _absence_notes(runs: Mapping[str, object]) -> list[str]:
    """The models that a demo block has no row of."""
    return [f"Not run at demo scale: {LABELS[model]}." for model in MODELS if model not in runs]


def _name(model: str, runs: Sequence[TrainedRun]) -> str:
    return runs[0].model if runs else model


def _p1_note() -> str:
    return (
        "The paper states neither the clustering algorithm, nor k, the space, or the labels behind the silhouette. "
        f"{PRIMARY} is what its numbers point to: UMAP of all test clips ({_umap_text()}), KMeans there with k = the "
        f"classes among them ({KMEANS_N_INIT} starts), silhouette of the clusters in that plane; mean and sd over "
        f"{len(CLUSTERING_SEEDS)} seeds of UMAP and KMeans."
    )


def _umap_text() -> str:
    params = umap_params()
    return f"{params['n_neighbors']} neighbours, minimal distance {params['min_dist']}"


def demo_title(runs: Runs) -> str:
    """The title of a block of demo runs: what they were tested on."""
    run = next(group[0] for group in runs.values() if group)
    corpus = "synthetic STAND-IN of VGGSound" if run.standin else "VGGSound"
    classes = len(run.classes[DEFAULT_HEAD])
    return f"Demo scale, {corpus}, {classes} classes, {run.test_kept} test clips: not the paper's experiment"


@register_table("figure2", "VGGSound: the first classes' embeddings in UMAP's plane, AST left, MAST right")
def figure2(inputs: TableInputs) -> Table:
    """The numbers under the panels of Figure 2, and the files of their coordinates. The paper prints none of them."""
    columns = (Column("clips", "Clips", "", 0), Column("classes", "Classes", "", 0), *SILHOUETTES, TOP1)
    notes = (
        f"UMAP of the test clips of the first {figure_classes()} classes by sorted label ({_umap_text()}, seed "
        f"{FIGURE_SEED}). Silhouettes are those of the true labels: the plane raises those of "
        "separate classes and lowers those of mixed classes, so the silhouette of the features is shown too.",
        FEATURES_NOTE,
        'The paper circles classes by eye ("more separable"), and prints no number for the figure.',
    )
    paper = {model: [run] for model, run in figure_runs(inputs.records, "paper").items()}
    demo = {model: [run] for model, run in figure_runs(inputs.records, "demo").items()}
    rows, files = _panel_rows(inputs, {model: paper.get(model, []) for model in MODELS})
    blocks = []
    if demo:
        demo_rows, demo_files = _panel_rows(inputs, demo)
        runs = [run for group in demo.values() for run in group]
        demo_notes = (*standin_notes(runs), *demo_files, *_absence_notes(demo))
        blocks.append(Table("figure2 demo", demo_title(demo), columns, tuple(demo_rows), notes=demo_notes))
    title = "Figure 2: VGGSound test embeddings in UMAP's plane"
    return Table("figure2", title, columns, tuple(rows), notes=(*notes, *files), blocks=tuple(blocks))


def _panel_rows(inputs: TableInputs, runs: Runs) -> tuple[list[Row], list[str]]:
    """A row per model, and a note per file of coordinates."""
    rows, files = [], []
    for model, group in runs.items():
        projection = projection_of(inputs.records, group[0]) if group else None
        if projection is None:
            why = _why_not(inputs, model, group, "figure2")
            cells = {column.key: not_run(column.unit, why) for column in SILHOUETTES}
        else:
            cells = _panel_cells(projection, run_conditions(*group))
            files.append(f"Coordinates of {_name(model, group)}: {inputs.records_dir / str(projection.coordinates)}.")
        rows.append(Row(model, _name(model, group), {**cells, TOP1.key: _top1(inputs, model, group)}))
    return rows, files


def _panel_cells(projection: ClusteringRun, where: str) -> dict[str, Cell]:
    clips = int(projection.metric("clips"))
    cells = {key: measured(projection.metric(key), "", where) for key in ("clips", "classes")}
    for column in SILHOUETTES:
        value = projection.metrics[column.key]
        missing = not_run(column.unit, f"not run: {column.title} was not a number")
        cell = missing if math.isnan(value) else measured(value, column.unit, where)
        cells[column.key] = replace(cell, n=clips)
    return cells
