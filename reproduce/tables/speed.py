"""The target `speed`: throughput, latency and memory from the records that `pytest bench/` makes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reproduce.records.runs import SpeedRun
from reproduce.tables.base import GIGA, NOT_RUN, Cell, Column, Row, Table, TableInputs, measured, register_table
from reproduce.tables.cells import MEMORY_NOTE, SPREAD_NOTE, failed_cell, memory_cell, spread_cell

COMMAND = "pytest bench/ --benchmark-only"
COLUMNS = (
    Column("ms", "Time", "ms/clip", 1),
    Column("spread", "±", "%", 1),
    Column("clips_per_s", "Throughput", "clips/s", 2),
    Column("real_time", "Times real time", "x", 2),
    Column("peak", "Peak memory", "MiB", 0),
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
)
FINE_COLUMNS = (Column("ms", "Time", "ms/clip", 3), *COLUMNS[1:])  # where a call may take microseconds
FINE_BENCHES = ("front end", "attention", "empty call")
MODELS = "models"  # the bench that the main table shows; its other conditions are a row's label
EXPECTED = tuple(  # cases that a default run holds, so that what is absent says so
    {"mode": mode, "preset": preset, "batch": batch}
    for mode, batches in (("inference", (1, 4)), ("training", (4,)))
    for preset, batch in (*(("base", batch) for batch in batches), ("small", 2), ("tiny", 2))
)
BENCHES = {  # bench -> its title; in this order
    MODELS: "both models at 1 x 128 x 1024",
    "peer: transformers": "beside transformers' AST (same geometry, random weights)",
    "peer: timm": "beside timm's MViTv2 (same weights, square input)",
    "front end": "log-mels of ten-second clips, beside torchaudio",
    "input pipeline": "ogg files to log-mels",
    "end to end": "ogg files to logits, beside the model alone",
    "attention": "attention alone, by path",
    "clip length": "by clip length",
    "batch sweep": "by batch, until memory runs out",
    "empty call": "the stopwatch itself",
}
# A contest's conditions, in the order in which a label says them and rows are sorted by them.
CONDITIONS = ("mode", "model", "preset", "block", "input_size", "tokens", "width", "batch", "precision", "source")
SIZES = ("base", "small", "tiny", "debug")
USUAL = ([128, 1024], "float32")  # unsaid


@register_table("speed", f"measured speed and memory of both models and their peers, from `{COMMAND}`")
def speed(inputs: TableInputs) -> Table:
    """A block a machine and bench: the contenders of every contest and their ratios, taken round by round."""
    records = list(inputs.records.newest(SpeedRun))
    why = f"not run: {COMMAND} (no such record under {inputs.records_dir})"
    blocks = []
    for place in sorted({record.environment.machine for record in records}):
        here = [record for record in records if record.environment.machine == place]
        for bench in _benches(here):
            contests = _contests(record for record in here if record.bench == bench)
            blocks.append(_bench_table(bench, place, contests, why))
    if not records:
        blocks.append(_bench_table(MODELS, "this machine", [], why))
    return Table(
        "speed",
        "Measured speed and memory",
        (),
        (),
        notes=(
            "Medians over rounds in which the contenders of a contest took turns in one process; a ratio is the median "
            f"of the rounds' ratios, and beside it stands that of the MACs. {SPREAD_NOTE}",
            MEMORY_NOTE,
            "A training step is forward, loss, backward and AdamW's update.",
        ),
        blocks=tuple(blocks),
    )


def _benches(records: Sequence[SpeedRun]) -> list[str]:
    found = {record.bench for record in records}
    return [*(bench for bench in BENCHES if bench in found or bench == MODELS), *sorted(found - set(BENCHES))]


def _contests(records: Iterable[SpeedRun]) -> list[list[SpeedRun]]:
    """Records of the same contest: their conditions and the list of contenders are equal, the reference comes last."""
    groups: dict[str, list[SpeedRun]] = {}
    for record in records:
        groups.setdefault(record.conditions_key, []).append(record)

    def place(record: SpeedRun) -> int:
        return -int(record.candidates.index(record.candidate))

    return [sorted(group, key=place) for group in groups.values()]


def _bench_table(bench: str, place: str, contests: Sequence[Sequence[SpeedRun]], why: str) -> Table:
    ordered = sorted(contests, key=lambda contest: _order(contest[0].conditions))
    rows = [row for contest in ordered for row in _contest_rows(contest)]
    if bench == MODELS:
        rows += _missing_rows(contests, why)
    title = BENCHES.get(bench, bench)
    paths = sorted(
        {
            f"{record.candidate} by {record.environment.attention}"
            for contest in contests
            for record in contest
            if record.environment.attention and bench != "attention"
        }
    )
    columns = FINE_COLUMNS if bench in FINE_BENCHES else COLUMNS
    notes = (f"Attention: {', '.join(paths)}.",) if paths else ()
    return Table(f"speed, {bench}, {place}", f"{place}: {title}", columns, tuple(rows), notes)


def _order(conditions: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Sorting key: sizes of models from the paper's down, numbers by value, the rest by name."""
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


