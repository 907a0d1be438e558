"""AudioSet, Table 5: costs are those of these very models, mAP comes from paper-scale records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reproduce.experiments.families import PAPER_MODELS
from reproduce.experiments.paper_studies import PaperStudy, studies_of
from reproduce.paper import QuotedRow
from reproduce.records.selection import cost_of
from reproduce.tables.base import Cell, Column, Row, Table, TableInputs, quoted, ratio_row, register_table
from reproduce.tables.baselines import AST_BY_MAST, RETRAINED_MBT, Baseline, stronger_note
from reproduce.tables.blocks import demo_blocks, demo_note, other_runs_blocks, present, selection_block
from reproduce.tables.cells import BOTH_COSTS, COST_COLUMNS, COUNTING_NOTES, cost_cells
from reproduce.tables.conditions import run_conditions
from reproduce.tables.score_cells import CLIPS_COLUMN, clips_cell, interval_notes, paper_difference_row
from reproduce.tables.scores import Runs
from reproduce.tables.tables2to4 import quoted_row
from reproduce.tables.target import Target

NAME = "table5"
MAP = Column("map", "mAP", "%", 1)
BASELINES = (replace(AST_BY_MAST, key="ast_mast_protocol"), RETRAINED_MBT)
PAPER_COUNT = "printed in Table 5: the paper's own count of AST's code"


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """A row of Table 5 that runs may fill.

    Args:
        key: of the row.
        label: of the row.
        model: "ast", "mast" or a registered name.
        recipe_name: recipe that the runs must have been trained by.
        targets: variant -> its column alone, as a target: "balanced" and "full".
        runs: variant -> its runs.
    """

    key: str
    label: str
    model: str
    recipe_name: str
    targets: Mapping[str, Target]
    runs: Mapping[str, Runs]

    def not_run(self, variant: str) -> str:
        """Reason of the empty cell."""
        return self.targets[variant].not_run(self.model, variant, self.recipe_name)

    def cells(self, paper: Mapping[str, float | None]) -> dict[str, Cell]:
        """The mAP of every variant."""
        cells: dict[str, Cell] = {}
        for variant, target in self.targets.items():
            cells |= target.cells(self.runs[variant], paper, self.not_run(variant))
        return cells


@register_table(NAME, "AudioSet: costs of these very models, accuracies from paper-scale records", BOTH_COSTS)
def table5(inputs: TableInputs) -> Table:
    """Table 5: mAP on balanced and full AudioSet, MACs and parameters.

    "(Our AS)" is AST by its own authors' recipe, as the paper says it was rerun. AST under MAST's protocol and MBT's
    audio branch have their own rows.
    """
    printed = inputs.paper.table(NAME)
    studies = [study for study in studies_of(NAME) if study.table == NAME]
    columns = {
        Column(c.key, f"mAP, {c.title.lower()}", c.unit, c.decimals): study.metrics[c.key]
        for study in studies
        for c in printed.columns
        if c.key in study.metrics
    }
    target = Target(name=NAME, dataset=studies[0].dataset, columns={MAP: "map"}, inputs=inputs)
    fillable = _measured_rows(target, columns, printed.rows)
    rows, tests = _rows(inputs, printed.rows, fillable)
    trained = [(f"{row.label}, {p}", runs) for row in fillable.values() for p, runs in row.runs.items() if runs]
    used = [run for _, runs in trained for run in runs]
    demo = demo_blocks(target)
    notes = [
        *(f"{line.label}: {line.note}" for line in printed.rows if line.note and not line.is_ours),
        *COUNTING_NOTES,
        *(f"{label}: {run_conditions(*runs)}." for label, runs in trained),
        *tests,
        *_stronger_notes(columns, fillable),
        *interval_notes(rows, columns, used),
        *([] if demo else [demo_note(target)]),
    ]
    blocks = present(
        _coverage_block(inputs, studies[0], trained),
        selection_block(target, trained, NAME),
        *other_runs_blocks(target, used, lambda run: not run.pooling_changed),
        *demo,
    )
    shown = (*columns, *COST_COLUMNS)
    return Table(NAME, printed.title, shown, tuple(rows), notes=tuple(notes), blocks=blocks, runs=tuple(used))


def _measured_rows(target: Target, columns: Mapping[Column, str], lines: Sequence[QuotedRow]) -> dict[str, MeasuredRow]:
    """Rows by key: the paper's own two, and the baselines."""
    wanted = [Baseline(line.key, line.label, line.measured_as, line.measured_as) for line in lines if line.measured_as]
    targets = {
        column.key: Target(name=NAME, dataset=target.dataset, columns={column: metric}, inputs=target.inputs)
        for column, metric in columns.items()
    }
    return {
        row.key: MeasuredRow(
            key=row.key,
            label=row.label,
            model=row.model,
            recipe_name=row.recipe_name,
            targets=targets,
            runs={variant: target.runs(row.model, variant, row.recipe_name) for variant in targets},
        )
        for row in (*wanted, *BASELINES)
    }


