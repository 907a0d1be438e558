"""The pooling ablations: accuracies from paper-scale records, costs of these very models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.families import PAPER_MODELS
from reproduce.experiments.paper_studies import studies_of
from reproduce.paper import QuotedRow
from reproduce.records.measured_runs import CostRun
from reproduce.records.runs import Run, TrainedRun
from reproduce.records.selection import cost_of, demo_groups, paper_runs
from reproduce.tables.base import (
    GIGA,
    MEGA,
    POINTS,
    Cell,
    Column,
    CostRequest,
    Row,
    Table,
    TableInputs,
    measured,
    not_run,
    register_table,
)
from reproduce.tables.blocks import (
    demo_cells,
    demo_note,
    demo_runs,
    other_runs_blocks,
    present,
    selection_block,
)
from reproduce.tables.cells import RUN_COST_COLUMNS, cost_conditions
from reproduce.tables.conditions import run_conditions
from reproduce.tables.notes import class_notes, problem_notes, protocol_notes, run_title, standin_notes
from reproduce.tables.score_cells import CLIPS_COLUMN, clips_cell, interval_notes, paper_difference_row
from reproduce.tables.scores import Runs
from reproduce.tables.table5 import MAP
from reproduce.tables.target import Target

NAME = "ablations"
TO_PAPER = Column("map_minus_paper", "measured - paper", POINTS, 1)
TO_MAST = Column("map_minus_mast", "variant - MAST", POINTS, 1)
COLUMNS_AFTER_MAP = (
    TO_PAPER,
    TO_MAST,
    CLIPS_COLUMN,
    Column("last_tokens", "tokens, last stage", "", 0),
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_ptflops_0_7", "MACs, ptflops 0.7 rule", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
    Column("params_exact", "#Params, exact", "M", 3),
)
NOTES = (
    "Widths double at blocks 2, 5 and 21 even where the pooling is removed; key/value strides follow FAIR's rule.",
    "The ptflops 0.7 rule adds a Linear's bias at every position to the module-only rule.",
)


def _config(variant: str) -> dict[str, Any]:
    """The variant "mast" is the model itself, so that its records serve Table 5 and the ablations alike."""
    return {} if variant == "mast" else {"pool_strides": POOLING_ABLATIONS[variant]}


COSTS = (CostRequest("ast_base"), *(CostRequest("mast_base", _config(variant)) for variant in POOLING_ABLATIONS))


@register_table(NAME, "MAST's pooling variants: costs of these very models, mAP from paper-scale records", COSTS)
def ablations(inputs: TableInputs) -> Table:
    """The five pooling variants of sec. 4 on balanced AudioSet, with the costs of each."""
    printed = inputs.paper.table(NAME)
    (study,) = studies_of(NAME)
    quoted_map = printed.column("map")
    accuracy = Column("map", "mAP, balanced AudioSet", quoted_map.unit, quoted_map.decimals)
    target = Target(name=NAME, dataset=study.dataset, columns={accuracy: "map"}, inputs=inputs)
    runs: dict[str, Runs] = {
        line.key: paper_runs(
            inputs.records,
            PAPER_MODELS["mast"],
            study.dataset,
            variant=study.variant,
            model_config=_config(line.key),
        )
        for line in printed.rows
    }
    rows, warnings, tests = _rows(target, printed.rows, runs, study.variant)
    used = [run for group in runs.values() for run in group]
    demo = _demo_blocks(target, {line.key: line.label for line in printed.rows})
    notes = (
        *warnings,
        *NOTES,
        *(f"{line.label}: {run_conditions(*runs[line.key])}." for line in printed.rows if runs[line.key]),
        *tests,
        *interval_notes(rows, target.columns, used),
        *([] if demo else [demo_note(target, "the five variants")]),
    )
    blocks = present(
        selection_block(target, [(line.label, runs[line.key]) for line in printed.rows], NAME),
        *other_runs_blocks(target, used, lambda run: run.pooling_changed and run.variant == study.variant),
        *demo,
    )
    columns = (accuracy, *COLUMNS_AFTER_MAP)
    return Table(NAME, printed.title, columns, tuple(rows), notes=notes, blocks=blocks, runs=tuple(used))


def _rows(
    target: Target, lines: Sequence[QuotedRow], runs: Mapping[str, Runs], variant: str
) -> tuple[list[Row], list[str], list[str]]:
    """A row per variant and one of AST's costs; the warnings of dear variants; the notes of the tests."""
    records = target.inputs.records
    ast = cost_of(records, PAPER_MODELS["ast"])
    why = (
        f'not run: no paper-scale record of this variant on {target.dataset} ({variant}) by recipe "mast" under '
        f"{target.inputs.records_dir}: {target.fill_with()}"
    )
    rows, warnings, tests = [], list[str](), list[str]()
    for line in lines:
        cells = target.cells(runs[line.key], line.cells, why)
        differences, notes = _differences(target, line, cells["map"], runs)
        cells |= differences
        tests += notes
        cost, label = cost_of(records, PAPER_MODELS["mast"], _config(line.key)), line.label
        if cost is not None:
            cells |= _cost_cells(cost)
            label, warning = _marked(label, cost, ast)
            warnings += warning
        rows.append(Row(line.key, label, cells))
    if ast is not None:
        rows.append(Row("ast", "AST, for comparison", _cost_cells(ast)))
    return rows, warnings, tests


