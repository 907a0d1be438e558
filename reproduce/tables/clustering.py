"""Table 6 and the numbers of Figure 2: how the test clips of VGGSound cluster. From records alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.experiments.families import LABELS, PAPER_MODELS
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
from reproduce.tables.base import (
    MEASURED,
    NOT_RUN,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    register_table,
    run_conditions,
)
from reproduce.tables.blocks import Target
from reproduce.tables.scores import RunScores

TOP1 = Column("top1", "Top-1 of the same runs", "%", 1)
SILHOUETTES = (
    Column("silhouette", "Silhouette, UMAP's plane", "", 3),
    Column("silhouette_features", "Silhouette, features", "", 3),
)
ALTERNATES = tuple(protocol for protocol in PROTOCOLS if protocol != PRIMARY)
FEATURES_NOTE = (
    'Features: the input of the final linear layer (AST: mean of both prefix tokens; MAST: mean over tokens). "Second '
    'last layer" may also mean the output of the second-last block, which is not looked at here.'
)
# P1 on points spread evenly over a disc: the same for the paper's 12,790 clips and 309 clusters as for a tenth of both.
STRUCTURELESS_SILHOUETTE = 0.34
SILHOUETTE_NOTE = (
    f"A silhouette near {STRUCTURELESS_SILHOUETTE} is nothing under {PRIMARY}: so much does KMeans find in points "
    "spread evenly over a disc, with many clips a cluster. Only ARI and homogeneity know the labels; homogeneity "
    "is not corrected for chance, and lies well above 0 for any clusters of few clips."
)
ACCURACY_NOTE = "The paper does not report the accuracy of the AST it compares with: that of our runs stands beside."


@register_table("table6", "VGGSound: how well the embeddings of both models cluster, from stored runs")
def table6(inputs: TableInputs) -> Table:
    """Table 6: P1 beside the paper's numbers; the other readings, and demo scale, in blocks of their own."""
    quoted = inputs.paper.table("table6")
    columns = tuple(Column(c.key, c.title.partition(" [")[0], c.unit, c.decimals) for c in quoted.columns)
    scores = RunScores(inputs.records_dir)
    runs = runs_to_cluster(inputs.records, "paper")
    rows = []
    for line in quoted.rows:
        model = str(line.measured_as)
        cells = {c.key: _score(inputs, model, runs[model], PRIMARY, c, line.cells[c.key]) for c in columns}
        rows.append(Row(line.key, line.label, {**cells, TOP1.key: _top1(inputs, scores, model, runs[model])}))
    notes = (_p1_note(), SILHOUETTE_NOTE, FEATURES_NOTE, ACCURACY_NOTE, *_coverage_notes(runs))
    blocks = []
    if any(clusterings_of(inputs.records, run, p) for found in runs.values() for run in found for p in ALTERNATES):
        title = "Paper scale, VGGSound: the other readings of Table 6, for which the paper has no number"
        blocks.append(_protocols_block(inputs, "table6 alternates", title, columns, runs, ALTERNATES))
    demo = {model: found for model, found in runs_to_cluster(inputs.records, "demo").items() if found}
    if demo:
        blocks.append(_protocols_block(inputs, "table6 demo", demo_title(demo), columns, demo, tuple(PROTOCOLS)))
    return Table("table6", quoted.title, (*columns, TOP1), tuple(rows), notes=notes, blocks=tuple(blocks))


def _protocols_block(
    inputs: TableInputs,
    name: str,
    title: str,
    columns: Sequence[Column],
    runs: Mapping[str, Sequence[TrainedRun]],
    protocols: Sequence[str],
) -> Table:
    """A row per protocol and model, without a number of the paper."""
    scores = RunScores(inputs.records_dir)
    rows = []
    for protocol in protocols:
        shown = [c for c in columns if protocol in WITH_KMEANS or c.key == "silhouette"]
        for model, found in runs.items():
            cells = {c.key: _score(inputs, model, found, protocol, c) for c in shown}
            cells[TOP1.key] = _top1(inputs, scores, model, found)
            rows.append(Row(f"{model} {protocol}", f"{protocol}, {_name(model, found)}", cells))
    notes = [f"{protocol}: {PROTOCOLS[protocol]}." for protocol in protocols]
    return Table(
        name, title, (*columns, TOP1), tuple(rows), notes=(*notes, *_coverage_notes(runs), *_absence_notes(runs))
    )


def _score(
    inputs: TableInputs,
    model: str,
    runs: Sequence[TrainedRun],
    protocol: str,
    column: Column,
    paper: float | None = None,
) -> Cell:
    """Mean of one metric over clustering seeds, and over training runs where there are several.

    The sd is that over clustering seeds, of the runs pooled: what UMAP and KMeans add, not what training does.
    """
    per_run = [clusterings_of(inputs.records, run, protocol) for run in runs]
    clustered = [records for records in per_run if records]
    if not clustered:
        return Cell(paper, None, column.unit, NOT_RUN, _why_not(inputs, model, runs))
    values = [[record.metrics[column.key] for record in records] for records in clustered]
    if any(math.isnan(value) for found in values for value in found):
        return Cell(paper, None, column.unit, NOT_RUN, f"not run: {column.title} of {model} was not a number")
    spreads = [mean_and_sd(found) for found in values]
    deviations = [sd for _, sd in spreads if sd is not None]
    first = clustered[0][0]
    clustered_runs = [run for run, records in zip(runs, per_run, strict=True) if records]
    over_runs = mean_and_sd([mean for mean, _ in spreads])[1]
    trained = "" if over_runs is None else f", sd over {len(spreads)} training runs {over_runs:.{column.decimals}f}"
    versions = first.environment.libraries
    return Cell(
        paper,
        statistics.fmean(mean for mean, _ in spreads),
        column.unit,
        MEASURED,
        f"{run_conditions(*clustered_runs)}; {protocol}, k = {first.metrics['clusters']:.0f}, umap-learn "
        f"{versions['umap-learn']}, scikit-learn {versions['scikit-learn']}{trained}",
        n=int(first.metric("clips")),
        seeds=tuple(sorted({record.seed for records in clustered for record in records})),
        sd=math.sqrt(statistics.fmean(sd**2 for sd in deviations)) if deviations else None,
    )


