"""The numbers of Figure 2: the first classes of VGGSound and of ESC-50 in UMAP's plane. From records alone."""

from __future__ import annotations

import math
from dataclasses import replace

from reproduce.paper import MODELS
from reproduce.records.clusterings import (
    BLOCK,
    FIGURE_SEED,
    INPUT,
    READINGS,
    REAL,
    figure_classes,
    figure_runs,
    projection_of,
)
from reproduce.records.runs import ClusteringRun
from reproduce.tables.base import Cell, Column, Row, Table, TableInputs, measured, not_run, register_table
from reproduce.tables.blocks import present
from reproduce.tables.conditions import run_conditions
from reproduce.tables.notes import standin_notes
from reproduce.tables.table6 import (
    FEATURES_NOTE,
    TOP1,
    Runs,
    absence_notes,
    demo_title,
    model_name,
    top1,
    umap_text,
    why_not,
)

SILHOUETTES = (
    Column("silhouette", "Silhouette, UMAP's plane", "", 3),
    Column("silhouette_features", "Silhouette, features", "", 3),
)


@register_table("figure2", "VGGSound and ESC-50: the first classes' embeddings in UMAP's plane, AST left, MAST right")
def figure2(inputs: TableInputs) -> Table:
    """The numbers under the panels of Figure 2, and the files of their coordinates. The paper prints none of them."""
    columns = (Column("clips", "Clips", "", 0), Column("classes", "Classes", "", 0), *SILHOUETTES, TOP1)
    notes = (
        f"UMAP of the test clips of the first {figure_classes()} classes by sorted label ({umap_text()}, seed "
        f"{FIGURE_SEED}). Silhouettes are those of the true labels: the plane raises those of "
        "separate classes and lowers those of mixed classes, so the silhouette of the features is shown too.",
        FEATURES_NOTE,
        'The paper circles classes by eye ("more separable"), and prints no number for the figure.',
    )
    paper = {model: [run] for model, run in figure_runs(inputs.records, "paper").items()}
    rows, files = _panel_rows(inputs, {model: paper.get(model, []) for model in MODELS})
    blocks = [_second_panels(inputs, Table("figure2 second-last block", "Paper scale", columns), paper)]
    for figure in (REAL, "demo"):
        blocks += _further_panels(inputs, figure, columns)
    title = "Figure 2: VGGSound test embeddings in UMAP's plane"
    return Table("figure2", title, columns, tuple(rows), notes=(*notes, *files), blocks=present(*blocks))


def _further_panels(inputs: TableInputs, figure: str, columns: tuple[Column, ...]) -> list[Table | None]:
    """The panels of one of FIGURES that is not the paper's, by both readings; empty where no run has any."""
    runs = {model: [run] for model, run in figure_runs(inputs.records, figure).items()}
    if not runs:
        return []
    rows, files = _panel_rows(inputs, runs)
    notes = (*standin_notes([run for group in runs.values() for run in group]), *files, *absence_notes(runs))
    title = f"{demo_title(runs)}; the first {figure_classes()} classes or all"
    first = Table(f"figure2 {figure}", title, columns, tuple(rows), notes=notes)
    return [first, _second_panels(inputs, Table(f"figure2 {figure} second-last block", first.title, columns), runs)]


def _second_panels(inputs: TableInputs, empty: Table, runs: Runs) -> Table | None:
    """The same panels by the second reading of the features; None where no run has one."""
    known = {model: group for model, group in runs.items() if projection_of(inputs.records, group[0], BLOCK)}
    if not known:
        return None
    rows, files = _panel_rows(inputs, known, BLOCK)
    behind = [run for group in known.values() for run in group]
    notes = (*standin_notes(behind), f"Features: {READINGS[BLOCK]}.", *files)
    return replace(empty, title=f"{empty.title}: features of the second-last block", rows=tuple(rows), notes=notes)


def _panel_rows(inputs: TableInputs, runs: Runs, reading: str = INPUT) -> tuple[list[Row], list[str]]:
    """A row per model, and a note per file of coordinates."""
    rows, files = [], []
    for model, group in runs.items():
        projection = projection_of(inputs.records, group[0], reading) if group else None
        if projection is None:
            why = why_not(inputs, model, group, "figure2")
            cells = {column.key: not_run(column.unit, why) for column in SILHOUETTES}
        else:
            cells = _panel_cells(projection, run_conditions(*group))
            files.append(
                f"Coordinates of {model_name(model, group)}: {inputs.records_dir / str(projection.coordinates)}."
            )
        rows.append(Row(model, model_name(model, group), {**cells, TOP1.key: top1(inputs, model, group)}))
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
