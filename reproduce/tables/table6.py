"""Table 6: how the test clips of VGGSound cluster. From records alone."""

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
    BLOCK,
    CLUSTERING_SEEDS,
    DATASET,
    INPUT,
    KMEANS_N_INIT,
    PRIMARY,
    PROBE_C,
    PROBE_FOLDS,
    PROBE_NEIGHBOURS,
    PROTOCOLS,
    READINGS,
    WITH_KMEANS,
    clusterings_of,
    has_predictions,
    probe_of,
    runs_to_cluster,
    tested_on,
    umap_params,
)
from reproduce.records.runs import ClusteringRun, TrainedRun
from reproduce.tables.base import Cell, Column, Row, Table, TableInputs, not_run, register_table
from reproduce.tables.blocks import present
from reproduce.tables.conditions import run_conditions
from reproduce.tables.notes import standin_notes
from reproduce.tables.score_cells import score_cell
from reproduce.tables.target import Target

Runs = Mapping[str, Sequence[TrainedRun]]  # model -> its runs, by training seed

TOP1 = Column("top1", "Top-1 of the same runs", "%", 1)
ALTERNATES = tuple(protocol for protocol in PROTOCOLS if protocol != PRIMARY)
FEATURES_NOTE = (
    f'Features: {READINGS[INPUT]}. The paper\'s "second last layer" may also mean {READINGS[BLOCK]}: in a block of '
    "its own where the runs stored it."
)
PROBE_COLUMNS = (Column("knn", "kNN", "%", 1), Column("linear", "Linear probe", "%", 1))
PROBE_NOTE = (
    f"Accuracies on the test clips themselves by cross-validation in {PROBE_FOLDS} folds, stratified by class: each "
    "clip is classified once, from the clips of the other folds; clips of one recording are in one fold. kNN: "
    f"{PROBE_NEIGHBOURS} neighbours by cosine. There are no more folds and neighbours than the commonest class has "
    f"clips. Linear probe: multinomial logistic regression on standardised features, C = {PROBE_C:g}. Both by "
    "scikit-learn. They measure the features, not the model's own classifier, whose top-1 is beside them."
)
# P1 on points spread evenly over a disc: the same for the paper's 12,790 clips and 309 clusters as for a tenth of both.
STRUCTURELESS_SILHOUETTE = 0.34
SILHOUETTE_NOTE = (
    f"A silhouette near {STRUCTURELESS_SILHOUETTE} shows no structure under {PRIMARY}: KMeans gives as much for points "
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
        rows.append(Row(line.key, line.label, {**cells, TOP1.key: top1(inputs, model, runs[model])}))
    notes = (_p1_note(), SILHOUETTE_NOTE, FEATURES_NOTE, ACCURACY_NOTE, *_ast_note(runs["ast"]), *_coverage_notes(runs))
    title = "Paper scale, VGGSound: the other protocols of Table 6, for which the paper has no number"
    blocks = [
        _protocols_block(inputs, Table("table6 alternates", title, (*columns, TOP1)), runs, ALTERNATES),
        *_further_blocks(inputs, "table6", "Paper scale, VGGSound", columns, runs),
    ]
    demo = {model: group for model, group in runs_to_cluster(inputs.records, "demo").items() if group}
    if demo:
        title = demo_title(demo)
        empty = Table("table6 demo", title, (*columns, TOP1))
        blocks.append(_protocols_block(inputs, empty, demo, tuple(PROTOCOLS), even_empty=True))
        blocks += _further_blocks(inputs, "table6 demo", title, columns, demo)
    shown = (*columns, TOP1)
    return Table("table6", printed.title, shown, tuple(rows), notes=notes, blocks=present(*blocks))


def _further_blocks(
    inputs: TableInputs, name: str, title: str, columns: Sequence[Column], runs: Runs
) -> tuple[Table | None, Table | None]:
    """The clusterings by the second reading of the features, and both probes; None where nothing is measured."""
    empty = Table(f"{name} second-last block", f"{title}: features of the second-last block", (*columns, TOP1))
    return (
        _protocols_block(inputs, empty, runs, tuple(PROTOCOLS), BLOCK),
        _probes_block(inputs, Table(f"{name} probes", f"{title}: kNN and linear probe", (*PROBE_COLUMNS, TOP1)), runs),
    )


def _probes_block(inputs: TableInputs, empty: Table, runs: Runs) -> Table | None:
    """A row per reading and model; None where no run has a probe."""
    rows = []
    for reading in READINGS:
        for model, group in runs.items():
            probes = [probe for run in group if (probe := probe_of(inputs.records, run, reading)) is not None]
            if probes:
                cells = {column.key: _probe_cell(probes, column, group) for column in PROBE_COLUMNS}
                cells[TOP1.key] = top1(inputs, model, group)
                rows.append(Row(f"{model} {reading}", f"{model_name(model, group)}, {reading}", cells))
    behind = tuple(run for group in runs.values() for run in group)
    notes = [*(standin_notes(behind) if behind else ()), PROBE_NOTE, *_coverage_notes(runs)]
    return replace(empty, rows=tuple(rows), notes=tuple(notes), runs=behind) if rows else None


def _probe_cell(probes: Sequence[ClusteringRun], column: Column, runs: Sequence[TrainedRun]) -> Cell:
    """Mean and sd over training runs."""
    mean, sd = mean_and_sd([probe.metric(column.key) for probe in probes])
    version = probes[0].environment.libraries["scikit-learn"]
    return Cell(
        measured=mean,
        unit=column.unit,
        conditions=f"{run_conditions(*runs)}; {probes[0].metric('folds'):.0f} folds of the test clips, scikit-learn "
        f"{version}",
        n=int(probes[0].metric("clips")),
        sd=sd,
    )


def _protocols_block(
    inputs: TableInputs,
    empty: Table,
    runs: Runs,
    protocols: Sequence[str],
    reading: str = INPUT,
    even_empty: bool = False,
) -> Table | None:
    """The table `empty` with a row per protocol and model, without a number of the paper; None if none is measured."""
    trained = [run for group in runs.values() for run in group]
    if not even_empty and not any(
        clusterings_of(inputs.records, run, p, reading) for run in trained for p in protocols
    ):
        return None
    rows = []
    for protocol in protocols:
        shown = [c for c in empty.columns[:-1] if protocol in WITH_KMEANS or c.key == "silhouette"]
        for model, group in runs.items():
            clustered = Clustered(inputs=inputs, model=model, runs=group, protocol=protocol, reading=reading)
            cells = {column.key: clustered.cell(column) for column in shown}
            cells[TOP1.key] = top1(inputs, model, group)
            rows.append(Row(f"{model} {protocol}", f"{protocol}, {model_name(model, group)}", cells))
    behind = tuple(trained)
    features = [] if reading == INPUT else [f"Features: {READINGS[reading]}."]
    notes = [*standin_notes(behind), *features, *(f"{protocol}: {PROTOCOLS[protocol]}." for protocol in protocols)]
    notes += [*_coverage_notes(runs), *absence_notes(runs)]
    return replace(empty, rows=tuple(rows), notes=tuple(notes), runs=behind)


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """The clusterings of one model's runs by one protocol.

    Args:
        inputs: of the table.
        model: "ast" or "mast".
        runs: trained runs, by seed.
        protocol: of Table 6.
        reading: of the features.
    """

    inputs: TableInputs
    model: str
    runs: Sequence[TrainedRun]
    protocol: str
    reading: str = INPUT

    def cell(self, column: Column, paper: float | None = None) -> Cell:
        """Mean of one metric over clustering seeds, and over training runs where there are several.

        The sd is that over clustering seeds, pooled over runs: the spread of UMAP and KMeans, not of training.
        """
        by_run = {run.key: clusterings_of(self.inputs.records, run, self.protocol, self.reading) for run in self.runs}
        clustered = [run for run in self.runs if by_run[run.key]]
        if not clustered:
            return not_run(column.unit, why_not(self.inputs, self.model, self.runs), paper)
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


def top1(inputs: TableInputs, model: str, runs: Sequence[TrainedRun]) -> Cell:
    return score_cell(inputs.scores, runs, TOP1, "top1", why="" if runs else why_not(inputs, model, runs))


def _ast_note(runs: Sequence[TrainedRun]) -> list[str]:
    """By which recipe AST was trained."""
    recipes = dict.fromkeys(run.recipe_name for run in runs)
    return [
        f'AST is trained by recipe "{name}", of the recipes that were run the one with the higher top-1.'
        for name in recipes
    ]


def why_not(inputs: TableInputs, model: str, runs: Sequence[TrainedRun], target: str = "table6") -> str:
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


def absence_notes(runs: Mapping[str, object]) -> list[str]:
    """The models that a demo block has no row of."""
    return [f"Not run at demo scale: {LABELS[model]}." for model in MODELS if model not in runs]


def model_name(model: str, runs: Sequence[TrainedRun]) -> str:
    return runs[0].model if runs else model


def _p1_note() -> str:
    return (
        "The paper states neither the clustering algorithm, nor k, the space, or the labels behind the silhouette. "
        f"{PRIMARY} is what its numbers suggest, which is no proof: UMAP of all test clips ({umap_text()}), KMeans "
        f"there with k = the classes among them ({KMEANS_N_INIT} starts), their silhouette in that plane; mean "
        f"and sd over {len(CLUSTERING_SEEDS)} seeds of UMAP and KMeans."
    )


def umap_text() -> str:
    params = umap_params()
    return f"{params['n_neighbors']} neighbours, minimal distance {params['min_dist']}"


def demo_title(runs: Runs) -> str:
    """The title of a block of runs that are not the paper's experiment: what they were tested on."""
    run = next(group[0] for group in runs.values() if group)
    classes = len(run.classes[DEFAULT_HEAD])
    scale = "Demo scale" if run.scale == "demo" else "The paper's model sizes"
    return f"{scale}, {tested_on(run)}, {classes} classes, {run.test_kept} test clips: not the paper's experiment"
