"""AudioSet: Table 5 and the pooling ablations. Costs are measured live, mAP comes from paper-scale records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.experiments import POOLING_ABLATIONS
from reproduce.paper import Row as PaperRow
from reproduce.records import RunRecord, number
from reproduce.selection import canonical_config, cost_of, demo_groups, paper_runs
from reproduce.tables.base import (
    GIGA,
    MEGA,
    PAPER_MODELS,
    PAPER_ONLY,
    POINTS,
    Cell,
    Column,
    CostRequest,
    Row,
    Table,
    TableInputs,
    measured,
    ratio_row,
    register_table,
    run_conditions,
)
from reproduce.tables.comparison import class_notes, problem_notes, protocol_notes, run_title
from reproduce.tables.cost_cells import BOTH_COSTS, COST_COLUMNS, COUNTING_NOTES, cost_cells, cost_conditions
from reproduce.tables.run_blocks import (
    CLIPS_COLUMN,
    RUN_COST_COLUMNS,
    Target,
    demo_blocks,
    demo_note,
    demo_runs,
    other_runs_block,
    run_cost_cells,
    selection_block,
)
from reproduce.tables.run_scores import (
    Runs,
    RunScores,
    clips_cell,
    difference_row,
    interval_notes,
    paper_difference_row,
)

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
        other_runs_block(target, inputs, used, scores, lambda record: not _is_pooling_ablation(record)),
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


def _measured_rows(inputs: TableInputs, lines: Sequence[PaperRow], protocols: Sequence[str]) -> dict[str, MeasuredRow]:
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
                p: paper_runs(inputs.records, PAPER_MODELS[model], DATASET, p, recipe_name=recipe_name)
                for p in protocols
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


def _is_pooling_ablation(record: RunRecord) -> bool:
    """Whether the model's pooling was changed: such a run belongs to the ablations, not to Table 5."""
    return "pool_strides" in canonical_config(record.experiment["model"], record.experiment["model_config"])


# --- the pooling ablations ------------------------------------------------------------------------------------------


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
        line.key: paper_runs(inputs.records, PAPER_MODELS["mast"], DATASET, "balanced", _ablation_config(line.key))
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
    others = other_runs_block(
        target, inputs, used, scores, lambda r: _is_pooling_ablation(r) and r.dataset["protocol"] == "balanced"
    )
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


def _dearer_than_ast(label: str, cost: RunRecord, ast: RunRecord | None) -> tuple[str, list[str]]:
    """The label, marked where the variant costs more than AST, and the warning that goes before the table's notes."""
    times = number(cost.metrics["macs_module_only"]) / number(ast.metrics["macs_module_only"]) if ast else 0.0
    if times <= 1:
        return label, []
    warning = (
        f'Warning: "{label}" costs {times:.2f} times AST\'s MACs (module-only); train it with activation checkpointing.'
    )
    return f"{label} (dearer than AST)", [warning]


def _ablation_cost_cells(record: RunRecord) -> dict[str, Cell]:
    where, metrics = cost_conditions(record), record.metrics
    cells = {
        key: measured(number(metrics[name]) / GIGA, "G", where)
        for key, name in (
            ("macs", "macs_module_only"),
            ("macs_ptflops_0_7", "macs_ptflops_0_7"),
            ("macs_full", "macs_full"),
        )
    }
    cells["params_exact"] = measured(number(metrics["parameters"]) / MEGA, "M", where)
    cells["last_tokens"] = measured(record.details["shapes"][-1][1], "", where)
    return cells


def _demo_ablation_blocks(
    target: Target, inputs: TableInputs, scores: RunScores, labels: Mapping[str, str]
) -> tuple[Table, ...]:
    """The variants at demo scale, a block for each condition under which more than MAST itself was run."""
    blocks: list[Table] = []
    for group in demo_groups(inputs.records, DATASET):
        if any(_is_pooling_ablation(record) for record in group):
            blocks.append(_demo_ablation_block(target, group, f"ablations demo {len(blocks) + 1}", scores, labels))
    return tuple(blocks)


def _demo_ablation_block(
    target: Target, group: Sequence[RunRecord], name: str, scores: RunScores, labels: Mapping[str, str]
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
        model = plain["ast"][0].experiment["model"]
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
