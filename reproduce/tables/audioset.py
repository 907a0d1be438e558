"""AudioSet: Table 5 and the pooling ablations. Costs are measured live, mAP comes from paper-scale records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reproduce.experiments.families import PAPER_MODELS
from reproduce.paper import Row as PaperRow
from reproduce.records.selection import cost_of, paper_runs
from reproduce.tables.base import (
    PAPER_ONLY,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    ratio_row,
    register_table,
    run_conditions,
)
from reproduce.tables.blocks import (
    CLIPS_COLUMN,
    Target,
    demo_blocks,
    demo_note,
    other_runs_block,
    selection_block,
)
from reproduce.tables.cells import BOTH_COSTS, COST_COLUMNS, COUNTING_NOTES, cost_cells
from reproduce.tables.scores import Runs, RunScores, clips_cell, difference_row, interval_notes, paper_difference_row

DATASET, METRIC, TEST_CLIPS = "audioset", "map", "clips_audioset_test"
MAP = Column("map", "mAP", "%", 1)


@dataclass(frozen=True)
class MeasuredRow:
    """A row of Table 5 that runs may fill.

    Args:
        key, label: of the row. model: registered name.
        recipe_name: what the runs must have been trained by. runs: by protocol, "balanced" and "full".
    """

    key: str
    label: str
    model: str
    recipe_name: str
    runs: Mapping[str, Runs]


@register_table("table5", "AudioSet: costs measured live, accuracies from paper-scale records", BOTH_COSTS)
def table5(inputs: TableInputs) -> Table:
    """Table 5: mAP on balanced and full AudioSet, MACs and parameters.

    "(Our AS)" is AST by its own authors' recipe, as the paper says it was rerun. AST under MAST's protocol has a row of
    its own.
    """
    quoted = inputs.paper.table("table5")
    columns = {
        Column(c.key, f"mAP, {c.title.lower()}", c.unit, c.decimals): METRIC for c in quoted.columns if c.unit == "%"
    }
    target, scores = Target("table5", DATASET, {MAP: METRIC}), RunScores(inputs.records_dir)
    fillable = _measured_rows(inputs, quoted.rows, [column.key for column in columns])
    rows = []
    for line in quoted.rows:
        if line.measured_as:
            cells = _map_cells(inputs, fillable[line.key], columns, line.cells, target, scores)
            record = cost_of(inputs.records, PAPER_MODELS[line.measured_as])
            cells |= cost_cells(record, line.cells["macs"], line.cells["params"])
        else:
            cells = _quoted_cells(line, tuple(columns))
        rows.append(Row(line.key, line.label, cells))
    own = fillable["ast_mast_protocol"]
    rows.append(Row(own.key, own.label, _map_cells(inputs, own, columns, {}, target, scores)))
    by_key = {row.key: row for row in rows}
    for key, label in (("ast_our_as", "AST (Our AS) - paper"), ("mast", "MAST - paper")):
        to_paper = paper_difference_row(f"{key}_minus_paper", label, by_key[key], tuple(columns))
        rows += [to_paper] if to_paper else []
    tests: list[str] = []
    for key, label in (("ast_our_as", "MAST - AST (Our AS)"), (own.key, "MAST - AST, MAST's protocol")):
        row, notes = _difference(inputs, label, fillable["mast"], fillable[key], columns, target, scores)
        rows.append(row)
        tests += notes
    rows.append(ratio_row("AST : MAST", by_key["ast_our_as"].cells, by_key["mast"].cells, COST_COLUMNS))
    used = [record for row in fillable.values() for runs in row.runs.values() for record in runs]
    trained = [(f"{row.label}, {p}", runs) for row in fillable.values() for p, runs in row.runs.items() if runs]
    demo = demo_blocks(target, inputs, scores)
    blocks = (
        _coverage_block(inputs, trained),
        selection_block(target, trained, "table5"),
        other_runs_block(target, inputs, used, scores, lambda run: not run.pooling_changed),
        *demo,
    )
    notes = [
        *(f"{line.label}: {line.note}" for line in quoted.rows if line.note and not line.is_ours),
        *COUNTING_NOTES,
        *(f"{label}: {run_conditions(*runs)}." for label, runs in trained),
        *tests,
        *interval_notes(rows, columns),
        *([] if demo else [demo_note(target)]),
    ]
    return Table(
        "table5",
        quoted.title,
        (*columns, *COST_COLUMNS),
        tuple(rows),
        tuple(notes),
        tuple(block for block in blocks if block is not None),
    )


def _measured_rows(inputs: TableInputs, lines: Sequence[PaperRow], variants: Sequence[str]) -> dict[str, MeasuredRow]:
    """Rows by key: the paper's own two, and AST under MAST's protocol."""
    wanted = [(line.key, line.label, line.measured_as, line.measured_as) for line in lines if line.measured_as]
    wanted.append(("ast_mast_protocol", "AST, MAST's protocol", "ast", "mast"))
    return {
        key: MeasuredRow(
            key,
            label,
            PAPER_MODELS[model],
            recipe_name,
            {
                p: paper_runs(inputs.records, PAPER_MODELS[model], DATASET, variant=p, recipe_name=recipe_name)
                for p in variants
            },
        )
        for key, label, model, recipe_name in wanted
    }


def _map_cells(
    inputs: TableInputs,
    row: MeasuredRow,
    columns: Mapping[Column, str],
    paper: Mapping[str, float | None],
    target: Target,
    scores: RunScores,
) -> dict[str, Cell]:
    return {
        column.key: scores.cell(
            row.runs[column.key],
            column,
            metric,
            paper.get(column.key),
            target.not_run(inputs, row.model, column.key, row.recipe_name),
        )
        for column, metric in columns.items()
    }


def _quoted_cells(line: PaperRow, columns: Sequence[Column]) -> dict[str, Cell]:
    """A row of somebody else's numbers; empty where the paper prints "-"."""
    cells = {
        column.key: Cell(line.cells[column.key], None, column.unit, PAPER_ONLY, f"quoted from {line.quoted_from}")
        for column in columns
        if line.cells[column.key] is not None
    }
    where = "printed in Table 5: the paper's own count of AST's code"
    for key, unit in (("macs", "G"), ("params", "M")):
        if line.cells[key] is not None:
            cells[key] = Cell(line.cells[key], None, unit, PAPER_ONLY, where)
    return cells


