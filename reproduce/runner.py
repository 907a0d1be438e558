"""The one stage-joiner: Experiment + clips -> trained weights, stored predictions, RunRecord."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import SpectrogramTransformer, create_model
from models.checkpoints import save_checkpoint, weights_sha256
from models.complexity import measure_complexity
from reproduce.datasets import ClipIndex
from reproduce.datasets.base import DEFAULT_HEAD
from reproduce.engine import make_optimizer, predict, train_one_epoch
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.experiments import Experiment
from reproduce.loading import WaveformStore, evaluation_batches, training_batches
from reproduce.predictions import StoredPredictions, save_predictions, score
from reproduce.records import RunRecord, append_record, now

EVALUATION_BATCH = 32


@dataclass(frozen=True)
class Progress:
    """What a run tells while it works; a progress bar subscribes, tests do not."""

    on_step: Callable[[int, float], None] = lambda clips, loss: None
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, summary: None


def experiment_key(experiment: Experiment, index: ClipIndex) -> str:
    """Key of `experiment` on these clips."""
    train, test = index.where_split(*experiment.train_splits), index.where_split(*experiment.test_splits)
    return experiment.key(train.ids_sha256(), test.ids_sha256())


def build_model(experiment: Experiment, index: ClipIndex) -> SpectrogramTransformer:
    """The experiment's model with one head per head of the data, weights drawn from its seed."""
    torch.manual_seed(experiment.seed)
    heads = {head: len(classes) for head, classes in index.classes.items()}
    config: dict[str, Any] = {"drop_path_rate": experiment.recipe.drop_path_rate, **experiment.model_config}
    return create_model(
        experiment.model,
        num_classes=heads[DEFAULT_HEAD] if set(heads) == {DEFAULT_HEAD} else heads,
        input_size=(experiment.front_end.mels, experiment.front_end.frames),
        **config,
    )


def run_experiment(
    experiment: Experiment,
    index: ClipIndex,
    store: WaveformStore,
    records: Path,
    runs: Path,
    device: str,
    progress: Progress = Progress(),
    kind: str = "train",
) -> RunRecord:
    """Train, predict the test clips with the last epoch's weights, store everything, append and return the record.

    The test clips are looked at once, after the last epoch: nothing is selected on them.

    Args:
        index: all clips as listed; they define the key.
        store: the clips that decoded.
        records: folder of the records; predictions go to its `predictions/`.
        runs: folder for the weights.
        device: torch device.
        kind: "train", or "search" where the test splits are a validation fold.

    Raises:
        TrainingDiverged: the loss is no longer a number; nothing is stored.
    """
    start = time.perf_counter()
    key = experiment_key(experiment, index)
    train, test = store.where_split(*experiment.train_splits), store.where_split(*experiment.test_splits)
    model = build_model(experiment, store.index).to(device)
    history = _train(model, experiment, train, device, progress)
    predictions = predict(model, evaluation_batches(test, EVALUATION_BATCH, device))
    stored = StoredPredictions(
        np.array(test.index.clip_ids.tolist()),
        predictions.logits,
        {head: test.index.targets(head) for head in test.index.classes},
        predictions.embeddings,
    )
    _save_weights(runs / f"{key}.safetensors", model, experiment, store)
    record = RunRecord(
        kind=kind,
        key=key,
        experiment=experiment.to_dict(),
        scale=experiment.scale,
        metrics={
            **score(stored.logits, stored.targets, test.index.multilabel),
            **cost_metrics(model),
            "train_loss": history[-1]["loss"],
            "train_clips_per_s": statistics.median(epoch["clips_per_s"] for epoch in history),
            "predict_clips_per_s": len(test) / predictions.seconds,
        },
        dataset=describe_data(index, store, test.index),
        seed=experiment.seed,
        weights_sha256=weights_sha256(model),
        history=tuple(history),
        # The time is in the name, so that a repeated run leaves the earlier record's predictions alone.
        predictions=save_predictions(records, f"{key}-{datetime.now(UTC):%Y%m%dT%H%M%S}", stored),
        wall_time_s=time.perf_counter() - start,
        environment={**describe_environment(device), "attention": model.attention},
        created=now(),
    )
    append_record(records, record)
    return record


def _train(
    model: SpectrogramTransformer, experiment: Experiment, train: WaveformStore, device: str, progress: Progress
) -> list[dict[str, float]]:
    recipe = experiment.recipe
    steps_per_epoch = -(-len(train) // recipe.batch_size)
    optimizer = make_optimizer(model, recipe)
    history = []
    for epoch in range(recipe.epochs):
        # Drop path draws from the global generator: seeding it per epoch makes an epoch independent of what ran before.
        torch.manual_seed(int(np.random.SeedSequence((experiment.seed, epoch)).generate_state(1)[0]))
        summary = train_one_epoch(
            model,
            training_batches(train, recipe, experiment.seed, epoch, device),
            optimizer,
            recipe,
            first_step=epoch * steps_per_epoch,
            total_steps=recipe.epochs * steps_per_epoch,
            multilabel=train.index.multilabel,
            on_step=progress.on_step,
        )
        history.append({"epoch": epoch + 1, **summary})
        progress.on_epoch(epoch + 1, summary)
    return history


def cost_metrics(model: SpectrogramTransformer) -> dict[str, int]:
    """Parameters and MACs of one clip, so that accuracy and cost stand in the same record."""
    complexity = measure_complexity(model)
    return {
        "parameters": complexity.parameters,
        "macs_module_only": complexity.macs_module_only,
        "macs_full": complexity.macs_full,
    }


def describe_data(index: ClipIndex, store: WaveformStore, test: ClipIndex) -> dict[str, Any]:
    """What the record says of the data: counts, identity and every clip that could not be used."""
    return {
        "name": index.dataset,
        "protocol": index.protocol,
        "classes": {head: list(classes) for head, classes in index.classes.items()},
        "listed": sum(index.listed.values()),
        "kept": len(store),
        "test_listed": sum(index.listed.get(split, 0) for split in test.split_names()),
        "test_kept": len(test),
        "test_ids_sha256": test.ids_sha256(),
        "problems": [[p.clip_id, p.reason, p.fatal] for p in store.problems],
    }


def _save_weights(path: Path, model: SpectrogramTransformer, experiment: Experiment, store: WaveformStore) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            path,
            model,
            experiment.model,
            front_end=experiment.front_end.to_dict(),
            labels={head: list(classes) for head, classes in store.index.classes.items()},
            multilabel=store.index.multilabel,
            extra={"experiment": experiment.to_dict()},
        )
    except OSError as error:
        raise InputError(f"{path}: cannot store the weights ({error.strerror}): free space, or --runs DIR") from None
