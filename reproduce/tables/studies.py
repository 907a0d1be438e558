"""Two studies on real audio beside the plain comparison: equal MACs instead of equal clips, and the pooling variants.

Both are cross-validated on a folder in ESC-50's layout. The paper has neither table: nothing here is quoted but the
variants' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reproduce.datasets import dataset_spec
from reproduce.efficiency.plan import TRAINING_PASSES
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.records.runs import TrainedRun, canonical_config
from reproduce.records.selection import equal_macs_groups, pooling_groups
from reproduce.tables.base import (
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    measured,
    register_table,
)
from reproduce.tables.comparison import compared, one_or_blocks
from reproduce.tables.conditions import epochs_text
from reproduce.tables.notes import several_tests_notes

DATASET = "esc50"
TERA = 1e12
BUDGET_COLUMNS = (Column("epochs", "Epochs", "", 0), Column("training_macs", "MACs of training", "T", 2))


@register_table("equal_macs", "the comparison of esc50 with equal MACs: MAST trains until it has used as many as AST")
def equal_macs(inputs: TableInputs) -> Table:
    """AST, MAST on the same clips, and MAST with AST's budget of multiply-accumulates."""
    groups = [_by_budget(group) for group in equal_macs_groups(inputs.records, DATASET)]
    tables = [
        _with_budget(compared(inputs, rows, f"equal_macs {number}"), rows)
        for number, rows in enumerate(groups, start=1)
    ]
    return _study("equal_macs", "equal MACs instead of equal clips", tables, inputs)


@register_table("pooling", "the paper's pooling ablations, trained on the folds of esc50")
def pooling(inputs: TableInputs) -> Table:
    """MAST's five poolings and AST, from scratch on the same folds; each is tested against the paper's MAST."""
    labels = {
        row.key: row.label if row.label.startswith("MAST") else f"MAST, {row.label}"
        for row in inputs.paper.table("ablations").rows
    }
    groups = [_by_pooling(group, labels) for group in pooling_groups(inputs.records, DATASET)]
    tables = [
        _with_cautions(compared(inputs, rows, f"pooling {number}", reference=labels["mast"]))
        for number, rows in enumerate(groups, start=1)
    ]
    return _study("pooling", "the pooling ablations", tables, inputs)


def _with_cautions(table: Table) -> Table:
    """Add the correction for several tests against one row."""
    several = several_tests_notes(sum(row.key != "ratio" for row in table.rows) - 1)
    if not several:
        return table
    favoured = (
        "No p includes the spread over training runs: it is of these trained models alone. Every variant has the "
        "learning rate that was tuned for the paper's pooling, which favours it if anything."
    )
    return replace(table, notes=(*table.notes, f"{several[0]} {favoured}"))


def _study(name: str, what: str, tables: Sequence[Table], inputs: TableInputs) -> Table:
    if len(tables) == 1:
        tables = [replace(tables[0], title=f"{tables[0].title}: {what}")]
    missing = f"not run: no such record on {DATASET} under {inputs.records_dir}"
    return one_or_blocks(name, f"{dataset_spec(DATASET).title}: {what}", tables, missing)


def _by_budget(group: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Rows by model and epochs, the short runs of a model first."""
    rows: dict[str, list[TrainedRun]] = {}
    for record in sorted(group, key=lambda r: (r.model, r.epochs)):
        label = f"{record.model}, {epochs_text(record.recipe)}"
        rows.setdefault(label, []).append(record)
    return rows


def _with_budget(table: Table, by_row: dict[str, list[TrainedRun]]) -> Table:
    """Add the epochs and training MACs of every row."""
    rows = [replace(row, cells=_budget_cells(by_row.get(row.label, []), row)) for row in table.rows]
    notes = (
        *table.notes,
        f"MACs of training: full MACs of a forward pass, times {TRAINING_PASSES} with the backward pass, times the "
        "clips seen; the epochs of the model with fewer MACs are rounded so that both train for equal MACs. Learning "
        "rates are those of the short runs.",
    )
    return replace(table, columns=(*table.columns, *BUDGET_COLUMNS), rows=tuple(rows), notes=notes)


def training_macs(runs: Sequence[TrainedRun]) -> float:
    """Multiply-accumulates of one training run in 10^12, the mean of `runs`: full rule, both passes, all clips."""
    return TRAINING_PASSES * runs[0].metric("macs_full") * _clips_seen(runs) / TERA


def _clips_seen(runs: Sequence[TrainedRun]) -> float:
    """Clips that one training run sees, the mean of `runs`."""
    return sum(run.train_kept for run in runs) / len(runs) * runs[0].epochs


def _budget_cells(runs: Sequence[TrainedRun], row: Row) -> dict[str, Cell]:
    if not runs:
        return dict(row.cells)
    return {
        **row.cells,
        "epochs": measured(runs[0].epochs, "", "recipe"),
        "training_macs": measured(training_macs(runs), "T", f"{_clips_seen(runs):,.0f} clips seen per run"),
    }


def _by_pooling(group: Sequence[TrainedRun], labels: dict[str, str]) -> dict[str, list[TrainedRun]]:
    """AST first, then the paper's order of the variants."""
    rows: dict[str, list[TrainedRun]] = {}
    for record in group:
        rows.setdefault(_pooling_label(record, labels), []).append(record)
    order = list(labels.values())
    return dict(sorted(rows.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1))


def _pooling_label(record: TrainedRun, labels: dict[str, str]) -> str:
    config = canonical_config(record.model, record.model_config)
    if record.family != "mast":
        return record.model
    strides = tuple(tuple(stride) for stride in config.get("pool_strides", POOLING_ABLATIONS["mast"]))
    return next(labels[name] for name, known in POOLING_ABLATIONS.items() if known == strides)
