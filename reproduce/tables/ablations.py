"""The pooling ablations: accuracies from paper-scale records, costs measured live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.families import PAPER_MODELS
from reproduce.paper import Row as PaperRow
from reproduce.records.runs import CostRun, Run, TrainedRun
from reproduce.records.selection import cost_of, demo_groups, paper_runs
from reproduce.tables.audioset import DATASET, MAP, METRIC
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
    register_table,
    run_conditions,
)
from reproduce.tables.blocks import (
    CLIPS_COLUMN,
    RUN_COST_COLUMNS,
    Target,
    demo_runs,
    other_runs_block,
    run_cost_cells,
    selection_block,
)
from reproduce.tables.cells import cost_conditions
from reproduce.tables.notes import class_notes, problem_notes, protocol_notes, run_title
from reproduce.tables.scores import Runs, RunScores, clips_cell, difference_row, interval_notes, paper_difference_row


def _ablation_config(variant: str) -> dict[str, Any]:
    """The variant "mast" is the model itself, so that its records serve Table 5 and the ablations alike."""
    return {} if variant == "mast" else {"pool_strides": POOLING_ABLATIONS[variant]}


ABLATION_COSTS = (
    CostRequest("ast_base"),
    *(CostRequest("mast_base", _ablation_config(variant)) for variant in POOLING_ABLATIONS),
)


TO_PAPER = Column("map_minus_paper", "measured - paper", POINTS, 1)
TO_MAST = Column("map_minus_mast", "variant - MAST", POINTS, 1)


@register_table(
    "ablations", "MAST's pooling variants: costs measured live, mAP from paper-scale records", ABLATION_COSTS
)
def ablations(inputs: TableInputs) -> Table:
    """The five pooling variants of sec. 4 on balanced AudioSet, with what each costs."""
    quoted = inputs.paper.table("ablations")
    accuracy = Column("map", "mAP, balanced AudioSet", quoted.column("map").unit, quoted.column("map").decimals)
    target, scores = Target("ablations", DATASET, {accuracy: METRIC}), RunScores(inputs.records_dir)
    runs = {
        line.key: paper_runs(
            inputs.records,
            PAPER_MODELS["mast"],
            DATASET,
            variant="balanced",
            model_config=_ablation_config(line.key),
        )
        for line in quoted.rows
    }
    ast = cost_of(inputs.records, PAPER_MODELS["ast"])
    rows, warnings = [], []
    tests: list[str] = []
    for line in quoted.rows:
        why = (
            f'not run: no paper-scale record of this variant on {DATASET} (balanced) by recipe "mast" under '
            f"{inputs.records_dir}: {target.fill_with()}"
        )
        cells = {"map": scores.cell(runs[line.key], accuracy, METRIC, line.cells["map"], why)}
        cells |= _ablation_differences(line, cells["map"], runs, accuracy, scores, tests)
        cost = cost_of(inputs.records, PAPER_MODELS["mast"], _ablation_config(line.key))
        label = line.label
        if cost is not None:
            cells |= _ablation_cost_cells(cost)
            label, warning = _dearer_than_ast(label, cost, ast)
            warnings += warning
        rows.append(Row(line.key, label, cells))
    if ast is not None:
        rows.append(Row("ast", "AST, for comparison", _ablation_cost_cells(ast)))
    demo = _demo_ablation_blocks(target, inputs, scores, {line.key: line.label for line in quoted.rows})
    used = [record for group in runs.values() for record in group]
    others = other_runs_block(target, inputs, used, scores, lambda r: r.pooling_changed and r.variant == "balanced")
    notes = (
        *warnings,
        "Widths double at blocks 2, 5 and 21 even where the pooling is removed; key/value strides follow FAIR's rule.",
        "The ptflops 0.7 rule adds a Linear's bias at every position to the module-only rule.",
        *(f"{line.label}: {run_conditions(*runs[line.key])}." for line in quoted.rows if runs[line.key]),
        *tests,
        *interval_notes(rows, target.columns),
        *([] if demo else [_demo_ablations_note(target)]),
    )
    columns = (
        accuracy,
        TO_PAPER,
        TO_MAST,
        CLIPS_COLUMN,
        Column("last_tokens", "tokens, last stage", "", 0),
        Column("macs", "MACs, module-only", "G", 1),
        Column("macs_ptflops_0_7", "MACs, ptflops 0.7 rule", "G", 1),
        Column("macs_full", "MACs, full", "G", 1),
        Column("params_exact", "#Params, exact", "M", 3),
    )
    selections = selection_block(target, [(line.label, runs[line.key]) for line in quoted.rows], "ablations")
    blocks = (selections, others, *demo)
    return Table(
        "ablations", quoted.title, columns, tuple(rows), notes, tuple(block for block in blocks if block is not None)
    )


def _demo_ablations_note(target: Target) -> str:
    return (
        f"Demo scale: no record; python -m reproduce {target.name} --preset demo trains the five variants on the "
        "synthetic stand-in and puts them in a block of their own."
    )


def _ablation_differences(
    line: PaperRow, cell: Cell, runs: Mapping[str, Runs], accuracy: Column, scores: RunScores, tests: list[str]
) -> dict[str, Cell]:
    """A variant against the paper and, on the same clips, against MAST, and its coverage; adds the tests' notes."""
    if cell.measured is None:
        return {}
    cells = {CLIPS_COLUMN.key: clips_cell(runs[line.key])}
    to_paper = paper_difference_row("", "", Row("", "", {accuracy.key: cell}), (accuracy,))
    if to_paper:
        cells[TO_PAPER.key] = to_paper.cells[accuracy.key]
    if line.key != "mast" and runs["mast"]:
        label = f"{line.label} - MAST"
        row, notes = difference_row("", label, runs[line.key], runs["mast"], {accuracy: METRIC}, scores, "")
        cells[TO_MAST.key] = row.cells[accuracy.key]
        tests += notes
    return cells


