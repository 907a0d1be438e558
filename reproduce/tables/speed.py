"""The target `speed`: throughput, latency and memory from the records that `pytest bench/` makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reproduce.experiments.model_names import is_other
from reproduce.precision import short_name
from reproduce.records.contests import candidate_name, is_mixed, pairs, speed_runs, time_ratio, timed_runs
from reproduce.records.measured_runs import MIXED, SpeedRun
from reproduce.records.runs import CLOSED_FORM, FLOP_COUNTER
from reproduce.tables.base import (
    GIGA,
    MEASURED,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    measured,
    not_run,
    register_table,
    text_cell,
)
from reproduce.tables.cells import (
    MEMORY_NOTE,
    SPREAD_NOTE,
    attention_notes,
    counter_note,
    failed_cell,
    memory_cell,
    spread_cell,
    spread_of,
)
from reproduce.tables.conditions import attention_text

COMMAND = "pytest bench/ --benchmark-only"
COLUMNS = (
    Column("precision", "Precision"),
    Column("ms", "Time", "ms/clip", 1),
    Column("spread", "±", "%", 1),
    Column("clips_per_s", "Throughput", "clips/s", 2),
    Column("real_time", "Times real time", "x", 2),
    Column("peak", "Peak memory", "MiB", 0),
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
)
FINE_COLUMNS = (COLUMNS[0], Column("ms", "Time", "ms/clip", 3), *COLUMNS[2:])  # where a call may take microseconds
ONEDNN_NOTE = (
    "In fp32 the large matrix products of our models are oneDNN's, those of the other libraries' models torch's own, "
    "which are slower on this processor."
)
RATIO_INDENT = "    "  # before the label of a ratio, which stands below its two rows
FINE_BENCHES = ("front end", "attention", "pooling layout", "empty call")
SIDE_BY_SIDE, MODELS = "side by side", "models"  # the benches that the main tables show
EXPECTED = {  # cases that a default run measures: those without a record are listed as not run
    SIDE_BY_SIDE: tuple(
        {"mode": mode, "preset": "base", "batch": batch} for mode in ("inference", "training") for batch in (1, 4)
    ),
    MODELS: tuple(
        {"mode": mode, "preset": preset, "batch": 2}
        for preset in ("small", "tiny")
        for mode in ("inference", "training")
    ),
}
BENCHES = {  # bench -> its title; in this order
    SIDE_BY_SIDE: "both models in every precision, beside transformers' AST and, on square inputs, timm's MViTv2",
    MODELS: "both models at 1 x 128 x 1024",
    "peer: transformers": "beside transformers' AST (same geometry, random weights)",
    "peer: timm": "beside timm's MViTv2 (same weights, square input)",
    "matrix products": "beside MAST's matrix products alone",
    "product library": "float32 products by oneDNN and by torch, each with the attention that goes with it",
    "front end": "log-mels of ten-second clips, beside torchaudio",
    "input pipeline": "ogg files to log-mels",
    "end to end": "ogg files to logits, beside the model alone",
    "attention": "attention alone, by path",
    "pooling layout": "attention by the memory layout of its depthwise convolutions",
    "clip length": "by clip length",
    "batch sweep": "by batch, until memory runs out",
    "empty call": "the stopwatch itself",
}
# Conditions of a benchmark, in the order of labels and of sorting.
CONDITIONS = ("mode", "model", "preset", "block", "input_size", "tokens", "width", "batch", "precision", "source")
SIZES = ("base", "small", "tiny", "debug")
USUAL = ([128, 1024], "float32", MIXED)  # not named in labels


@register_table("speed", f"measured speed and memory of both models and their peers, from `{COMMAND}`")
def speed(inputs: TableInputs) -> Table:
    """A block per machine and benchmark: every set of candidates and their ratios, taken round by round."""
    records = speed_runs(inputs.records)
    left_out = len(timed_runs(inputs.records, SpeedRun)) - len(records)
    why = f"not run: {COMMAND} (no such record under {inputs.records_dir})"
    blocks = []
    for machine in sorted({record.environment.machine for record in records}):
        here = [record for record in records if record.environment.machine == machine]
        for bench in _benches(here):
            groups = _groups(record for record in here if record.bench == bench)
            blocks.append(_bench_table(bench, machine, groups, why))
    if not records:
        blocks += [_bench_table(bench, "this machine", [], why) for bench in EXPECTED]
    return Table(
        "speed",
        "Measured speed and memory",
        notes=(
            "Medians over rounds in which the candidates of a benchmark were timed in turns in one process; a ratio is "
            f"the median of the rounds' ratios, beside the ratio of the MACs. {SPREAD_NOTE}",
            MEMORY_NOTE,
            "A training step is forward, loss, backward and AdamW's update.",
            *(
                [
                    f"Left out: {left_out} timings of busy machines, of processors without a model's name, or of "
                    "contests that were repeated with more candidates."
                ]
                if left_out
                else []
            ),
        ),
        blocks=tuple(blocks),
    )


def is_main_part(part: Table) -> bool:
    """Whether a block of the table is about the models themselves, rather than about a part or their surroundings."""
    return any(f", {bench}," in part.name for bench in EXPECTED)


def ratios_of(part: Table) -> Table:
    """A block of the table with its rows of ratios alone, each named with its conditions, without empty columns."""
    rows = []
    for row in part.rows:
        if row.label.startswith(RATIO_INDENT):
            conditions, _, _ = row.key.partition(": ")
            rows.append(replace(row, label=": ".join(filter(None, (conditions, row.label.strip())))))
    columns = tuple(
        column if column.unit == "%" else replace(column, unit="x")
        for column in part.columns
        if any(column.key in row.cells for row in rows)
    )
    name, title = f"{part.name}, ratios", f"{part.title}; ratios"
    return replace(part, name=name, title=title, columns=columns, rows=tuple(rows), notes=())


def ratios_by_machine(parts: Sequence[Table]) -> Table:
    """The ratios of time, a column per machine.

    Args:
        parts: of `ratios_of`, one per machine.
    """
    environments = [part.runs[0].environment for part in parts]
    by_device = len({environment.device for environment in environments}) == len(parts)
    columns: list[Column] = []
    cells: dict[str, dict[str, Cell]] = {}
    for number, (part, environment) in enumerate(zip(parts, environments, strict=True)):
        column = Column(f"ms {number}", environment.device if by_device else environment.machine, "x", 2)
        columns.append(column)
        for row in part.rows:
            if "ms" in row.cells:
                cells.setdefault(row.label, {})[column.key] = row.cells["ms"]
    return Table(
        "speed, ratios by machine",
        "Time of both models and their peers; ratios",
        columns=tuple(columns),
        rows=tuple(Row(label, label, found) for label, found in cells.items()),
        runs=tuple(run for part in parts for run in part.runs),
    )


def _benches(records: Sequence[SpeedRun]) -> list[str]:
    names = {record.bench for record in records}
    return [*(bench for bench in BENCHES if bench in names or bench in EXPECTED), *sorted(names - set(BENCHES))]


def _groups(records: Iterable[SpeedRun]) -> list[list[SpeedRun]]:
    """Records of candidates that were timed in turns: equal conditions and candidates; the baseline comes last."""
    groups: dict[str, list[SpeedRun]] = {}
    for record in records:
        groups.setdefault(record.conditions_key, []).append(record)

    def baseline_last(record: SpeedRun) -> int:
        return -int(record.candidates.index(record.candidate))

    return [sorted(group, key=baseline_last) for group in groups.values()]


def _bench_table(bench: str, machine: str, groups: Sequence[Sequence[SpeedRun]], why: str) -> Table:
    ordered = sorted(groups, key=lambda group: conditions_order(group[0].conditions))
    rows = [row for group in ordered for row in _group_rows(group)]
    rows += _missing_rows(EXPECTED.get(bench, ()), groups, why)
    title = BENCHES.get(bench, bench)
    columns = FINE_COLUMNS if bench in FINE_BENCHES else COLUMNS
    runs = tuple(record for group in groups for record in group)
    paths = ((run.candidate, run.precision, run.environment.attention) for run in runs)
    notes = attention_notes(paths) if bench != "attention" else []
    if bench == SIDE_BY_SIDE and any(run.environment.onednn_float32 for run in runs):
        notes.append(ONEDNN_NOTE)
    if others := _others(runs):
        notes.append(counter_note(FLOP_COUNTER, others))
    return Table(
        f"speed, {bench}, {machine}", f"{machine}: {title}", columns, tuple(rows), notes=tuple(notes), runs=runs
    )


def _others(runs: Sequence[SpeedRun]) -> list[str]:
    """Candidates that are models of others, named as `--models` names them."""
    return list(dict.fromkeys(run.candidate for run in runs if is_other(run.candidate)))


def conditions_order(conditions: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Sorting key: sizes of models from the paper's down, numbers by value, everything else by name."""
    key = []
    for name in CONDITIONS:
        value = conditions.get(name)
        if name == "preset" and value in SIZES:
            key.append((float(SIZES.index(value)), ""))
        elif value in USUAL:
            key.append((0.0, ""))
        elif name == "input_size" and value:
            key.append((float(value[0] * value[1]), ""))
        else:
            key.append((float(value), "") if isinstance(value, int) else (0.0, str(value)))
    return key


