"""Cells that hold words: verdicts, and settings such as an optimizer's name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reproduce.records.runs import CostRun, Run, ScalingRun, SpeedRun
from reproduce.tables.base import GIGA, MEGA, NOT_RUN, Cell, Column, CostRequest, measured


@dataclass(frozen=True)
class TextCell(Cell):
    """A cell that shows `text`, and has no number. `status` may carry a tag that the text abbreviates."""

    text: str = ""


def text_cell(text: str, status: str, conditions: str = "") -> TextCell:
    """`text` as a cell; `status` and `conditions` go to JSON and CSV beside it."""
    return TextCell(None, None, "", status, conditions, text=text)


MIB = 2.0**20
SPREAD_NOTE = "± is half the distance between the quartiles, in per cent of the median."
MEMORY_NOTE = "Memory is what stays (weights, and in training AdamW's moments) and what a call adds to it at its peak."


def spread_cell(record: Run, metric: str) -> Cell:
    """Half the distance between the quartiles of a metric, in per cent of its median."""
    low, high = record.metric(f"{metric}_q1"), record.metric(f"{metric}_q3")
    middle = record.metric(metric)
    return measured(50.0 * (high - low) / middle, "%", f"quartiles {low:.4g} and {high:.4g} around {middle:.4g}")


def memory_cell(record: Run, where: str) -> Cell:
    """Peak memory in MiB."""
    memory = record.metrics["peak_memory_bytes"]
    if math.isnan(memory):
        return Cell(None, None, "MiB", NOT_RUN, "not run: this system does not tell a process's peak memory")
    return measured(memory / MIB, "MiB", where)


def failed_cell(record: ScalingRun | SpeedRun, unit: str, where: str) -> Cell:
    """For a measurement that broke off, by name: "not run: out of memory: ast_base, ..."."""
    return Cell(None, None, unit, NOT_RUN, f"not run: {record.failure}: {where}")


BOTH_COSTS = (CostRequest("ast_base"), CostRequest("mast_base"))
COST_COLUMNS = (
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
    Column("params", "#Params, paper's count", "M", 1),
    Column("params_exact", "#Params, exact", "M", 6),
)


COUNTING_NOTES = (
    "MACs of one clip, batch 1, 1 x 128 x 1024 (10.24 s), front end not included; 1 MAC = one multiply-add.",
    "module-only is the paper's rule: what ptflops 0.6.9 sees in Linear, Conv, LayerNorm and pooling modules. "
    "It misses the products of attention (Q.K and A.V) and of relative positions, which full includes.",
    "The paper's parameter count of AST includes DeiT's two unused 1000-way heads (1,538,000), as AST's code does.",
)


def cost_conditions(record: CostRun) -> str:
    """What a cost cell was measured under, in one line."""
    mels, frames = record.input_size
    return f"{record.described_model}, 1 x {mels} x {frames}, {record.num_classes} classes, closed form"


def cost_cells(record: CostRun | None, paper_macs: float | None, paper_params: float | None) -> dict[str, Cell]:
    """Cells of COST_COLUMNS."""
    if record is None:
        missing = "not measured in this process"
        return {
            "macs": Cell(paper_macs, None, "G", NOT_RUN, missing),
            "params": Cell(paper_params, None, "M", NOT_RUN, missing),
        }
    where = cost_conditions(record)
    return {
        "macs": measured(record.metric("macs_module_only") / GIGA, "G", f"{where}, module-only rule", paper_macs),
        "macs_full": measured(record.metric("macs_full") / GIGA, "G", f"{where}, full rule"),
        "params": measured(record.metric("parameters_paper") / MEGA, "M", f"{where}, paper's count", paper_params),
        "params_exact": measured(record.metric("parameters") / MEGA, "M", f"{where}, exact"),
    }