def _dearer_than_ast(label: str, cost: Run, ast: Run | None) -> tuple[str, list[str]]:
    """The label, marked where the variant costs more than AST, and the warning that goes before the table's notes."""
    times = cost.metric("macs_module_only") / ast.metric("macs_module_only") if ast else 0.0
    if times <= 1:
        return label, []
    warning = (
        f'Warning: "{label}" costs {times:.2f} times AST\'s MACs (module-only); train it with activation checkpointing.'
    )
    return f"{label} (dearer than AST)", [warning]


def _ablation_cost_cells(record: CostRun) -> dict[str, Cell]:
    where = cost_conditions(record)
    cells = {
        key: measured(record.metric(name) / GIGA, "G", where)
        for key, name in (
            ("macs", "macs_module_only"),
            ("macs_ptflops_0_7", "macs_ptflops_0_7"),
            ("macs_full", "macs_full"),
        )
    }
    cells["params_exact"] = measured(record.metric("parameters") / MEGA, "M", where)
    cells["last_tokens"] = measured(record.shapes[-1].tokens, "", where)
    return cells


def _demo_ablation_blocks(
    target: Target, inputs: TableInputs, scores: RunScores, labels: Mapping[str, str]
) -> tuple[Table, ...]:
    """The variants at demo scale, a block for each condition under which more than MAST itself was run."""
    blocks: list[Table] = []
    for group in demo_groups(inputs.records, DATASET):
        if any(run.pooling_changed for run in group):
            blocks.append(_demo_ablation_block(target, group, f"ablations demo {len(blocks) + 1}", scores, labels))
    return tuple(blocks)


def _demo_ablation_block(
    target: Target, group: Sequence[TrainedRun], name: str, scores: RunScores, labels: Mapping[str, str]
) -> Table:
    plain = demo_runs(group)
    variants: dict[str, Runs] = {key: demo_runs(group, _ablation_config(key)).get("mast", []) for key in labels}
    rows, warnings, tests = [], [], []
    for variant, label in labels.items():
        runs = variants[variant]
        if not runs:
            why = f"not run at demo scale: python -m reproduce {target.name} --preset demo"
            rows.append(Row(variant, label, {MAP.key: scores.cell([], MAP, METRIC, why=why)}))
            continue
        cells = _demo_ablation_cells(runs, scores)
        if variant != "mast" and variants["mast"]:
            row, notes = difference_row("", f"{label} - MAST", runs, variants["mast"], {MAP: METRIC}, scores, "")
            cells[TO_MAST.key] = row.cells[MAP.key]
            tests += notes
        marked, warning = _dearer_than_ast(label, runs[0], plain["ast"][0] if "ast" in plain else None)
        warnings += warning
        rows.append(Row(variant, marked, cells))
    if "ast" in plain:
        model = plain["ast"][0].model
        rows.append(Row("ast", f"{model}, for comparison", _demo_ablation_cells(plain["ast"], scores)))
    intervals = interval_notes(rows, {MAP: METRIC})
    selections = selection_block(target, [(labels[key], runs) for key, runs in variants.items()], name)
    return Table(
        name,
        run_title(group),
        (MAP, TO_MAST, CLIPS_COLUMN, *RUN_COST_COLUMNS),
        tuple(rows),
        notes=(
            *warnings,
            *tests,
            *protocol_notes(group),
            *intervals,
            *class_notes(group),
            *problem_notes(group),
        ),
        blocks=() if selections is None else (selections,),
    )


def _demo_ablation_cells(runs: Runs, scores: RunScores) -> dict[str, Cell]:
    return {
        MAP.key: scores.cell(runs, MAP, METRIC),
        CLIPS_COLUMN.key: clips_cell(runs),
        **run_cost_cells(runs[0]),
    }
