"""The target `scaling`: MACs, latency and peak memory of both models against clip length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from reproduce.experiments.families import LENGTHS_S, PAPER_MODELS, PAPER_SECONDS
from reproduce.records.runs import ScalingRun
from reproduce.tables.base import GIGA, Cell, Column, Row, Table, TableInputs, measured, not_run, register_table
from reproduce.tables.cells import MEMORY_NOTE, SPREAD_NOTE, failed_cell, memory_cell, spread_cell
from reproduce.tables.conditions import attention_text

COMMAND = "python -m reproduce scaling"
MACS_COLUMNS = (
    Column("ast_module_only", "AST, module-only", "G", 1),
    Column("mast_module_only", "MAST, module-only", "G", 1),
    Column("ratio_module_only", "AST : MAST", "x", 2),
    Column("ast_full", "AST, full", "G", 1),
    Column("mast_full", "MAST, full", "G", 1),
    Column("ratio_full", "AST : MAST", "x", 2),
)


DEVICE_COLUMNS = (
    Column("ast_ms", "AST", "ms", 1),
    Column("ast_spread", "±", "%", 1),
    Column("mast_ms", "MAST", "ms", 1),
    Column("mast_spread", "±", "%", 1),
    Column("ratio_ms", "AST : MAST, time", "x", 2),
    Column("ratio_spread", "±", "%", 1),
    Column("ast_mib", "AST, peak", "MiB", 0),
    Column("mast_mib", "MAST, peak", "MiB", 0),
    Column("ratio_mib", "AST : MAST, peak", "x", 2),
)


Pair = tuple[ScalingRun | None, ScalingRun | None]


@register_table("scaling", "MACs, latency and memory of both models for clips of 1 to 60 s")
def scaling(inputs: TableInputs) -> Table:
    """MACs of the paper's models by clip length; a block per machine with what was measured there."""
    records = list(inputs.records.newest(ScalingRun))
    paper = [record for record in records if record.model in PAPER_MODELS.values()]
    why = f"not run: no scaling record under {inputs.records_dir}: {COMMAND}"
    rows = tuple(
        Row(f"{seconds:g}s", _label(seconds), _macs_cells(_pair(paper, seconds), why))
        for seconds in sorted({*LENGTHS_S, *(r.seconds for r in paper)})
    )
    blocks = tuple(_device_block(group) for group in by_machine(records))
    notes = (
        "MACs of one clip by the closed forms, at 128 mels and a 10 ms hop, batch 1. module-only is the paper's rule; "
        "full adds the products of two activations inside attention.",
        *_macs_notes(paper),
    )
    return Table(
        "scaling", "Cost against clip length: MACs", MACS_COLUMNS, rows, notes=notes, blocks=blocks, runs=tuple(paper)
    )


def by_machine(records: Sequence[ScalingRun]) -> list[list[ScalingRun]]:
    """Scaling records that may be compared: grouped by size of the models and machine, the paper's size first."""
    groups: dict[tuple[bool, str, str], list[ScalingRun]] = {}
    for record in records:
        machine = f"{record.environment.machine}, {record.environment.precision}"
        groups.setdefault((record.scale != "paper", record.size, machine), []).append(record)
    return [groups[key] for key in sorted(groups)]


def _label(seconds: float) -> str:
    return f"{seconds:g} s" + (" (the paper's)" if seconds == PAPER_SECONDS else "")


def _pair(records: Sequence[ScalingRun], seconds: float) -> Pair:
    """The newest records of AST and of MAST for clips of this length."""
    newest: dict[str, ScalingRun] = {}
    for record in sorted(records, key=lambda r: r.created):
        if record.seconds == seconds:
            newest[record.family] = record
    return newest.get("ast"), newest.get("mast")


def _macs_cells(pair: Pair, why: str) -> dict[str, Cell]:
    cells = {}
    for rule in ("module_only", "full"):
        values = []
        for name, record in zip(("ast", "mast"), pair, strict=True):
            if record is None:
                cells[f"{name}_{rule}"] = not_run("G", why)
            else:
                values.append(record.metric(f"macs_{rule}"))
                mels, frames = record.input_size
                where = f"{record.model}, 1 x {mels} x {frames}, closed form, {rule} rule"
                cells[f"{name}_{rule}"] = measured(values[-1] / GIGA, "G", where)
        if len(values) == 2:
            cells[f"ratio_{rule}"] = measured(values[0] / values[1], "x", "ratio of the two columns")
    return cells


