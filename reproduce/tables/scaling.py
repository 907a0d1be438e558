"""The target `scaling`: MACs, latency and peak memory of both models against clip length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from reproduce.experiments.families import (
    LENGTHS_S,
    PAPER_MODELS,
    PAPER_SECONDS,
    ShownModel,
    in_order,
    listed,
    ratios_of,
    reference_of,
    shown_models,
)
from reproduce.records.contests import scaling_runs
from reproduce.records.measured_runs import ScalingRun
from reproduce.tables.base import GIGA, Cell, Column, Row, Table, TableInputs, measured, not_run, register_table
from reproduce.tables.cells import (
    MEMORY_NOTE,
    SPREAD_NOTE,
    attention_notes,
    counter_notes,
    failed_cell,
    memory_cell,
    spread_cell,
)
from reproduce.tables.conditions import attention_text

COMMAND = "python -m reproduce scaling"
PAPERS = tuple(PAPER_MODELS.values())
RULES = {"module_only": "module-only", "full": "full"}
Newest = Mapping[str, ScalingRun]  # model -> its newest run at one length


@register_table("scaling", "MACs, latency and memory of both models for clips of 1 to 60 s")
def scaling(inputs: TableInputs) -> Table:
    """MACs of the paper's models by clip length; a block per machine with what was measured there."""
    return _scaling_table(inputs, PAPERS, by_machine(scaling_runs(inputs.records)))


def scaling_of(inputs: TableInputs, models: Sequence[str]) -> Table:
    """The same of any models: what was measured of them in turns, each divided by MAST, or by the first model."""
    timed = [run for run in scaling_runs(inputs.records) if run.model in models]
    groups = [group for group in by_machine(timed) if _reference(group[0]) == reference_of(models)]
    return _scaling_table(inputs, models, groups)


def _scaling_table(inputs: TableInputs, models: Sequence[str], groups: Sequence[Sequence[ScalingRun]]) -> Table:
    shown = shown_models(models)
    records = [record for record in scaling_runs(inputs.records) if record.model in models]
    why = f"not run: no scaling record under {inputs.records_dir}: {COMMAND}"
    rows = tuple(
        Row(f"{seconds:g}s", _label(seconds), _macs_cells(_newest(records, seconds), shown, why))
        for seconds in sorted({*(LENGTHS_S if tuple(models) == PAPERS else ()), *(r.seconds for r in records)})
    )
    notes = (
        "MACs of one clip by the closed forms, at 128 mels and a 10 ms hop, batch 1. module-only is the paper's rule; "
        "full adds the products of two activations inside attention.",
        *_macs_notes(records),
        *counter_notes(records),
    )
    return Table(
        "scaling",
        "Cost against clip length: MACs",
        _macs_columns(shown),
        rows,
        notes=notes,
        blocks=tuple(_device_block(group) for group in groups),
        runs=tuple(records),
    )


def _macs_columns(shown: Sequence[ShownModel]) -> tuple[Column, ...]:
    columns = []
    for rule, title in RULES.items():
        columns += [Column(f"{model.key}_{rule}", f"{model.label}, {title}", "G", 1) for model in shown]
        columns += [
            Column(f"{key}_{rule}", f"{over.label} : {under.label}", "x", 2)
            for key, (over, under) in ratios_of(shown).items()
        ]
    return tuple(columns)


def _device_columns(shown: Sequence[ShownModel]) -> tuple[Column, ...]:
    columns, ratios = list[Column](), ratios_of(shown).items()
    for model in shown:
        columns += [Column(f"{model.key}_ms", model.label, "ms", 1), Column(f"{model.key}_spread", "±", "%", 1)]
    for key, (over, under) in ratios:
        columns += [Column(f"{key}_ms", f"{over.label} : {under.label}, time", "x", 2)]
        columns += [Column(f"{key}_spread", "±", "%", 1)]
    columns += [Column(f"{model.key}_mib", f"{model.label}, peak", "MiB", 0) for model in shown]
    columns += [Column(f"{key}_mib", f"{over.label} : {under.label}, peak", "x", 2) for key, (over, under) in ratios]
    return tuple(columns)


def by_machine(records: Sequence[ScalingRun]) -> list[list[ScalingRun]]:
    """Scaling records that may be compared: timed in turns with one model, on one machine; the paper's first."""
    groups: dict[tuple[bool, str, str], list[ScalingRun]] = {}
    for record in records:
        machine = f"{record.environment.machine}, {record.environment.precision}"
        reference = _reference(record)
        groups.setdefault((reference not in PAPERS, reference, machine), []).append(record)
    return [groups[key] for key in sorted(groups)]


def _reference(record: ScalingRun) -> str:
    """The model that a run's ratios are relative to; the MAST of its size in records that do not name it."""
    return record.reference or (f"mast_{record.size}" if record.size else record.model)


def _label(seconds: float) -> str:
    return f"{seconds:g} s" + (" (the paper's)" if seconds == PAPER_SECONDS else "")


def _newest(records: Sequence[ScalingRun], seconds: float) -> dict[str, ScalingRun]:
    """The newest record of every model for clips of this length."""
    return {r.model: r for r in sorted(records, key=lambda r: r.created) if r.seconds == seconds}


