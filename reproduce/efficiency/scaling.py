"""Cost against clip length: MACs, latency and peak memory of both models from 1 to 60 s. Records of kind "scaling"."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from models import create_model
from models.complexity import measure_complexity
from reproduce.efficiency.contenders import inference_contender
from reproduce.efficiency.contest import Budget, Contender, Measurement, measure, measurement_key
from reproduce.environment import describe_environment
from reproduce.experiments.families import LENGTHS_S, PAPER_MODELS
from reproduce.records.reading import read_scaling
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import ScalingRun
from reproduce.records.store import append_record, as_stored, load_records

MODELS = tuple(PAPER_MODELS.values())
DEBUG_MODELS = ("ast_debug", "mast_debug")
MELS = 128
HOP_S = 0.01
RUNS = ("missing", "none", "all")
BUDGET = Budget(least=3, most=15, seconds=15.0)


def frames_of(seconds: float) -> int:
    """Frames at a 10 ms hop, rounded up. Both models accept any number from AST's patch of 16 on."""
    return math.ceil(round(seconds / HOP_S, 6))  # 10.24 / 0.01 is a little more than 1024


def measure_scaling(
    records_dir: Path,
    device: str,
    run: str = "missing",
    lengths: Sequence[float] = LENGTHS_S,
    models: Sequence[str] = MODELS,
    on_progress: Callable[[int, int, str], object] = lambda done, total, what: None,
) -> list[ScalingRun]:
    """Runs of every (length, model) on this device, measuring those that `run` asks for.

    At a length where one model is missing all are measured, in turns. A model that runs out of memory gets a record
    that says so.

    Args:
        records_dir: where records are looked up and appended, each length as soon as it is measured.
        device: as torch names it.
        run: "missing" measures what has no record on this device yet, "none" nothing, "all" everything again.
        lengths: clip lengths in seconds. models: presets.
        on_progress: called with (lengths done, lengths to measure, what is next) before each and after the last.

    Returns:
        The newest record of each, by length and then by model; those that are absent under "none" are left out.

    Raises:
        InputError: the records cannot be read or written.
    """
    if run not in RUNS:
        raise ValueError(f"run must be one of {RUNS}, not {run!r}")
    environment = describe_environment(device)
    stored = {run.key: run for run in load_records(records_dir).newest(ScalingRun)}
    keys = {
        (seconds, model): measurement_key(_experiment(model, seconds), environment)
        for seconds in sorted(lengths)
        for model in models
    }
    wanted = [
        seconds
        for seconds in sorted(lengths)
        if run == "all" or (run == "missing" and any(keys[seconds, model] not in stored for model in models))
    ]
    for done, seconds in enumerate(wanted):
        on_progress(done, len(wanted), f"{seconds:g} s clips")
        for record in _measure_length(seconds, models, device):
            append_record(records_dir, record)
            stored[record.key] = read_scaling(as_stored(record))
    on_progress(len(wanted), len(wanted), "done")
    return [stored[key] for key in keys.values() if key in stored]


def _experiment(model: str, seconds: float) -> dict[str, Any]:
    return {
        "model": model,
        "seconds": seconds,
        "input_size": [MELS, frames_of(seconds)],
        "batch": 1,
        "mode": "inference",
    }


def _measure_length(seconds: float, models: Sequence[str], device: str) -> list[RunRecord]:
    """One record a model, all timed in turns. The last of `models` is the one the others are compared with."""
    contenders = [_contender(model, seconds, device) for model in reversed(models)]
    measurements = measure(contenders, device, BUDGET)
    reference = measurements[models[-1]]
    return [_record(model, seconds, measurements[model], reference, device) for model in models]


def _contender(model: str, seconds: float, device: str) -> Contender:
    size = (MELS, frames_of(seconds))
    built = create_model(model, input_size=size).to(device)
    return inference_contender(model, built, torch.randn(1, 1, *size, device=device))


def _record(model: str, seconds: float, measurement: Measurement, reference: Measurement, device: str) -> RunRecord:
    experiment = _experiment(model, seconds)
    environment = {**describe_environment(device), "attention": measurement.contender.attention}
    with torch.device("meta"):
        complexity = measure_complexity(create_model(model, input_size=tuple(experiment["input_size"])))
    return RunRecord(
        kind="scaling",
        key=measurement_key(experiment, environment),
        experiment=experiment,
        scale="paper" if model in MODELS else "demo",
        metrics={
            "macs_module_only": complexity.macs_module_only,
            "macs_full": complexity.macs_full,
            **measurement.metrics(),
            **measurement.times(reference),
        },
        environment=environment,
        details={
            "samples_s": measurement.samples_s,
            "failure": measurement.failure,
            "reference": reference.contender.name,
        },
        created=now(),
    )