def conditions_label(conditions: Mapping[str, Any]) -> str:
    """The conditions that distinguish a set of candidates within its benchmark: "inference, base, batch 4"."""
    words = []
    for name in CONDITIONS:
        value = conditions.get(name)
        if value is None or value in USUAL:
            continue
        if name == "input_size":
            words.append(f"{value[0]} x {value[1]}")
        else:
            words.append(f"{name} {value}" if isinstance(value, int) else str(value))
    return ", ".join([*words, *(["compiled"] if conditions.get("compile") else [])])


def _group_rows(group: Sequence[SpeedRun]) -> list[Row]:
    """The candidates, the baseline last, and rows of ratios, of time beside that of the MACs."""
    label = conditions_label(group[0].conditions)
    rows = []
    for record in group:
        name = candidate_name(record)
        rows.append(Row(f"{label}: {record.candidate}", f"{label}: {name}" if label else name, _cells(record)))
    for candidate, baseline in pairs(group):
        key = f"{candidate.candidate} : {baseline.candidate}"
        name = f"{_name(candidate)} : {_name(baseline)}"
        if cells := _ratio_cells(candidate, baseline):
            rows.append(Row(f"{label}: {key}", f"{RATIO_INDENT}{name}", cells))
    return rows


def _name(record: SpeedRun) -> str:
    """The candidate, in a contest of several precisions with its own: "ast_base", "ast_base fp32"."""
    return f"{candidate_name(record)} {short_name(record.precision)}" if is_mixed(record) else candidate_name(record)