def _stronger_notes(columns: Mapping[Column, str], fillable: Mapping[str, MeasuredRow]) -> list[str]:
    """Which AST claims compare with, on the balanced and on the full set."""
    by_recipe = [row for row in fillable.values() if row.model == "ast"]
    return [
        note
        for column, metric in columns.items()
        for note in stronger_note({row.label: row.runs[column.key] for row in by_recipe}, metric, column.title)
    ]


def _rows(
    inputs: TableInputs, lines: Sequence[QuotedRow], fillable: Mapping[str, MeasuredRow]
) -> tuple[list[Row], list[str]]:
    """The paper's lines, the baselines, the differences and the ratio; and the notes of the tests."""
    columns = tuple(column for target in fillable["mast"].targets.values() for column in target.columns)
    by_key: dict[str, Row] = {}
    for line in lines:
        if line.measured_as:
            cells = fillable[line.key].cells(line.cells)
            cost = cost_of(inputs.records, PAPER_MODELS[line.measured_as])
            cells |= cost_cells(cost, line.cells["macs"], line.cells["params"])
            by_key[line.key] = Row(line.key, line.label, cells)
        else:
            by_key[line.key] = _quoted_row(line, columns)
    for row in (fillable[baseline.key] for baseline in BASELINES):
        by_key[row.key] = Row(row.key, row.label, row.cells({}))
    rows, tests = [*by_key.values()], []
    for key, label in (("ast_our_as", "AST (Our AS) - paper"), ("mast", "MAST - paper")):
        to_paper = paper_difference_row(f"{key}_minus_paper", label, by_key[key], columns)
        rows += [to_paper] if to_paper else []
    labels = {"ast_our_as": "AST (Our AS)", **{baseline.key: baseline.label for baseline in BASELINES}}
    for key, label in labels.items():
        difference, notes = _difference(f"MAST - {label}", fillable["mast"], fillable[key])
        rows.append(difference)
        tests += notes
    rows.append(ratio_row("AST : MAST", by_key["ast_our_as"].cells, by_key["mast"].cells, COST_COLUMNS))
    return rows, tests


def _quoted_row(line: QuotedRow, columns: Sequence[Column]) -> Row:
    """A line of somebody else's numbers, with the paper's count of AST's costs where it prints one."""
    row = quoted_row(line, columns)
    costs = {
        key: quoted(line.cells[key], unit, PAPER_COUNT)
        for key, unit in (("macs", "G"), ("params", "M"))
        if line.cells[key] is not None
    }
    return Row(row.key, row.label, {**row.cells, **costs})


def _difference(label: str, mast: MeasuredRow, ast: MeasuredRow) -> tuple[Row, list[str]]:
    """MAST minus AST on balanced and on full AudioSet, each with its paired test."""
    cells: dict[str, Cell] = {}
    notes: list[str] = []
    for variant, target in mast.targets.items():
        missing = ast if mast.runs[variant] else mast
        row, tests = target.difference("", label, mast.runs[variant], ast.runs[variant], missing.not_run(variant))
        cells |= row.cells
        notes += tests
    return Row(f"mast_minus_{ast.key}", label, cells), notes


def _coverage_block(inputs: TableInputs, study: PaperStudy, trained: Sequence[tuple[str, Runs]]) -> Table | None:
    """How many test clips each measured mAP is of: a block, for the table is wide enough."""
    if not trained:
        return None
    clips = inputs.paper.fact(study.clips[1].used).value
    paper = float(clips) if isinstance(clips, int) else None
    rows = tuple(Row(label, label, {CLIPS_COLUMN.key: clips_cell(runs, paper)}) for label, runs in trained)
    return Table("table5 coverage", "Test clips behind each measured mAP", (CLIPS_COLUMN,), rows)