def _top1(inputs: TableInputs, scores: RunScores, model: str, runs: Sequence[TrainedRun]) -> Cell:
    if not runs:
        return Cell(None, None, TOP1.unit, NOT_RUN, _why_not(inputs, model, runs))
    return scores.cell(runs, TOP1, "top1")


def _why_not(inputs: TableInputs, model: str, runs: Sequence[TrainedRun], target: str = "table6") -> str:
    """Why nothing is clustered, and the command that does it."""
    if not runs:
        return Target(target, DATASET, {}).not_run(inputs, PAPER_MODELS[model], variant="", recipe_name="mast")
    absent = [run for run in runs if not has_predictions(run, inputs.records_dir)]
    if absent:
        file = inputs.records_dir / (absent[0].predictions or "predictions")
        return f"not run: {file}, the embeddings of run {absent[0].key}, is not there: train it with --run all"
    return f"not run: run {runs[0].key} is not clustered: `python -m reproduce {target}` does it, or says why it cannot"


def _coverage_notes(runs: Mapping[str, Sequence[TrainedRun]]) -> list[str]:
    """What keeps both models from standing side by side."""
    tested = {found[0].test_sha256 for found in runs.values() if found}
    return ["Warning: the two models were tested on different clips."] if len(tested) > 1 else []


def _absence_notes(runs: Mapping[str, object]) -> list[str]:
    """Of a demo block, which has rows for what was run alone."""
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


def demo_title(runs: Mapping[str, Sequence[TrainedRun]]) -> str:
    """Of a block of demo runs: what they were tested on."""
    run = next(found[0] for found in runs.values() if found)
    corpus = "synthetic STAND-IN of VGGSound" if run.standin else "VGGSound"
    classes = len(run.classes[DEFAULT_HEAD])
    return f"Demo scale, {corpus}, {classes} classes, {run.test_kept} test clips: not the paper's experiment"


@register_table("figure2", "VGGSound: the first classes' embeddings in UMAP's plane, AST left, MAST right")
def figure2(inputs: TableInputs) -> Table:
    """The numbers under the panels of Figure 2, and where the coordinates lie. The paper prints none of them."""
    columns = (Column("clips", "Clips", "", 0), Column("classes", "Classes", "", 0), *SILHOUETTES, TOP1)
    notes = (
        f"UMAP of the test clips of the first {figure_classes()} classes by sorted label ({_umap_text()}, seed "
        f"{FIGURE_SEED}). Silhouettes are those of the true labels: the plane lifts those of classes "
        "that lie apart and lowers those of classes that mix, so that of the features stands beside it.",
        FEATURES_NOTE,
        'The paper circles classes by eye ("more separable"), and prints no number for the figure.',
    )
    paper = {model: [run] for model, run in figure_runs(inputs.records, "paper").items()}
    demo = {model: [run] for model, run in figure_runs(inputs.records, "demo").items()}
    rows, files = _panel_rows(inputs, {model: paper.get(model, []) for model in MODELS})
    blocks = []
    if demo:
        demo_rows, demo_files = _panel_rows(inputs, demo)
        demo_notes = (*demo_files, *_absence_notes(demo))
        blocks.append(Table("figure2 demo", demo_title(demo), columns, tuple(demo_rows), notes=demo_notes))
    title = "Figure 2: VGGSound test embeddings in UMAP's plane"
    return Table("figure2", title, columns, tuple(rows), notes=(*notes, *files), blocks=tuple(blocks))


def _panel_rows(inputs: TableInputs, runs: Mapping[str, Sequence[TrainedRun]]) -> tuple[list[Row], list[str]]:
    """A row per model, and a note per file of coordinates."""
    scores = RunScores(inputs.records_dir)
    rows, files = [], []
    for model, found in runs.items():
        projection = projection_of(inputs.records, found[0]) if found else None
        if projection is None:
            why = _why_not(inputs, model, found, "figure2")
            cells = {column.key: Cell(None, None, column.unit, NOT_RUN, why) for column in SILHOUETTES}
        else:
            cells = _panel_cells(projection, run_conditions(*found))
            files.append(f"Coordinates of {_name(model, found)}: {inputs.records_dir / str(projection.coordinates)}.")
        rows.append(Row(model, _name(model, found), {**cells, TOP1.key: _top1(inputs, scores, model, found)}))
    return rows, files


def _panel_cells(projection: ClusteringRun, where: str) -> dict[str, Cell]:
    clips = int(projection.metric("clips"))
    cells = {key: Cell(None, projection.metric(key), "", MEASURED, where) for key in ("clips", "classes")}
    for column in SILHOUETTES:
        value = projection.metrics[column.key]
        missing = math.isnan(value)
        status = NOT_RUN if missing else MEASURED
        conditions = f"not run: {column.title} was not a number" if missing else where
        cells[column.key] = Cell(None, None if missing else value, column.unit, status, conditions, n=clips)
    return cells