def _cells(record: SpeedRun) -> dict[str, Cell]:
    where = _conditions(record)
    cells = {"precision": text_cell(short_name(record.precision), MEASURED, where)}
    counter = FLOP_COUNTER if is_other(record.candidate) else CLOSED_FORM
    for key, metric in (("macs", "macs_module_only"), ("macs_full", "macs_full")):
        if metric in record.metrics:
            cells[key] = measured(record.metric(metric) / GIGA, "G", f"{counter}, one clip, {where}")
    if record.failure:
        return cells | {"ms": failed_cell(record, "ms/clip", where), "peak": failed_cell(record, "MiB", where)}
    per_s = record.metric("clips_per_s")
    if "seconds" in record.conditions:
        cells["real_time"] = measured(
            per_s * record.conditions["seconds"], "x", f"seconds of audio per second, {where}"
        )
    return cells | {
        "ms": measured(1e3 / per_s, "ms/clip", where),
        "spread": spread_cell(record, "latency_s"),
        "clips_per_s": measured(per_s, "clips/s", where),
        "peak": memory_cell(record, where),
    }


def _ratio_cells(candidate: SpeedRun, baseline: SpeedRun) -> dict[str, Cell]:
    """Ratios of time (round by round), memory and MACs. Throughput is the inverse of time and is left out."""
    cells: dict[str, Cell] = {}
    if (ratio := time_ratio(candidate, baseline)) is not None:
        cells["ms"] = measured(ratio[1], "x", "median of the rounds' ratios")
        cells["spread"] = spread_of(*ratio)
    for key, metric in (("peak", "peak_memory_bytes"), ("macs", "macs_module_only"), ("macs_full", "macs_full")):
        a, b = candidate.metrics.get(metric, 0.0), baseline.metrics.get(metric, 0.0)
        if a > 0 and b > 0:
            cells[key] = measured(a / b, "x", "ratio of the two rows")
    return cells


def _conditions(record: SpeedRun) -> str:
    shared = (f"{key} {value}" for key, value in record.conditions.items())
    return (
        f"{record.candidate}, {', '.join(shared)}, {record.environment.machine}{attention_text(record)}, "
        f"{record.metric('rounds'):.0f} rounds, {record.day}"
    )


def _missing_rows(expected: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[SpeedRun]], why: str) -> list[Row]:
    """The cases of a default run that have no record."""
    measured_cases = [group[0].conditions for group in groups]
    rows = []
    for case in expected:
        if not any(all(conditions[name] == value for name, value in case.items()) for conditions in measured_cases):
            label = f"{case['mode']}, {case['preset']}, batch {case['batch']}"
            cells = {key: not_run(unit, why) for key, unit in (("ms", "ms/clip"), ("peak", "MiB"))}
            rows.append(Row(label, label, cells))
    return rows
