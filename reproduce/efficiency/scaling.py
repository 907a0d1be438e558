"""Cost against clip length: MACs, latency and peak memory of models from 1 to 60 s. Records of kind "scaling"."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import ModelError, create_model
from models.complexity import measure_complexity
from reproduce.efficiency.candidates import inference_candidate
from reproduce.efficiency.interleaved import Candidate, Result, measure, measurement_key
from reproduce.efficiency.meters import Meters
from reproduce.efficiency.stopping import Budget
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.experiments.families import LENGTHS_S, PAPER_MODELS, reference_of, size
from reproduce.records.measured_runs import ScalingRun
from reproduce.records.reading import read_scaling
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import CLOSED_FORM
from reproduce.records.store import append_record, as_stored, load_records

MODELS = tuple(PAPER_MODELS.values())
DEBUG_MODELS = ("ast_debug", "mast_debug")
MELS = 128
HOP_S = 0.01
RUNS = ("missing", "none", "all")
BUDGET = Budget(least=3, most=15, seconds=15.0)


def frames_of(seconds: float) -> int:
    """Count the frames at a 10 ms hop, rounded up. Both models accept any number from AST's patch of 16 on."""
    return math.ceil(round(seconds / HOP_S, 6))  # 10.24 / 0.01 is slightly more than 1024


def forward_candidate(model: str, seconds: float, device: str) -> Candidate:
    """Build a model for clips of `seconds` and make a candidate of its forward pass, batch 1.

    Raises:
        InputError: a model that cannot be had, or does not take clips of this length.
    """
    input_size = (MELS, frames_of(seconds))
    try:
        built = create_model(model, input_size=input_size).to(device)
    except ModelError as error:
        raise InputError(str(error)) from None
    return inference_candidate(model, built, torch.randn(1, 1, *input_size, device=device))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is measured over clip lengths.

    Args:
        device: as torch names it.
        lengths: clip lengths in seconds.
        models: names; the MAST among them, or else the first, is the baseline of the ratios.
        budget: rounds of each length.
        make_candidate: (model, seconds, device) -> what is timed.
        meters: clocks, energy and load; those of the device unless given.
    """

    device: str
    lengths: tuple[float, ...] = LENGTHS_S
    models: tuple[str, ...] = MODELS
    budget: Budget = BUDGET
    make_candidate: Callable[[str, float, str], Candidate] = forward_candidate
    meters: Meters | None = None

    @property
    def baseline(self) -> str:
        """The model that the times of the others are divided by."""
        return reference_of(self.models)

    def cases(self) -> list[tuple[float, str]]:
        """All (seconds, model), by length and then by model."""
        return [(seconds, model) for seconds in sorted(self.lengths) for model in self.models]


def measure_scaling(
    records_dir: Path,
    sweep: Sweep,
    run: str = "missing",
    on_progress: Callable[[int, int, str], object] = lambda done, total, what: None,
) -> list[ScalingRun]:
    """Return the runs of every (length, model) on this device; measure those that `run` asks for.

    Where one model lacks a record, all models are measured at that length, in turns. A model that runs out of memory
    gets a record that says so. A record of a busy machine counts as missing the next time.

    Args:
        records_dir: where records are looked up, and appended as soon as a length is measured.
        sweep: what is measured, and on which device.
        run: "missing" measures what has no record on this device yet, "none" nothing, "all" everything again.
        on_progress: called with (lengths done, lengths to measure, next step) before each length and after the last.

    Returns:
        The newest record of each, by length and then by model; under "none" those that exist.

    Raises:
        InputError: the records cannot be read or written.
    """
    if run not in RUNS:
        raise ValueError(f"run must be one of {RUNS}, not {run!r}")
    environment = describe_environment(sweep.device)
    stored = load_records(records_dir)
    known = {run.key: run for run in stored.newest(ScalingRun) if not run.environment.busy}
    keys = {case: measurement_key(_experiment(case[1], case[0], sweep.baseline), environment) for case in sweep.cases()}
    lacking = {seconds for (seconds, _), key in keys.items() if key not in known}
    wanted = {"none": [], "missing": sorted(lacking), "all": sorted(sweep.lengths)}[run]
    for done, seconds in enumerate(wanted):
        on_progress(done, len(wanted), f"{seconds:g} s clips")
        for record in _measure_length(seconds, sweep):
            append_record(records_dir, record)
            known[record.key] = read_scaling(as_stored(record))
    on_progress(len(wanted), len(wanted), "done")
    return [known[key] for key in keys.values() if key in known]


def _experiment(model: str, seconds: float, baseline: str) -> dict[str, Any]:
    """What defines a measurement: a model beside another one than the MAST of its size is another measurement."""
    usual = size(model) and baseline == f"mast_{size(model)}"
    return {
        **({} if usual else {"reference": baseline}),
        "model": model,
        "seconds": seconds,
        "input_size": [MELS, frames_of(seconds)],
        "batch": 1,
        "mode": "inference",
    }


def _measure_length(seconds: float, sweep: Sweep) -> list[RunRecord]:
    """One record per model, all timed in turns."""
    order = [sweep.baseline, *(model for model in reversed(sweep.models) if model != sweep.baseline)]
    candidates = [sweep.make_candidate(model, seconds, sweep.device) for model in order]
    result = measure(candidates, sweep.device, sweep.budget, sweep.meters)
    environment = {**describe_environment(sweep.device), **result.conditions}
    return [_record(model, seconds, result, environment) for model in sweep.models]


def _record(model: str, seconds: float, result: Result, environment: Mapping[str, Any]) -> RunRecord:
    measurement, baseline = result.measurements[model], next(iter(result.measurements.values()))
    experiment = _experiment(model, seconds, baseline.candidate.name)
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
            **measurement.time_ratios(baseline),
        },
        environment={**environment, "attention": measurement.candidate.attention},
        details={
            **measurement.details(),
            "reference": baseline.candidate.name,
            **({} if complexity.counter == CLOSED_FORM else {"macs_by": complexity.counter}),
        },
        created=now(),
    )
