"""From AST to MAST one component at a time, trained on the folds of esc50: what each adds, and what it costs.

The paper has no such table: nothing here is quoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from reproduce.datasets import dataset_spec
from reproduce.experiments.components import MAST, MEANINGS, Variant, common_rate, mast_without, path_to_mast
from reproduce.experiments.presets import DEMO
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import component_groups
from reproduce.tables.base import POINTS, Cell, Column, Row, Table, TableInputs, measured, not_run, register_table
from reproduce.tables.cells import MIB
from reproduce.tables.comparison import compared, one_or_blocks
from reproduce.tables.notes import MeanDifference, beyond_runs_notes, difference_cell, mean_difference

DATASET = "esc50"
STEP = Column("step", "Gain over the row above", POINTS, 1)
LOSS = Column("step", "Gain over MAST", POINTS, 1)
ACTIVATIONS = Column("activations", "Activations", "MiB/clip", 2)
TITLE = "from AST to MAST, one component at a time"
NOTES = (
    *MEANINGS,
    "Every row has the same learning rate; only the component changes from row to row. A gain is over the folds and "
    "seeds that both rows have.",
    "Activations: what autograd keeps of one clip between forward and backward pass, in float32, by a closed form.",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row against the row that lacks its component, or against MAST.

    Args:
        label: of the row.
        difference: row minus reference, in points; None without stored predictions or common clips.
    """

    label: str
    difference: MeanDifference | None


@register_table("components", "from AST to MAST one component at a time, trained on the folds of esc50")
def components(inputs: TableInputs) -> Table:
    """A row per model on the path from AST to MAST, and a block of MAST without one component each."""
    groups = component_groups(inputs.records, DATASET)
    tables = [_path(inputs, group, f"components {number}") for number, group in enumerate(groups, start=1)]
    if len(tables) == 1:
        tables = [replace(tables[0], title=f"{tables[0].title}: {TITLE}")]
    missing = f"not run: no such record on {DATASET} under {inputs.records_dir}"
    return one_or_blocks("components", f"{dataset_spec(DATASET).title}: {TITLE}", tables, missing)


def path_rows(group: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Rows of the path that the group has, in the order of the path."""
    return _rows(group, path_to_mast(_size_of(group)))


def path_steps(inputs: TableInputs, group: Sequence[TrainedRun]) -> dict[str, Step]:
    """Each row of the path against the row before it, by label; without those whose row before has not been run.

    The differences are those of the scores that the table shows: on the folds and seeds that all rows have.
    """
    rows, order = _on_shared_runs(path_rows(group)), [variant.label for variant in path_to_mast(_size_of(group))]
    return {
        label: Step(label=label, difference=mean_difference(inputs, rows[before], rows[label]))
        for before, label in pairwise(order)
        if before in rows and label in rows
    }


def _on_shared_runs(rows: dict[str, list[TrainedRun]]) -> dict[str, list[TrainedRun]]:
    """The rows on the folds that all have, each with its whole seeds; unchanged where they share none."""
    shared = runs_side_by_side(rows)
    return shared if all(shared.values()) else rows


def _size_of(group: Sequence[TrainedRun]) -> str:
    return next(run.size for run in group)


def _rows(group: Sequence[TrainedRun], variants: Sequence[Variant]) -> dict[str, list[TrainedRun]]:
    rows: dict[str, list[TrainedRun]] = {}
    for variant in variants:
        config = json.dumps(json.loads(json.dumps(dict(variant.config))), sort_keys=True)
        runs = [run for run in group if run.model == variant.model and run.config_key == config]
        if runs:
            rows[variant.label] = runs
    return rows


def _path(inputs: TableInputs, group: Sequence[TrainedRun], name: str) -> Table:
    rows = path_rows(group)
    table = compared(inputs, rows, name, tests=False, keep=runs_side_by_side)
    steps = path_steps(inputs, group)
    table = _with_steps(table, rows, steps, STEP)
    notes = (*table.notes, *NOTES, *_rate_notes(group), *_verdict(steps, "the added component"))
    return replace(table, notes=notes, blocks=_without_block(inputs, group, name))


def _rate_notes(group: Sequence[TrainedRun]) -> list[str]:
    """Where the rate comes from, if it is that of the preset `demo`."""
    if {run.lr for run in group} != {common_rate(DEMO)}:
        return []
    return [
        "The rate is the geometric mean of the two models' own in the preset `demo`, which were chosen on fold 2 of "
        "ESC-10."
    ]


def _without_block(inputs: TableInputs, group: Sequence[TrainedRun], name: str) -> tuple[Table, ...]:
    """MAST, and MAST without one component each; nothing where fewer than two of these were run beside the path."""
    size = _size_of(group)
    whole = _rows(group, [replace(path_to_mast(size)[-1], label=MAST)])
    rows = {**whole, **_rows(group, mast_without(size))}
    on_path = {run.key for runs in path_rows(group).values() for run in runs}
    if not whole or all(run.key in on_path for runs in rows.values() for run in runs):
        return ()
    shared = _on_shared_runs(rows)
    steps = {
        label: Step(label=label, difference=mean_difference(inputs, shared[MAST], runs))
        for label, runs in shared.items()
        if label != MAST
    }
    table = compared(inputs, rows, f"{name} without", tests=False, keep=runs_side_by_side)
    table = _with_steps(table, rows, steps, LOSS)
    notes = (*table.notes, *_verdict(steps, "the missing component"))
    return (replace(table, title=f"{table.title}: MAST without one component", notes=notes),)


def _with_steps(
    table: Table, by_row: Mapping[str, Sequence[TrainedRun]], steps: Mapping[str, Step], column: Column
) -> Table:
    """Add the activations and the gain of every row, the gain behind the scores."""
    rows = []
    for row in table.rows:
        if row.is_ratio:  # of the first two models: the steps say more
            continue
        cells = {**row.cells, ACTIVATIONS.key: _activations(by_row[row.label][0])}
        if row.label in steps:
            cells[column.key] = difference_cell(steps[row.label].difference)
        rows.append(Row(row.key, row.label, cells))
    scores = sum(c.unit == "%" for c in table.columns)
    costs = [replace(c, decimals=3) if c.unit == "G" else c for c in table.columns[scores:]]  # small models
    columns = (*table.columns[:scores], column, *costs, ACTIVATIONS)
    return replace(table, columns=columns, rows=tuple(rows))


def _activations(run: TrainedRun) -> Cell:
    saved = run.metrics.get("activation_bytes")
    if saved is None:
        return not_run(ACTIVATIONS.unit, "not run: recorded before runs stored their activations")
    return measured(saved / MIB, ACTIVATIONS.unit, "closed form, float32, on a CPU")


def _verdict(steps: Mapping[str, Step], what: str) -> list[str]:
    """Which gains exceed the spread over training runs."""
    gains = {step.label: step.difference for step in steps.values()}
    return beyond_runs_notes(gains, "gains", f"{what} changes the score")