def _label(conditions: Mapping[str, Any]) -> str:
    """What tells a contest from the others of its bench: "inference, base, batch 4"."""
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


def _contest_rows(contest: Sequence[SpeedRun]) -> list[Row]:
    """The rivals, the reference, and a row of ratios for each rival. The MACs' ratio stands beside the measured."""
    label = _label(contest[0].conditions)
    reference = contest[-1]
    rows = []
    for record in contest:
        name = record.candidate
        rows.append(Row(f"{label}: {name}", f"{label}: {name}" if label else name, _cells(record)))
    for rival in contest[:-1]:
        name = f"{rival.candidate} : {reference.candidate}"
        if cells := _ratio_cells(rival, reference):
            rows.append(Row(f"{label}: {name}", f"    {name}", cells))
    return rows


def _cells(record: SpeedRun) -> dict[str, Cell]:
    where = _conditions(record)
    cells: dict[str, Cell] = {}
    for key, metric in (("macs", "macs_module_only"), ("macs_full", "macs_full")):
        if metric in record.metrics:
            cells[key] = measured(record.metric(metric) / GIGA, "G", f"closed form, one clip, {where}")
    if record.failure:
        return cells | {"ms": failed_cell(record, "ms/clip", where), "peak": failed_cell(record, "MiB", where)}
    per_s = record.metric("clips_per_s")
    if "seconds" in record.conditions:
        cells["real_time"] = measured(per_s * record.conditions["seconds"], "x", f"seconds of audio a second, {where}")
    return cells | {
        "ms": measured(1e3 / per_s, "ms/clip", where),
        "spread": spread_cell(record, "latency_s"),
        "clips_per_s": measured(per_s, "clips/s", where),
        "peak": memory_cell(record, where),
    }


def _ratio_cells(rival: SpeedRun, reference: SpeedRun) -> dict[str, Cell]:
    """Time taken round by round, memory and MACs as they stand. Throughput is time's inverse and is left out."""
    cells: dict[str, Cell] = {}
    if not math.isnan(rival.metrics["time_ratio"]):
        cells["ms"] = measured(rival.metric("time_ratio"), "x", "median of the rounds' ratios")
        cells["spread"] = spread_cell(rival, "time_ratio")
    for key, metric in (("peak", "peak_memory_bytes"), ("macs", "macs_module_only"), ("macs_full", "macs_full")):
        a, b = rival.metrics.get(metric, 0.0), reference.metrics.get(metric, 0.0)
        if a > 0 and b > 0:
            cells[key] = measured(a / b, "x", "ratio of the two rows")
    return cells


def _conditions(record: SpeedRun) -> str:
    shared = (f"{key} {value}" for key, value in record.conditions.items())
    return (
        f"{record.candidate}, {', '.join(shared)}, {record.environment.machine}, "
        f"attention {record.environment.attention}, {record.metric('rounds'):.0f} rounds, {record.day}"
    )


def _missing_rows(contests: Sequence[Sequence[SpeedRun]], why: str) -> list[Row]:
    """What a default run would hold and the records do not."""
    held = [contest[0].conditions for contest in contests]
    rows = []
    for case in EXPECTED:
        if not any(all(conditions[name] == value for name, value in case.items()) for conditions in held):
            label = f"{case['mode']}, {case['preset']}, batch {case['batch']}"
            cells = {key: Cell(None, None, unit, NOT_RUN, why) for key, unit in (("ms", "ms/clip"), ("peak", "MiB"))}
            rows.append(Row(label, label, cells))
    return rows