def _differences(
    target: Target, line: QuotedRow, cell: Cell, runs: Mapping[str, Runs]
) -> tuple[dict[str, Cell], list[str]]:
    """A variant against the paper and, on the same clips, against MAST, and its coverage; and the tests' notes."""
    if cell.measured is None:
        return {}, []
    (accuracy,) = target.columns
    cells = {CLIPS_COLUMN.key: clips_cell(runs[line.key])}
    to_paper = paper_difference_row("", "", Row("", "", {accuracy.key: cell}), (accuracy,))
    if to_paper:
        cells[TO_PAPER.key] = to_paper.cells[accuracy.key]
    if line.key == "mast" or not runs["mast"]:
        return cells, []
    row, notes = target.difference("", f"{line.label} - MAST", runs[line.key], runs["mast"])
    return {**cells, TO_MAST.key: row.cells[accuracy.key]}, notes


def _marked(label: str, cost: Run, ast: Run | None) -> tuple[str, list[str]]:
    """The label, marked where the variant has more MACs than AST, and the warning that precedes the table's notes."""
    times = cost.metric("macs_module_only") / ast.metric("macs_module_only") if ast else 0.0
    if times <= 1:
        return label, []
    warning = (
        f'Warning: "{label}" has {times:.2f} times the MACs of AST (module-only); train it with activation '
        "checkpointing."
    )
    return f"{label} (more MACs than AST)", [warning]


def _cost_cells(run: CostRun) -> dict[str, Cell]:
    where = cost_conditions(run)
    rules = ("macs", "macs_module_only"), ("macs_ptflops_0_7", "macs_ptflops_0_7"), ("macs_full", "macs_full")
    return {
        **{key: measured(run.metric(metric) / GIGA, "G", where) for key, metric in rules},
        "params_exact": measured(run.metric("parameters") / MEGA, "M", where),
        "last_tokens": measured(run.shapes[-1].tokens, "", where),
    }


def _demo_blocks(target: Target, labels: Mapping[str, str]) -> tuple[Table, ...]:
    """The variants at demo scale: a block for each condition under which more than MAST itself was run."""
    demo = Target(name=NAME, dataset=target.dataset, columns={MAP: "map"}, inputs=target.inputs)
    groups = demo_groups(target.inputs.records, target.dataset)
    groups = [group for group in groups if any(run.pooling_changed for run in group)]
    return tuple(_demo_block(demo, group, f"{NAME} demo {n}", labels) for n, group in enumerate(groups, start=1))


def _demo_block(target: Target, group: Sequence[TrainedRun], name: str, labels: Mapping[str, str]) -> Table:
    ast = demo_runs(group).get("ast", [])
    variants = {key: demo_runs(group, _config(key)).get("mast", []) for key in labels}
    rows, warnings, tests = [], list[str](), list[str]()
    for variant, label in labels.items():
        runs = variants[variant]
        if not runs:
            why = f"not run at demo scale: python -m reproduce {target.name} --preset demo"
            rows.append(Row(variant, label, {MAP.key: not_run(MAP.unit, why)}))
            continue
        cells = demo_cells(target, runs)
        if variant != "mast" and variants["mast"] and not group[0].standin:
            row, against_mast = target.difference("", f"{label} - MAST", runs, variants["mast"])
            cells[TO_MAST.key] = row.cells[MAP.key]
            tests += against_mast
        marked, warning = _marked(label, runs[0], ast[0] if ast else None)
        warnings += warning
        rows.append(Row(variant, marked, cells))
    if ast:
        rows.append(Row("ast", f"{ast[0].model}, for comparison", demo_cells(target, ast)))
    notes = (
        *standin_notes(group),
        *warnings,
        *tests,
        *protocol_notes(group),
        *interval_notes(rows, target.columns, group),
        *class_notes(group),
        *problem_notes(group),
    )
    selections = selection_block(target, [(labels[key], runs) for key, runs in variants.items()], name)
    columns = (MAP, TO_MAST, CLIPS_COLUMN, *RUN_COST_COLUMNS)
    blocks, runs_behind = present(selections), tuple(group)
    return Table(name, run_title(group), columns, tuple(rows), notes=notes, blocks=blocks, runs=runs_behind)
