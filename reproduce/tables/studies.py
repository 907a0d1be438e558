"""Two studies on real audio beside the plain comparison: equal MACs instead of equal clips, and the pooling ablations.

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
    epochs_text,
    measured,
    register_table,
)
from reproduce.tables.comparison import compared

DATASET = "esc50"
TERA = 1e12
BUDGET_COLUMNS = (Column("epochs", "Epochs", "", 0), Column("training_macs", "MACs of training", "T", 2))


@register_table("equal_macs", "the comparison of esc50 once more: MAST trained until it has cost AST's MACs")
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
    """What the tests between many rows do not say by themselves."""
    tests = sum(row.key != "ratio" for row in table.rows) - 1
    if tests < 2:
        return table
    notes = (
        *table.notes,
        f"{tests} rows are tested against one: at 5 % over all of them a p must be below {0.05 / tests:.3g} "
        "(Bonferroni). Every variant has the learning rate that was tuned for the paper's pooling, which favours it if "
        "anything.",
    )
    return replace(table, notes=notes)


def _study(name: str, what: str, tables: Sequence[Table], inputs: TableInputs) -> Table:
    if len(tables) == 1:
        return replace(tables[0], name=name, title=f"{tables[0].title}: {what}")
    notes = () if tables else (f"not run: no such record on {DATASET} under {inputs.records_dir}",)
    return Table(name, f"{dataset_spec(DATASET).title}: {what}", (), (), notes=notes, blocks=tuple(tables))


def _by_budget(group: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Rows by model and epochs, the short runs of a model first."""
    rows: dict[str, list[TrainedRun]] = {}
    for record in sorted(group, key=lambda r: (r.model, r.recipe.epochs)):
        label = f"{record.model}, {epochs_text(record.recipe)}"
        rows.setdefault(label, []).append(record)
    return rows


def _with_budget(table: Table, by_row: dict[str, list[TrainedRun]]) -> Table:
    """The table with what every row's training took."""
    rows = [replace(row, cells=_budget_cells(by_row.get(row.label, []), row)) for row in table.rows]
    notes = (
        *table.notes,
        f"MACs of training: full MACs of a forward pass, times {TRAINING_PASSES} with the backward pass, times the "
        "clips seen; the cheaper model's epochs are rounded to make it the dearer one's. Learning rates are those of "
        "the short runs.",
    )
    return replace(table, columns=(*table.columns, *BUDGET_COLUMNS), rows=tuple(rows), notes=notes)


def _budget_cells(runs: Sequence[TrainedRun], row: Row) -> dict[str, Cell]:
    if not runs:
        return dict(row.cells)
    epochs = runs[0].recipe.epochs
    seen = sum(r.train_kept for r in runs) / len(runs) * epochs
    macs = TRAINING_PASSES * runs[0].metric("macs_full") * seen / TERA
    return {
        **row.cells,
        "epochs": measured(epochs, "", "recipe"),
        "training_macs": measured(macs, "T", f"{seen:,.0f} clips seen a run"),
    }


def _by_pooling(group: Sequence[TrainedRun], labels: dict[str, str]) -> dict[str, list[TrainedRun]]:
    """AST first, then the paper's order of the variants."""
    rows: dict[str, list[TrainedRun]] = {}
    for record in group:
        rows.setdefault(_pooling_label(record, labels), []).append(record)
    order = list(labels.values())
    return dict(sorted(rows.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1))


def _pooling_label(record: TrainedRun, labels: dict[str, str]) -> str:
    model = record.model
    config = canonical_config(model, record.model_config)
    if not model.startswith("mast"):
        return model
    strides = tuple(tuple(stride) for stride in config.get("pool_strides", POOLING_ABLATIONS["mast"]))
    return next(labels[name] for name, known in POOLING_ABLATIONS.items() if known == strides)
