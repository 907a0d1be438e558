"""Tables 2 to 4: accuracies on Kinetics-Sounds, VGGSound and EPIC-KITCHENS-100.

The paper's "AST [28]" there is MBT's audio branch: quoted, never measured. An AST trained here under MAST's own
protocol has its own row below the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reproduce.experiments.paper_studies import PaperStudy, studies_of
from reproduce.paper import QuotedRow
from reproduce.tables.base import Column, Row, Table, TableInputs, quoted, register_table
from reproduce.tables.blocks import demo_blocks, demo_note, other_runs_blocks, present, selection_block
from reproduce.tables.conditions import run_conditions
from reproduce.tables.score_cells import CLIPS_COLUMN, clips_cell, interval_notes, paper_difference_row
from reproduce.tables.scores import Runs
from reproduce.tables.target import Target

RECIPE = "mast"  # the paper's protocol, for both models
OWN_AST = "AST, MAST's protocol"
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
    runs = {family: target.runs(family, study.variant, RECIPE) for family in ("ast", "mast")}
    rows, tests = _rows(target, study, printed.rows, runs)
    ours = next(row.label for row in printed.rows if row.measured_as == "mast")
    measured_rows = ((ours, runs["mast"]), (OWN_AST, runs["ast"]))
    demo = demo_blocks(target)
    notes = [
        *(f"{line.label}: {line.note}" for line in printed.rows if line.note),
        *([remark] if remark else []),
        *(f"{label}: {run_conditions(*group)}." for label, group in measured_rows if group),
        *tests,
        *interval_notes(rows, columns, (*runs["mast"], *runs["ast"])),
        *([] if demo else [demo_note(target)]),
    ]
    blocks = present(
        selection_block(target, measured_rows, name),
        *other_runs_blocks(target, (*runs["mast"], *runs["ast"])),
        *demo,
    )
    used = (*runs["mast"], *runs["ast"])
    shown = (*columns, CLIPS_COLUMN)
    return Table(name, printed.title, shown, tuple(rows), notes=tuple(notes), blocks=blocks, runs=used)


def _rows(
    target: Target, study: PaperStudy, lines: Sequence[QuotedRow], runs: Mapping[str, Runs]
) -> tuple[list[Row], list[str]]:
    """The paper's lines, AST under MAST's protocol and the differences; and the notes of the tests."""
    why = {family: target.not_run(family, study.variant, RECIPE) for family in runs}
    rows = []
    for line in lines:
        if line.measured_as:
            cells = target.cells(runs["mast"], line.cells, why["mast"])
            if runs["mast"]:
                cells[CLIPS_COLUMN.key] = clips_cell(runs["mast"], _paper_clips(target, study))
            ours = Row(line.key, line.label, cells)
            rows.append(ours)
        else:
            rows.append(quoted_row(line, tuple(target.columns)))
    cells_of_ast = target.cells(runs["ast"], why=why["ast"])
    if runs["ast"]:
        cells_of_ast[CLIPS_COLUMN.key] = clips_cell(runs["ast"])
    rows.append(Row("ast_same_protocol", OWN_AST, cells_of_ast))
    to_paper = paper_difference_row("mast_minus_paper", "MAST - paper", ours, tuple(target.columns))
    missing = why["ast"] if runs["mast"] else why["mast"]
    difference, tests = target.difference("mast_minus_ast", "MAST - AST", runs["mast"], runs["ast"], missing)
    return [*rows, *([to_paper] if to_paper else []), difference], tests


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
