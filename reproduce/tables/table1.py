"""Table 1: both architectures block by block, the paper's sizes beside those of the models as built."""

from __future__ import annotations

from collections.abc import Sequence

from reproduce.experiments.families import PAPER_MODELS
from reproduce.paper import Layer
from reproduce.records.measured_runs import CostRun
from reproduce.records.selection import cost_of
from reproduce.tables.base import Cell, Column, Row, Table, TableInputs, measured, not_run, register_table
from reproduce.tables.cells import BOTH_COSTS, NOT_MEASURED
from reproduce.tables.conditions import cost_conditions


@register_table("table1", "architecture of both models, block by block", BOTH_COSTS)
def table1(inputs: TableInputs) -> Table:
    """Table 1: tokens, grid and width of the output of every block, beside those of the models as built."""
    costs = {model: cost_of(inputs.records, preset) for model, preset in PAPER_MODELS.items()}
    quantities = (("width", "width"), ("freq", "freq rows"), ("time", "time columns"), ("tokens", "tokens"))
    columns = tuple(
        Column(f"{model}_{key}", f"{model.upper()} {title}", "", 0)
        for model in PAPER_MODELS
        for key, title in quantities
    )
    rows = []
    for line in inputs.paper.architecture.rows:
        cells: dict[str, Cell] = {}
        for model in PAPER_MODELS:
            layer = line.layer(model)
            if layer is not None:
                cells.update(_layer_cells(model, layer, line.blocks, costs[model]))
        rows.append(Row(line.key, line.label, cells))
    return Table(
        "table1",
        inputs.paper.architecture.title,
        columns,
        tuple(rows),
        notes=(
            "Patches only, as in the paper: AST has two more tokens (class, distillation) in its 12 blocks.",
            "Where a row covers several blocks, the measured value is that of all of them.",
        ),
        runs=tuple(cost for cost in costs.values() if cost is not None),
    )


def _layer_cells(model: str, layer: Layer, blocks: Sequence[int], cost: CostRun | None) -> dict[str, Cell]:
    printed = {"width": layer.width, "freq": layer.freq, "time": layer.time, "tokens": layer.tokens}
    present = {key: value for key, value in printed.items() if value is not None}
    if cost is None:
        return {f"{model}_{key}": not_run("", NOT_MEASURED, value) for key, value in present.items()}
    built = _built_layer(layer.kind, blocks, cost)
    where = cost_conditions(cost)
    return {f"{model}_{key}": measured(built[key], "", where, value) for key, value in present.items()}


def _built_layer(kind: str, blocks: Sequence[int], cost: CostRun) -> dict[str, float]:
    """Width and grid of a line of Table 1 in the model as built; ValueError if its blocks differ from each other."""
    mels, frames = cost.input_size
    if kind == "input":
        return {"width": 1, "freq": mels, "time": frames}
    if kind == "head":
        assert isinstance(cost.num_classes, int)  # AudioSet has one head
        return {"width": cost.num_classes}
    names = ["patch embedding"] if kind == "patch_embed" else [f"block {number}" for number in blocks]
    shapes = {(s.tokens, s.freq, s.time, s.width) for s in cost.shapes if s.block in names}
    if len(shapes) != 1:
        raise ValueError(f"blocks {list(blocks)} are one row of Table 1 but leave {sorted(shapes)}")
    tokens, freq, time, width = shapes.pop()
    return {"width": width, "freq": freq, "time": time, "tokens": tokens}
