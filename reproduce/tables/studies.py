"""Two studies on real audio beside the plain comparison: equal epochs, MACs and time, and the pooling variants.

Both are cross-validated on a folder in ESC-50's layout. The paper has neither table: nothing here is quoted but the
variants' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from reproduce.datasets import dataset_spec
from reproduce.efficiency.plan import TRAINING_PASSES
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.records.pooled import alike_runs
from reproduce.records.runs import TrainedRun, canonical_config
from reproduce.records.selection import equal_macs_groups, pooling_groups
from reproduce.tables.base import (
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    measured,
    not_run,
    register_table,
)
from reproduce.tables.comparison import compared, one_or_blocks
from reproduce.tables.conditions import epochs_text
from reproduce.tables.notes import pairing_notes, several_tests_notes

DATASET = "esc50"
TERA = 1e12
SAME_BUDGET = 0.1  # difference of training MACs up to which two trainings count as equal
MINUTE = 60.0
BUDGET_COLUMNS = (
    Column("epochs", "Epochs", "", 0),
    Column("training_macs", "MACs of training", "T", 2),
    Column("training_minutes", "Time of training", "min", 1),
)


@register_table("equal_macs", "the comparison of esc50 at equal epochs, short and long, and at equal training MACs")
def equal_macs(inputs: TableInputs) -> Table:
    """Both models at the comparison's epochs and at those that give MAST the MACs of AST's short training."""
    groups = [_by_budget(group) for group in equal_macs_groups(inputs.records, DATASET)]
    tables = [
        _with_budget(inputs, compared(inputs, rows, f"equal_macs {number}", tests=False), rows)
        for number, rows in enumerate(groups, start=1)
    ]
    return _study("equal_macs", "at equal epochs and at equal MACs", tables, inputs)


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
    several = several_tests_notes(sum(not row.is_ratio for row in table.rows) - 1)
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


def _with_budget(inputs: TableInputs, table: Table, by_row: dict[str, list[TrainedRun]]) -> Table:
    """Add the epochs, training MACs and time of every row, and the pairs that are equal in something."""
    timed = alike_runs(by_row)
    rows = [
        replace(row, cells=_budget_cells(by_row.get(row.label, []), timed.get(row.label, []), row))
        for row in table.rows
    ]
    labels = [row.label for row in table.rows]
    notes = (
        *table.notes,
        f"MACs of training: full MACs of a forward pass, times {TRAINING_PASSES} with the backward pass, times the "
        "clips seen; the epochs of the model with fewer MACs are rounded so that both train for equal MACs. Learning "
        "rates are those of the short runs. Time of training: of one run, its test included, under the settings of "
        "the speeds.",
        *_equal_notes(inputs, {label: by_row[label] for label in labels if label in by_row}),
    )
    return replace(table, columns=(*table.columns, *BUDGET_COLUMNS), rows=tuple(rows), notes=notes)


def _equal_notes(inputs: TableInputs, by_row: dict[str, list[TrainedRun]]) -> list[str]:
    """The paired tests of all pairs of models that trained for equal epochs or for equal MACs."""
    notes = []
    for (first, ours), (second, theirs) in combinations(by_row.items(), 2):
        if ours[0].model == theirs[0].model:
            continue
        ratio = _macs_of_epochs(theirs[0]) / _macs_of_epochs(ours[0])
        what = "equal epochs" if ours[0].epochs == theirs[0].epochs else "equal MACs"
        if what == "equal epochs" or abs(ratio - 1) <= SAME_BUDGET:
            tests = pairing_notes(inputs, {first: ours, second: theirs}, first)
            notes += [f"At {what}, {second} with {ratio:.2f} times the MACs of {first}: {test}" for test in tests]
    return notes


def _macs_of_epochs(run: TrainedRun) -> float:
    """What all epochs cost per training clip; the clips are those of every row."""
    return run.metric("macs_full") * run.epochs


def training_macs(runs: Sequence[TrainedRun]) -> float:
    """Multiply-accumulates of one training run in 10^12, the mean of `runs`: full rule, both passes, all clips."""
    return TRAINING_PASSES * runs[0].metric("macs_full") * _clips_seen(runs) / TERA


def _clips_seen(runs: Sequence[TrainedRun]) -> float:
    """Clips that one training run sees, the mean of `runs`."""
    return sum(run.train_kept for run in runs) / len(runs) * runs[0].epochs


def _budget_cells(runs: Sequence[TrainedRun], timed: Sequence[TrainedRun], row: Row) -> dict[str, Cell]:
    if not runs:
        return dict(row.cells)
    return {
        **row.cells,
        "epochs": measured(runs[0].epochs, "", "recipe"),
        "training_macs": measured(training_macs(runs), "T", f"{_clips_seen(runs):,.0f} clips seen per run"),
        "training_minutes": _minutes_cell(timed),
    }


def _minutes_cell(runs: Sequence[TrainedRun]) -> Cell:
    """Mean time of a run; of runs that state it."""
    if not all(run.wall_time_s > 0 for run in runs):
        return not_run("min", "not run: a record of these runs holds no time")
    minutes = sum(run.wall_time_s for run in runs) / len(runs) / MINUTE
    machines = ", ".join(sorted({run.environment.machine for run in runs}))
    return measured(minutes, "min", f"mean of {len(runs)} runs, {machines}")


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
