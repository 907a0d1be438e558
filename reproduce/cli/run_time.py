"""Estimate how long planned runs take, from recorded speeds or from a few steps on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from reproduce.cli.options import TrainingOptions
from reproduce.cli.own_text import duration_text
from reproduce.cli.session import make_execution, model_name, unrecorded
from reproduce.datasets import ClipIndex
from reproduce.efficiency.training_speed import training_speed
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.training_subset import training_positions
from reproduce.machine import usable_cores
from reproduce.records.store import load_records
from reproduce.tables.conditions import counted, epochs_text

BUSY = 1.5  # processes per core that want to run


@dataclass(frozen=True, kw_only=True)
class _Speed:
    """Seconds per clip, and where they come from."""

    training: float
    prediction: float
    source: str


def time_lines(experiments: Sequence[Experiment], index: ClipIndex, kind: str, options: TrainingOptions) -> list[str]:
    """The time of the runs to train, in lines of text; decoding and log-mels are a small part of it and not counted.

    Args:
        experiments: runs on the clips of `index`.
        index: the clips.
        kind: kind of the records, "train" or "search".
        options: selection of the runs, execution, and the folder of records.
    """
    stored = [run for run in load_records(options.records) if run.kind == kind]
    lacking = unrecorded(experiments, index, stored)
    planned = {"all": list(experiments), "missing": lacking, "none": []}[options.run]
    recorded = len(experiments) - len(lacking)
    known = ""
    if recorded and options.run != "all":
        known = f"; {recorded} of {counted(len(experiments), 'run')} recorded, by the names of their clips"
    if not planned:
        return [f"  {'time':<14}nothing to train{known}"]
    works: dict[str, list[Experiment]] = {}
    for experiment in planned:
        works.setdefault(_work_name(experiment, experiments), []).append(experiment)
    speeds: dict[str, _Speed] = {}
    lines, total = [], 0.0
    for name, (first, *others) in works.items():
        model = f"{first.model} {dict(first.model_config)}"
        speed = speeds[model] = speeds.get(model) or _speed_of(first, index, options)
        each = _seconds(first, index, speed)
        total += each + sum(_seconds(experiment, index, speed) for experiment in others)
        rate = f"{1 / speed.training:.1f} clips/s in training"
        lines.append(f"  {'':<14}{name}: {1 + len(others)} x {duration_text(each)}, {rate}, {speed.source}")
    several = f"{len(planned)} runs, one after another" if len(planned) > 1 else "the run"
    return [f"  {'time':<14}about {duration_text(total)} for {several}{known}{_load_text()}", *lines]


def _work_name(experiment: Experiment, of_all: Sequence[Experiment]) -> str:
    """What distinguishes runs that take different times: model, configuration, part of the clips and epochs."""
    several = len({other.recipe.epochs for other in of_all}) > 1
    return model_name(experiment) + (f", {epochs_text(experiment.recipe)}" if several else "")


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
