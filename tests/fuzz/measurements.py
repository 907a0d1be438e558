"""Records (JSON lines) and the predictions beside them, through the tables that read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.kind import Kind, command
from fuzz.mutators import damage, damage_array, damage_json, pick
from make_records import make_record
from numpy.random import Generator

from reports.data import clip_blocks, environment_blocks
from reports.source import Source
from reports.summary import facts_of, verdict_grid
from reproduce.paper import load_paper
from reproduce.records import load_frame
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.store import append_record, load_records
from reproduce.tables import TableInputs, build
from reproduce.tables.comparison import comparison_table
from reproduce.tables.render import render

COMMITTED = Path(__file__).resolve().parents[2] / "reports/records"
RUN_NONE = {"scaling": ("--run", "none")}
TABLES = ("speed", *RUN_NONE)  # by their commands
BUILT = ("claims", "costs", "ablations", "table1", "table2", "table4", "table5", "table6")  # as the report builds them
READERS = (*TABLES, *BUILT, "compare", "report", "frame", "tune")  # what one input is given to
MODELS = ("ast_debug", "mast_debug")
CLIPS = 10


def _prepare(seeds: Path) -> None:
    random = np.random.default_rng(0)
    for model in MODELS:
        predictions = StoredPredictions(
            np.array([f"clip{number}" for number in range(CLIPS)]),
            {"label": random.standard_normal((CLIPS, 4)).astype(np.float32)},
            {"label": np.eye(4, dtype=np.uint8)[np.arange(CLIPS) % 4]},
            random.standard_normal((CLIPS, 3)).astype(np.float32),
            np.array([f"group{number % 5}" for number in range(CLIPS)]),
        )
        name = save_predictions(seeds, model, predictions)
        append_record(seeds, make_record(model, predictions=name, key=model))
    for path in COMMITTED.glob("*.jsonl"):  # kinds that no test makes
        if path.name != "train.jsonl":
            lines = path.read_text().splitlines(keepends=True)
            (seeds / path.name).write_text("".join(lines if path.name == "cost.jsonl" else lines[:2]))


def _copy(seeds: Path, case: Path) -> None:
    shutil.copytree(seeds, case, dirs_exist_ok=True, ignore=shutil.ignore_patterns("complete", ".lock"))


def _mutate_records(seeds: Path, case: Path, random: Generator) -> None:
    _copy(seeds, case)
    path = pick(sorted(case.glob("*.jsonl")), random)
    lines = path.read_bytes().splitlines(keepends=True)
    number = int(random.integers(len(lines)))
    if random.random() < 0.7:
        lines[number] = json.dumps(damage_json(json.loads(lines[number]), random)).encode() + b"\n"
    else:
        lines[number] = damage(lines[number], random)
    path.write_bytes(b"".join(lines))


def _run_records(case: Path, seeds: Path) -> Any:
    # What is asked for follows from the input, so that a saved one gives the same.
    reader = READERS[sum(path.stat().st_size for path in case.glob("*.jsonl")) % len(READERS)]
    return [_comparison("esc50", case), _read_by(reader, case)]


def _comparison(table: str, records: Path) -> str:
    inputs = TableInputs(load_paper(), load_records(records), records)
    return render(comparison_table(inputs, table) if table == "esc50" else build(table, inputs), "json")


def _read_by(reader: str, records: Path) -> Any:
    if reader == "compare":
        return command("compare", *MODELS, "--format", "json", "--records", records)
    if reader == "frame":
        return len(load_frame(records))  # missing values of a frame are NaN
    if reader in (*BUILT, "tune"):
        return _comparison(reader, records)
    if reader == "report":
        loaded = load_records(records)
        source = Source(TableInputs(load_paper(), loaded, records))
        blocks = (clip_blocks(loaded), environment_blocks(loaded), facts_of(loaded), verdict_grid(source))
        return repr(blocks)
    options = (*RUN_NONE.get(reader, ()), "--format", "json")
    return command(reader, *options, "--records", records)


def _warm_up(seeds: Path) -> None:
    for reader in READERS:
        _read_by(reader, seeds)
    shutil.rmtree(seeds / "replicates", ignore_errors=True)


def _mutate_predictions(seeds: Path, case: Path, random: Generator) -> None:
    _copy(seeds, case)
    path = pick(sorted((case / "predictions").glob("*.npz")), random)
    if random.random() < 0.35:
        path.write_bytes(damage(path.read_bytes(), random))
        return
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = pick(sorted(arrays), random)
    if random.random() < 0.4 and arrays[name].dtype.kind == "f":
        values = arrays[name] = arrays[name].copy()
        values.reshape(-1)[int(random.integers(values.size))] = pick((0.0, -50.0, 1e4, 1e30), random)
    elif random.random() < 0.15:
        arrays[pick(("x", "logits_verb", "groups"), random)] = arrays.pop(name)
    else:
        with np.errstate(all="ignore"):
            try:
                arrays[name] = damage_array(arrays[name], random)
            except (ValueError, TypeError, OverflowError):  # no such conversion
                del arrays[name]
    np.savez(path, **arrays)


def _run_predictions(case: Path, seeds: Path) -> Any:
    return [_comparison("esc50", case), command("compare", *MODELS, "--format", "json", "--records", case)]


RECORDS = Kind(name="records", prepare=_prepare, mutate=_mutate_records, run=_run_records, warm_up=_warm_up)
PREDICTIONS = Kind(
    name="predictions",
    prepare=_prepare,
    mutate=_mutate_predictions,
    run=_run_predictions,
    warm_up=_warm_up,
)
KINDS = (RECORDS, PREDICTIONS)
