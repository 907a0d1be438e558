"""Speeds of recorded training runs. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reproduce.efficiency.plan import TrainingSpeed
from reproduce.experiments.experiment import Experiment
from reproduce.records.record import RunRecord, number, of_kind
from reproduce.records.selection import canonical_config, latest


def training_speed(records: Iterable[RunRecord], experiment: Experiment) -> TrainingSpeed | None:
    """Return the speed of the newest training run of the same model on the same input size; None without one.

    The speed of several processes is divided by their number, so that it is that of one device.
    """
    newest = latest(
        record
        for record in of_kind(records, "train")
        if _same_work(record.experiment, experiment) and record.metrics.get("train_clips_per_s")
    )
    if newest is None:
        return None
    environment = newest.environment
    devices = int(environment.get("processes", 1))
    training = number(newest.metrics["train_clips_per_s"]) / devices
    predicted = newest.metrics.get("predict_clips_per_s")
    source = (
        f"{experiment.model} trained at {training:.1f} clips/s per device on {environment['device']}, "
        f"{environment['precision']} (record {newest.key}, {newest.created[:10]})"
    )
    # Without a recorded speed: prediction is at least as fast as training.
    return TrainingSpeed(training, predicted / devices if predicted else training, source)


def _same_work(stored: Mapping[str, Any], experiment: Experiment) -> bool:
    spec = experiment.front_end
    return (
        stored["model"] == experiment.model
        and canonical_config(stored["model"], stored["model_config"])
        == canonical_config(experiment.model, experiment.model_config)
        and (stored["front_end"]["mels"], stored["front_end"]["frames"]) == (spec.mels, spec.frames)
    )
