"""Speeds of recorded training runs. No torch here."""

from __future__ import annotations

import json

from reproduce.efficiency.plan import TrainingSpeed
from reproduce.experiments.experiment import Experiment
from reproduce.records.records import Records, latest
from reproduce.records.runs import TrainedRun, canonical_config


def training_speed(records: Records, experiment: Experiment) -> TrainingSpeed | None:
    """The speed of the newest training run of the same model on the same input size; None without one.

    The speed of several processes is divided by their number, so that it is that of one device.
    """
    newest = latest(
        run
        for run in records.of_kind(TrainedRun)
        if _same_work(run, experiment) and run.metrics.get("train_clips_per_s", 0) > 0
    )
    if newest is None:
        return None
    environment = newest.environment
    training = newest.metric("train_clips_per_s") / environment.processes
    predicted = newest.metrics.get("predict_clips_per_s", 0) / environment.processes
    source = (
        f"{experiment.model} trained at {training:.1f} clips/s per device on {environment.device}, "
        f"{environment.precision} (record {newest.key}, {newest.day})"
    )
    # Without a recorded speed: prediction is at least as fast as training.
    return TrainingSpeed(training, predicted if predicted > 0 else training, source)


def _same_work(run: TrainedRun, experiment: Experiment) -> bool:
    ours, theirs = experiment.front_end, run.front_end
    config = json.dumps(canonical_config(experiment.model, experiment.model_config), sort_keys=True)
    wanted = (experiment.model, config, ours.mels, ours.frames)
    return (run.model, run.config_key, theirs.mels, theirs.frames) == wanted
