"""AudioSet: Table 5 and the pooling ablations, costs measured live, mAP from paper-scale records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reproduce.experiments import POOLING_ABLATIONS
from reproduce.paper import Row as PaperRow
from reproduce.records import RunRecord, number
from reproduce.selection import cost_of, paper_run
from reproduce.tables.base import (
    GIGA,
    MEASURED,
    MEGA,
    NOT_RUN,
    PAPER_MODELS,
    PAPER_ONLY,
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
from reproduce.tables.cost_cells import BOTH_COSTS, COST_COLUMNS, COUNTING_NOTES, cost_cells, cost_conditions


@register_table("table5", "AudioSet: costs measured live, accuracies from paper-scale records", BOTH_COSTS)
def table5(inputs: TableInputs) -> Table:
    """Table 5: mAP on balanced and full AudioSet, MACs and parameters."""
    quoted = inputs.paper.table("table5")
    accuracy_columns = tuple(
        Column(c.key, f"mAP, {c.title.lower()}", c.unit, c.decimals) for c in quoted.columns if c.unit == "%"
    )
    columns = (*accuracy_columns, *COST_COLUMNS)
    rows = []
    for line in quoted.rows:
        cells: dict[str, Cell] = {}
        for column in accuracy_columns:
            cells.update(_paper_accuracy_cell(inputs, line, column, dataset="audioset"))
        if line.measured_as:
            record = cost_of(inputs.records, PAPER_MODELS[line.measured_as])
            cells.update(cost_cells(record, line.cells["macs"], line.cells["params"]))
        else:
            for key, unit in (("macs", "G"), ("params", "M")):
                if line.cells[key] is not None:
                    where = "printed in Table 5: the paper's own count of AST's code"
                    cells[key] = Cell(line.cells[key], None, unit, PAPER_ONLY, where)
        rows.append(Row(line.key, line.label, cells))
    by_key = {row.key: row.cells for row in rows}
    rows.append(ratio_row("AST : MAST", by_key["ast_our_as"], by_key["mast"], COST_COLUMNS))
    return Table("table5", quoted.title, columns, tuple(rows), notes=COUNTING_NOTES)


def _paper_accuracy_cell(inputs: TableInputs, line: PaperRow, column: Column, dataset: str) -> dict[str, Cell]:
    """The cell of one accuracy column, by key; empty where neither the paper nor we have a number."""
    quoted = line.cells[column.key]
    if not line.measured_as:
        cell = Cell(quoted, None, column.unit, PAPER_ONLY, f"quoted from {line.quoted_from}")
        return {column.key: cell} if quoted is not None else {}
    model = PAPER_MODELS[line.measured_as]
    record = paper_run(inputs.records, model, dataset, protocol=column.key)
    if record is None:
        why = f"not run: no paper-scale record of {model} on {dataset} ({column.key}) under {inputs.records_dir}"
        return {column.key: Cell(quoted, None, column.unit, NOT_RUN, why)}
    return {column.key: _map_cell(quoted, record, column.unit)}


def _map_cell(quoted: float | None, record: RunRecord, unit: str) -> Cell:
    """mAP of a paper-scale record, unless it scored NaN."""
    score = record.metrics["map"]
    if score is None:
        return Cell(quoted, None, unit, NOT_RUN, f"not run: record {record.key} holds no mAP (it was not a number)")
    return Cell(quoted, float(score), unit, MEASURED, run_conditions(record), n=record.dataset["test_kept"])


def _ablation_config(variant: str) -> dict[str, Any]:
    """The variant "mast" is the model itself, so that its records serve Table 5 and the ablations alike."""
    return {} if variant == "mast" else {"pool_strides": POOLING_ABLATIONS[variant]}


ABLATION_COSTS = (
    CostRequest("ast_base"),
    *(CostRequest("mast_base", _ablation_config(variant)) for variant in POOLING_ABLATIONS),
)


@register_table(
    "ablations", "MAST's pooling variants: costs measured live, mAP from paper-scale records", ABLATION_COSTS
)
def ablations(inputs: TableInputs) -> Table:
    """The five pooling variants of sec. 4 on balanced AudioSet, with what each costs."""
    quoted = inputs.paper.table("ablations")
    accuracy = quoted.column("map")
    columns = (
        Column(accuracy.key, "mAP, balanced AudioSet", accuracy.unit, accuracy.decimals),
        Column("last_tokens", "tokens, last stage", "", 0),
        Column("macs", "MACs, module-only", "G", 1),
        Column("macs_ptflops_0_7", "MACs, ptflops 0.7 rule", "G", 1),
        Column("macs_full", "MACs, full", "G", 1),
        Column("params_exact", "#Params, exact", "M", 3),
    )
    ast = cost_of(inputs.records, "ast_base")
    rows, warnings = [], []
    for line in quoted.rows:
        config = _ablation_config(line.key)
        cells = _ablation_accuracy(inputs, line, accuracy.unit, config)
        cost = cost_of(inputs.records, "mast_base", config)
        if cost is not None:
            cells |= _ablation_cost_cells(cost)
            times = _cost_ratio(cost, ast) if ast is not None else 0.0
            if times > 1:
                warnings.append(
                    f'Warning: "{line.label}" costs {times:.2f} times AST\'s MACs (module-only); '
                    "train it with activation checkpointing."
                )
        rows.append(Row(line.key, line.label, cells))
    if ast is not None:
        rows.append(Row("ast", "AST, for comparison", _ablation_cost_cells(ast)))
    notes = (
        "Widths double at blocks 2, 5 and 21 even where the pooling is removed; key/value strides follow FAIR's rule.",
        "The ptflops 0.7 rule adds a Linear's bias at every position to the module-only rule.",
    )
    return Table("ablations", quoted.title, columns, tuple(rows), notes=(*notes, *warnings))


def _cost_ratio(first: RunRecord, second: RunRecord) -> float:
    """Module-only MACs of one model over another's."""
    return number(first.metrics["macs_module_only"]) / number(second.metrics["macs_module_only"])


def _ablation_accuracy(inputs: TableInputs, line: PaperRow, unit: str, config: Mapping[str, Any]) -> dict[str, Cell]:
    record = paper_run(inputs.records, "mast_base", "audioset", protocol="balanced", model_config=config)
    if record is not None:
        return {"map": _map_cell(line.cells["map"], record, unit)}
    why = f"not run: no paper-scale record of this variant on audioset (balanced) under {inputs.records_dir}"
    return {"map": Cell(line.cells["map"], None, unit, NOT_RUN, why)}


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
