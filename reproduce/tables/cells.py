"""Cells of costs, times and memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from reproduce.experiments.families import listed
from reproduce.precision import short_name
from reproduce.records.measured_runs import CostRun, ScalingRun, SpeedRun
from reproduce.records.runs import CLOSED_FORM, ModelRun, Run, TrainedRun
from reproduce.tables.base import GIGA, MEGA, Cell, Column, CostRequest, measured, not_run
from reproduce.tables.conditions import cost_conditions

MIB = 2.0**20
SPREAD_NOTE = "± is half the distance between the quartiles, in per cent of the median."
MEMORY_NOTE = (
    "Memory is what is held throughout (weights, and in training AdamW's moments) plus what one call adds to it at its "
    "peak."
)
NOT_MEASURED = "not run: no cost record of this model"

BOTH_COSTS = (CostRequest("ast_base"), CostRequest("mast_base"))
COST_COLUMNS = (
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
    Column("params", "#Params, paper's count", "M", 1),
    Column("params_exact", "#Params, exact", "M", 6),
)
RUN_COST_COLUMNS = (
    Column("params", "#Params", "M", 2),
    Column("macs", "MACs, module-only", "G", 3),
    Column("macs_full", "MACs, full", "G", 3),
)
COUNTING_NOTES = (
    "MACs of one clip, batch 1, 1 x 128 x 1024 (10.24 s), front end not included; 1 MAC = one multiply-add.",
    "module-only is the paper's rule: what ptflops 0.6.9 sees in Linear, Conv, LayerNorm and pooling modules. "
    "It misses the products of attention (Q.K and A.V) and of relative positions, which full includes.",
    "The paper's parameter count of AST includes DeiT's two unused 1000-way heads (1,538,000), as AST's code does.",
)


def counter_notes(runs: Iterable[ModelRun]) -> list[str]:
    """Which counter the MACs of models that are not ours come from; nothing for our own, whose are closed forms."""
    counters: dict[str, list[str]] = {}
    for run in runs:
        if run.macs_by != CLOSED_FORM and run.model not in counters.setdefault(run.macs_by, []):
            counters[run.macs_by].append(run.model)
    return [counter_note(counter, models) for counter, models in counters.items()]


def counter_note(counter: str, models: Sequence[str]) -> str:
    """What a counter counts of these models, and what it leaves out."""
    return (
        f"MACs of {listed(models)}: counted by {counter} with attention unfused, not a closed form. module-only is "
        "every product with weights; norms, biases and poolings, a small part of the others' MACs, are not counted."
    )


def spread_cell(run: Run, metric: str) -> Cell:
    """Half the distance between the quartiles of a metric, in per cent of its median."""
    return spread_of(*(run.metric(f"{metric}{which}") for which in ("_q1", "", "_q3")))


def spread_of(low: float, middle: float, high: float) -> Cell:
    """Half the distance between two quartiles, in per cent of the median."""
    return measured(50.0 * (high - low) / middle, "%", f"quartiles {low:.4g} and {high:.4g} around {middle:.4g}")


def memory_cell(run: Run, where: str) -> Cell:
    """Peak memory in MiB."""
    memory = run.metrics["peak_memory_bytes"]
    if math.isnan(memory):
        return not_run("MiB", "not run: this system does not report the peak memory of a process")
    return measured(memory / MIB, "MiB", where)


def failed_cell(run: ScalingRun | SpeedRun, unit: str, where: str) -> Cell:
    """A measurement that failed, with the reason: "not run: out of memory: ast_base, ..."."""
    return not_run(unit, f"not run: {run.failure}: {where}")


def cost_cells(run: CostRun | None, paper_macs: float | None, paper_params: float | None) -> dict[str, Cell]:
    """Cells of COST_COLUMNS."""
    if run is None:
        return {"macs": not_run("G", NOT_MEASURED, paper_macs), "params": not_run("M", NOT_MEASURED, paper_params)}
    where = cost_conditions(run)
    return {
        "macs": measured(run.metric("macs_module_only") / GIGA, "G", f"{where}, module-only rule", paper_macs),
        "macs_full": measured(run.metric("macs_full") / GIGA, "G", f"{where}, full rule"),
        "params": measured(run.metric("parameters_paper") / MEGA, "M", f"{where}, paper's count", paper_params),
        "params_exact": measured(run.metric("parameters") / MEGA, "M", f"{where}, exact"),
    }


def run_cost_cells(run: TrainedRun, where: str = "") -> dict[str, Cell]:
    """Cells of RUN_COST_COLUMNS: what the trained model costs, from the run itself."""
    size = f"1 x {run.front_end.mels} x {run.front_end.frames}"
    where = where if where and run.macs_by == CLOSED_FORM else f"{where or run.model}, {size}, {run.macs_by}"
    return {
        "params": measured(run.metric("parameters") / MEGA, "M", f"{where}, exact"),
        "macs": measured(run.metric("macs_module_only") / GIGA, "G", f"{where}, module-only rule"),
        "macs_full": measured(run.metric("macs_full") / GIGA, "G", f"{where}, full rule"),
    }


def attention_notes(cases: Iterable[tuple[str, str, str]]) -> list[str]:
    """Say by which paths models computed attention.

    Args:
        cases: (model, precision, paths) of every run; paths are "chunked, sdpa" where blocks differ, "" where unknown.

    Returns:
        One note; none where no path is known.
    """
    precisions: dict[str, dict[str, set[str]]] = {}
    for model, precision, paths in cases:
        if paths:
            by_path = precisions.setdefault(model, {})
            by_path.setdefault(paths.replace(", ", " + "), set()).add(short_name(precision))
    parts = []
    for model, by_path in sorted(precisions.items()):
        if len(by_path) == 1:
            parts.append(f"{model} by {next(iter(by_path))}")
        elif sum(map(len, by_path.values())) == len(set.union(*by_path.values())):
            of = [f"{path} in {' and '.join(sorted(found))}" for path, found in sorted(by_path.items())]
            parts.append(f"{model} by {', by '.join(of)}")
        else:
            parts.append(f"{model} by {' or '.join(sorted(by_path))}, depending on the case")
    return [f"Attention: {'; '.join(parts)}."] if parts else []