def _pair(newest: Newest) -> tuple[ScalingRun | None, ScalingRun | None]:
    """AST's run and MAST's."""
    by_family = {run.family: run for run in newest.values()}
    return by_family.get("ast"), by_family.get("mast")


def _macs_cells(newest: Newest, shown: Sequence[ShownModel], why: str) -> dict[str, Cell]:
    cells = {}
    for rule in RULES:
        for model in shown:
            record = newest.get(model.name)
            if record is None:
                cells[f"{model.key}_{rule}"] = not_run("G", why)
                continue
            mels, frames = record.input_size
            where = f"{record.model}, 1 x {mels} x {frames}, {record.macs_by}, {rule} rule"
            cells[f"{model.key}_{rule}"] = measured(record.metric(f"macs_{rule}") / GIGA, "G", where)
        for key, (over, under) in ratios_of(shown).items():
            if over.name in newest and under.name in newest:
                values = [newest[model.name].metric(f"macs_{rule}") for model in (over, under)]
                cells[f"{key}_{rule}"] = measured(values[0] / values[1], "x", "ratio of the two columns")
    return cells


def _macs_notes(records: Sequence[ScalingRun]) -> list[str]:
    """Why the ratio changes with length: attention's products grow with its square, and MAST saves less in them."""
    seconds = max((record.seconds for record in records), default=0.0)
    ast, mast = _pair(_newest(records, seconds))
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
    """Time and memory of models that were timed in turns on one machine."""
    lengths = sorted({record.seconds for record in records})
    by_length = {seconds: _newest(records, seconds) for seconds in lengths}
    shown = shown_models(in_order({record.model for record in records}))
    names = listed([model.name for model in shown])
    machine = f"{records[0].environment.machine}, {records[0].environment.precision}"
    scale = "" if _reference(records[0]) in PAPERS else "demo scale: "
    paths = ((run.model, run.environment.precision, run.environment.attention) for run in records)
    turns = "both models" if len(shown) == 2 else "the models"
    return Table(
        f"scaling {names} on {machine}",
        f"{scale}{names} on {machine}: one clip",
        _device_columns(shown),
        tuple(Row(f"{s:g}s", _label(s), _device_cells(newest, shown)) for s, newest in by_length.items()),
        notes=(
            f"Inference, batch 1: the median over rounds in which {turns} were timed in turns. {SPREAD_NOTE}",
            MEMORY_NOTE,
            *attention_notes(paths),
            *_time_notes(by_length),
        ),
        runs=tuple(records),
    )


def _device_cells(newest: Newest, shown: Sequence[ShownModel]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for model in shown:
        record = newest.get(model.name)
        if record is None:
            continue
        where = _conditions(record)
        if record.failure:
            cells[f"{model.key}_ms"] = failed_cell(record, "ms", where)
            cells[f"{model.key}_mib"] = failed_cell(record, "MiB", where)
            continue
        cells[f"{model.key}_ms"] = measured(1e3 * record.metric("latency_s"), "ms", where)
        cells[f"{model.key}_spread"] = spread_cell(record, "latency_s")
        cells[f"{model.key}_mib"] = memory_cell(record, where)
    for key, (over, under) in ratios_of(shown).items():
        if over.name in newest and under.name in newest:
            cells |= _device_ratios(key, newest[over.name], newest[under.name])
    return cells


def _device_ratios(key: str, over: ScalingRun, under: ScalingRun) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    if not math.isnan(over.metrics["time_ratio"]):
        where = f"median over rounds of {over.label}'s time : {under.label}'s"
        cells[f"{key}_ms"] = measured(over.metric("time_ratio"), "x", where)
        cells[f"{key}_spread"] = spread_cell(over, "time_ratio")
    memories = over.metrics["peak_memory_bytes"], under.metrics["peak_memory_bytes"]
    if all(memory > 0 for memory in memories):
        cells[f"{key}_mib"] = measured(memories[0] / memories[1], "x", "ratio of the two columns")
    return cells


def _conditions(record: ScalingRun) -> str:
    environment, (mels, frames) = record.environment, record.input_size
    return (
        f"{record.model}, 1 x {mels} x {frames}, inference, batch {record.batch}, {environment.machine}, "
        f"{environment.precision}{attention_text(record)}, {record.day}"
    )


def _time_notes(by_length: Mapping[float, Newest]) -> list[str]:
    """Whether MAST is faster at every length, and whether the factor grows, from the measured ratios."""
    ratios = {
        seconds: ast.metric("time_ratio")
        for seconds, (ast, mast) in ((s, _pair(newest)) for s, newest in by_length.items())
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
    at = {first: f"{ratios[first]:.2f} at {first:g} s", last: f"{ratios[last]:.2f} at {last:g} s"}
    at[most] = f"{ratios[most]:.2f} at its largest ({most:g} s)"
    return [
        f"{faster}. The factor is {', '.join(at[seconds] for seconds in sorted(at))}; it falls at {', '.join(falls)}. "
        "The table above has the ratio of the full MACs."
    ]
