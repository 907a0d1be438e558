"""Estimate how long planned runs take, from recorded speeds or from a few steps on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from reproduce.cli.options import TrainingOptions
from reproduce.cli.own_text import duration_text
from reproduce.cli.session import make_execution
from reproduce.datasets import ClipIndex
from reproduce.efficiency.training_speed import training_speed
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.training_subset import training_positions
from reproduce.machine import usable_cores
from reproduce.records.store import load_records

BUSY = 1.5  # processes per core that want to run


@dataclass(frozen=True, kw_only=True)
class _Speed:
    """Seconds per clip, and where they come from."""

    training: float
    prediction: float
    source: str


def time_lines(experiments: Sequence[Experiment], index: ClipIndex, options: TrainingOptions) -> list[str]:
    """The time of all runs, in lines of text; decoding and log-mels are a small part of it and not counted."""
    speeds = {e.model: _speed_of(e, index, options) for e in {e.model: e for e in experiments}.values()}
    total = sum(_seconds(experiment, index, speeds[experiment.model]) for experiment in experiments)
    several = "all runs, one after another" if len(experiments) > 1 else "the run"
    lines = [f"  {'time':<14}about {duration_text(total)} for {several}{_load_text()}"]
    for model, speed in speeds.items():
        of_model = [e for e in experiments if e.model == model]
        each = duration_text(_seconds(of_model[0], index, speed))
        rate = f"{1 / speed.training:.1f} clips/s in training"
        lines.append(f"  {'':<14}{model}: {len(of_model)} x {each}, {rate}, {speed.source}")
    return lines


def _load_text() -> str:
    """A warning where other processes use the machine, so that an idle one is faster."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return ""
    cores = usable_cores()
    return f"; this machine is busy now (load {load:.0f} on {cores} cores)" if load > BUSY * cores else ""


def _seconds(experiment: Experiment, index: ClipIndex, speed: _Speed) -> float:
    clips = {
        name: len(index.positions_of(*splits))
        for name, splits in (("val", experiment.val_splits), ("test", experiment.test_splits))
    }
    clips["train"] = len(training_positions(experiment, index))
    recipe = experiment.recipe
    predicted = (
        clips["test"] + recipe.epochs * clips["val"] + (recipe.epochs * clips["test"] if recipe.report_best else 0)
    )
    return recipe.epochs * clips["train"] * speed.training + predicted * speed.prediction


def _speed_of(experiment: Experiment, index: ClipIndex, options: TrainingOptions) -> _Speed:
    """The speed of a recorded run on this very device; without one, that of a few steps."""
    from reproduce.environment import describe_environment
    from reproduce.training.step_timing import time_steps

    execution = make_execution(options.execution, in_main_memory=True)
    here = describe_environment(str(execution.accelerator.device))["device"]
    recorded = training_speed(load_records(options.records), experiment)
    if recorded is not None and f" on {here}," in recorded.source:
        return _Speed(training=1 / recorded.training, prediction=1 / recorded.prediction, source="as in earlier runs")
    measured = time_steps(experiment, index, execution)
    processes = execution.accelerator.num_processes
    return _Speed(
        training=measured.training / processes,
        prediction=measured.prediction / processes,
        source=f"by a few steps on {here}",
    )
