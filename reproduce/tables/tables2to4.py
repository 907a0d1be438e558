"""Tables 2 to 4: accuracies on Kinetics-Sounds, VGGSound and EPIC-KITCHENS-100.

The paper's "AST [28]" there is MBT's audio branch: quoted, never measured. Below the paper's rows are an AST by MAST's
protocol, an AST by its authors' recipe, and that network trained anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reproduce.experiments.paper_recipes import MAST
from reproduce.experiments.paper_studies import PaperStudy, studies_of
from reproduce.paper import QuotedRow
from reproduce.tables.base import Column, Row, Table, TableInputs, quoted, register_table
from reproduce.tables.baselines import AST_BY_AUTHORS, AST_BY_MAST, RETRAINED_MBT, Baseline, stronger_note
from reproduce.tables.blocks import demo_blocks, demo_note, other_runs_blocks, present, selection_block
from reproduce.tables.conditions import run_conditions
from reproduce.tables.score_cells import CLIPS_COLUMN, clips_cell, interval_notes, paper_difference_row
from reproduce.tables.scores import Runs
from reproduce.tables.target import Target

ROWS = (AST_BY_MAST, AST_BY_AUTHORS, RETRAINED_MBT)
EPIC_KITCHENS_NOTE = (
    "Top-1; an action is correct only if its verb and its noun are. Measured on the validation set, the only labelled "
    "one; the paper does not say which set its rows are of."
)


@register_table("table2", "Kinetics-Sounds: top-1 and top-5 of both models under the paper's protocol")
def table2(inputs: TableInputs) -> Table:
    """Table 2."""
    return _accuracy_table(inputs, "table2")


@register_table("table3", "VGGSound: top-1 and top-5 of both models under the paper's protocol")
def table3(inputs: TableInputs) -> Table:
    """Table 3."""
    return _accuracy_table(inputs, "table3")


@register_table("table4", "EPIC-KITCHENS-100: verb, noun and action of both models under the paper's protocol")
def table4(inputs: TableInputs) -> Table:
    """Table 4."""
    return _accuracy_table(inputs, "table4", EPIC_KITCHENS_NOTE)


def _accuracy_table(inputs: TableInputs, name: str, remark: str = "") -> Table:
    """The table `name` of the paper with both models' runs; `remark` is a note on the data."""
    (study,) = (study for study in studies_of(name) if study.table == name)
    printed = inputs.paper.table(name)
    columns = {Column(c.key, c.title, c.unit, c.decimals): study.metrics[c.key] for c in printed.columns}
    target = Target(name=name, dataset=study.dataset, columns=columns, inputs=inputs)
    mast = target.runs("mast", study.variant, MAST)
    baselines = {row: target.runs(row.model, study.variant, row.recipe_name) for row in ROWS}
    rows, tests = _rows(target, study, printed.rows, mast, baselines)
    ours = next(row.label for row in printed.rows if row.measured_as == "mast")
    measured_rows = ((ours, mast), *((row.label, runs) for row, runs in baselines.items()))
    used = [run for _, runs in measured_rows for run in runs]
    demo = demo_blocks(target)
    notes = [
        *(f"{line.label}: {line.note}" for line in printed.rows if line.note),
        *([remark] if remark else []),
        *(f"{label}: {run_conditions(*group)}." for label, group in measured_rows if group),
        *tests,
        *_stronger_note(target, baselines),
        *interval_notes(rows, columns, used),
        *([] if demo else [demo_note(target)]),
    ]
    blocks = present(
        selection_block(target, measured_rows, name),
        *other_runs_blocks(target, used),
        *demo,
    )
    shown = (*columns, CLIPS_COLUMN)
    return Table(name, printed.title, shown, tuple(rows), notes=tuple(notes), blocks=blocks, runs=tuple(used))


def _stronger_note(target: Target, baselines: Mapping[Baseline, Runs]) -> list[str]:
    """By the column that claims are about: the first, or actions."""
    column = next((column for column in target.columns if column.key == "action"), next(iter(target.columns)))
    by_label = {row.label: runs for row, runs in baselines.items() if row.model == "ast"}
    return stronger_note(by_label, target.columns[column], column.title)


def _rows(
    target: Target, study: PaperStudy, lines: Sequence[QuotedRow], mast: Runs, baselines: Mapping[Baseline, Runs]
) -> tuple[list[Row], list[str]]:
    """The paper's lines, the baselines, and MAST minus each of them; and the notes of the tests."""
    without_mast = target.not_run("mast", study.variant, MAST)
    rows = []
    for line in lines:
        if line.measured_as:
            cells = target.cells(mast, line.cells, without_mast)
            if mast:
                cells[CLIPS_COLUMN.key] = clips_cell(mast, _paper_clips(target, study))
            ours = Row(line.key, line.label, cells)
            rows.append(ours)
        else:
            rows.append(quoted_row(line, tuple(target.columns)))
    differences, tests = list[Row](), list[str]()
    for baseline, runs in baselines.items():
        why = target.not_run(baseline.model, study.variant, baseline.recipe_name)
        cells = target.cells(runs, why=why)
        if runs:
            cells[CLIPS_COLUMN.key] = clips_cell(runs)
        rows.append(Row(baseline.key, baseline.label, cells))
        label = f"MAST - {baseline.label}"
        row, notes = target.difference(f"mast_minus_{baseline.key}", label, mast, runs, why if mast else without_mast)
        differences.append(row)
        tests += notes
    to_paper = paper_difference_row("mast_minus_paper", "MAST - paper", ours, tuple(target.columns))
    return [*rows, *([to_paper] if to_paper else []), *differences], tests


def _paper_clips(target: Target, study: PaperStudy) -> float | None:
    """How many test clips the paper used; None where it does not say."""
    fact = study.clips[1].used
    clips = target.inputs.paper.fact(fact).value if fact else None
    return float(clips) if isinstance(clips, int) else None


def quoted_row(line: QuotedRow, columns: Sequence[Column]) -> Row:
    """A line of somebody else's numbers, as printed; empty where the paper prints "-"."""
    cells = {
        column.key: quoted(line.cells[column.key], column.unit, f"quoted from {line.quoted_from}")
        for column in columns
        if line.cells[column.key] is not None
    }
    return Row(line.key, line.label, cells)