def _macs_notes(records: Sequence[ScalingRun]) -> list[str]:
    """Why the ratio changes with length: attention's products grow with its square, and MAST saves less in them."""
    seconds = max((record.seconds for record in records), default=0.0)
    ast, mast = _pair(records, seconds)
    if ast is None or mast is None:
        return []
    modules = [record.metric("macs_module_only") for record in (ast, mast)]
    full = [record.metric("macs_full") for record in (ast, mast)]
    products = [whole - seen for whole, seen in zip(full, modules, strict=True)]
    shares = [100 * part / whole for part, whole in zip(products, full, strict=True)]
    return [
        f"At {seconds:g} s the products inside attention are {shares[0]:.0f} % of AST's full MACs and "
        f"{shares[1]:.0f} % of MAST's; they grow with the square of the length in both. MAST saves "
        f"{modules[0] / modules[1]:.2f} times in its modules, but {products[0] / products[1]:.2f} times in these "
        "products: the longer the clip, the closer the full ratio is to the latter."
    ]


def _device_block(records: Sequence[ScalingRun]) -> Table:
    """Time and memory of the pair on one machine."""
    lengths = sorted({record.seconds for record in records})
    pairs = {seconds: _pair(records, seconds) for seconds in lengths}
    names = " and ".join(sorted({record.model for record in records}))
    machine = f"{records[0].environment.machine}, {records[0].environment.precision}"
    scale = "" if records[0].scale == "paper" else "demo scale: "
    paths = sorted({f"{r.model} by {r.environment.attention}" for r in records})
    return Table(
        f"scaling {names} on {machine}",
        f"{scale}{names} on {machine}: one clip",
        DEVICE_COLUMNS,
        tuple(Row(f"{seconds:g}s", _label(seconds), _device_cells(pair)) for seconds, pair in pairs.items()),
        notes=(
            f"Inference, batch 1: the median over rounds in which both models were timed in turns. {SPREAD_NOTE}",
            MEMORY_NOTE,
            f"Attention: {', '.join(paths)}.",
            *_time_notes(pairs),
        ),
        runs=tuple(records),
    )


def _device_cells(pair: Pair) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name, record in zip(("ast", "mast"), pair, strict=True):
        if record is None:
            continue
        where = _conditions(record)
        if record.failure:
            cells[f"{name}_ms"] = failed_cell(record, "ms", where)
            cells[f"{name}_mib"] = failed_cell(record, "MiB", where)
            continue
        cells[f"{name}_ms"] = measured(1e3 * record.metric("latency_s"), "ms", where)
        cells[f"{name}_spread"] = spread_cell(record, "latency_s")
        cells[f"{name}_mib"] = memory_cell(record, where)
    ast, mast = pair
    if ast and mast:
        cells |= _device_ratios(ast, mast)
    return cells


def _device_ratios(ast: ScalingRun, mast: ScalingRun) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    if not math.isnan(ast.metrics["time_ratio"]):
        cells["ratio_ms"] = measured(ast.metric("time_ratio"), "x", "median over rounds of AST's time : MAST's")
        cells["ratio_spread"] = spread_cell(ast, "time_ratio")
    memories = ast.metrics["peak_memory_bytes"], mast.metrics["peak_memory_bytes"]
    if all(memory > 0 for memory in memories):
        cells["ratio_mib"] = measured(memories[0] / memories[1], "x", "ratio of the two columns")
    return cells


def _conditions(record: ScalingRun) -> str:
    environment, (mels, frames) = record.environment, record.input_size
    return (
        f"{record.model}, 1 x {mels} x {frames}, inference, batch {record.batch}, {environment.machine}, "
        f"{environment.precision}{attention_text(record)}, {record.day}"
    )


def _time_notes(pairs: dict[float, Pair]) -> list[str]:
    """Whether MAST is faster at every length, and whether the factor grows, from the measured ratios."""
    ratios = {
        seconds: ast.metric("time_ratio")
        for seconds, (ast, mast) in pairs.items()
        if ast and mast and not math.isnan(ast.metrics["time_ratio"])
    }
    if len(ratios) < 2:
        return []
    lengths = list(ratios)
    behind = [f"{seconds:g} s" for seconds in lengths if ratios[seconds] < 1]
    falls = [f"{b:g} s" for a, b in pairwise(lengths) if ratios[b] < ratios[a]]
    faster = f"MAST is slower than AST at {', '.join(behind)}" if behind else "MAST is faster at every length"
    first, last, most = lengths[0], lengths[-1], max(lengths, key=lambda seconds: ratios[seconds])
    if not falls:
        return [
            f"{faster}, and the factor grows: {ratios[first]:.2f} at {first:g} s, {ratios[last]:.2f} at {last:g} s."
        ]
    return [
        f"{faster}. The factor is {ratios[first]:.2f} at {first:g} s, {ratios[most]:.2f} at its largest ({most:g} s), "
        f"{ratios[last]:.2f} at {last:g} s; it falls at {', '.join(falls)}. The table above has the ratio of "
        "the full MACs."
    ]