def _difference(
    inputs: TableInputs,
    label: str,
    mast: MeasuredRow,
    ast: MeasuredRow,
    columns: Mapping[Column, str],
    target: Target,
    scores: RunScores,
) -> tuple[Row, list[str]]:
    """MAST minus AST on balanced and on full AudioSet, each with its paired test."""
    cells: dict[str, Cell] = {}
    notes = []
    for column, metric in columns.items():
        missing = ast if mast.runs[column.key] else mast
        why = target.not_run(inputs, missing.model, column.key, missing.recipe_name)
        runs = (mast.runs[column.key], ast.runs[column.key])
        row, tests = difference_row("", label, *runs, {column: metric}, scores, why)
        cells |= row.cells
        notes += tests
    return Row(f"mast_minus_{ast.key}", label, cells), notes


def _coverage_block(inputs: TableInputs, trained: Sequence[tuple[str, Runs]]) -> Table | None:
    """How many test clips each measured mAP is of: a block, for the table is wide enough."""
    if not trained:
        return None
    clips = inputs.paper.fact(TEST_CLIPS).value
    paper = float(clips) if isinstance(clips, int) else None
    rows = tuple(Row(label, label, {CLIPS_COLUMN.key: clips_cell(runs, paper)}) for label, runs in trained)
    return Table("table5 coverage", "Test clips behind each measured mAP", (CLIPS_COLUMN,), rows)
