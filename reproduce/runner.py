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
from models.checkpoints import CheckpointError, load_by_name, load_pretrained, save_checkpoint, weights_sha256
from models.complexity import measure_complexity
from reproduce.datasets import ClipIndex
from reproduce.datasets.base import DEFAULT_HEAD
from reproduce.engine import make_optimizer, predict, train_one_epoch
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.experiments import SCRATCH, Experiment
from reproduce.loading import WaveformStore, evaluation_batches, training_batches
from reproduce.predictions import StoredPredictions, save_predictions, score
from reproduce.records import RunRecord, append_record, now

EVALUATION_BATCH = 32


@dataclass(frozen=True)
class Progress:
    """What a run tells while it works; a progress bar subscribes, tests do not."""

    on_step: Callable[[int, float], None] = lambda clips, loss: None
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, summary: None


def experiment_key(experiment: Experiment, store: WaveformStore) -> str:
    """Key of `experiment` on the clips that decoded: a relabelled or mended clip makes another run."""
    train, test = (store.index.where_split(*names) for names in (experiment.train_splits, experiment.test_splits))
    return experiment.key(train.identity_sha256(), test.identity_sha256())


def build_model(experiment: Experiment, index: ClipIndex, weights: Path | None = None) -> SpectrogramTransformer:
    """The experiment's model with one head per head of the data.

    Args:
        weights: file of the published weights to start from, where they are not fetched by name.

    Raises:
        InputError: the weights cannot be had, or are not this model's.
    """
    torch.manual_seed(experiment.seed)
    heads = {head: len(classes) for head, classes in index.classes.items()}
    config: dict[str, Any] = {"drop_path_rate": experiment.recipe.drop_path_rate, **experiment.model_config}
    model = create_model(
        experiment.model,
        num_classes=heads[DEFAULT_HEAD] if set(heads) == {DEFAULT_HEAD} else heads,
        input_size=(experiment.front_end.mels, experiment.front_end.frames),
        **config,
    )
    try:
        if weights is not None:
            load_pretrained(model, weights)
        elif experiment.weights != SCRATCH:
            load_by_name(model, experiment.weights)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    return model


def run_experiment(
    experiment: Experiment,
    store: WaveformStore,
    records: Path,
    runs: Path,
    device: str,
    progress: Progress = Progress(),
    kind: str = "train",
    weights: Path | None = None,
) -> RunRecord:
    """Train, predict the test clips with the last epoch's weights, store everything, append and return the record.

    The test clips are looked at once, after the last epoch: no epoch is selected on them.

    Args:
        store: the clips that decoded.
        records: folder of the records; predictions go to its `predictions/`.
        runs: folder for the weights.
        device: torch device.
        kind: "train", or "search" where the test splits are a validation fold.
        weights: see `build_model`.

    Raises:
        TrainingDiverged: the loss is no longer a number; nothing is stored.
        InputError: a split without usable clips, weights that cannot be loaded, or a folder that cannot be written.
    """
    start = time.perf_counter()
    key = experiment_key(experiment, store)
    train, test = store.where_split(*experiment.train_splits), store.where_split(*experiment.test_splits)
    model = build_model(experiment, store.index, weights).to(device)
    history = _train(model, experiment, train, device, progress)
    predictions = predict(model, evaluation_batches(test, EVALUATION_BATCH, device))
    wall_time_s = time.perf_counter() - start
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
            "train_clips_per_s": training_speed(history),
            "predict_clips_per_s": len(test) / predictions.seconds,
        },
        dataset=describe_data(store, train.index, test.index),
        seed=experiment.seed,
        weights_sha256=weights_sha256(model),
        history=tuple(history),
        # The time is in the name, so that a repeated run leaves the earlier record's predictions alone.
        predictions=save_predictions(records, f"{key}-{datetime.now(UTC):%Y%m%dT%H%M%S}", stored),
        wall_time_s=wall_time_s,
        environment={**describe_environment(device), "attention": model.attention},
        created=now(),
    )
    append_record(records, record)
    return record


def training_speed(history: list[dict[str, float]]) -> float:
    """Median clips per second over epochs, the first left out where there are more: it warms the process up."""
    return statistics.median(epoch["clips_per_s"] for epoch in history[1:] or history)


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


def describe_data(store: WaveformStore, train: ClipIndex, test: ClipIndex) -> dict[str, Any]:
    """What the record says of the data: counts, identities and every clip or row that could not be used."""
    index = store.index
    return {
        "name": index.dataset,
        "protocol": index.protocol,
        "standin": store.standin,
        "classes": {head: list(classes) for head, classes in index.classes.items()},
        "listed": sum(index.listed.values()),
        "kept": len(store),
        "missing": len(index.missing_ids),
        "train_kept": len(train),
        "train_sha256": train.identity_sha256(),
        "test_listed": sum(index.listed.get(split, 0) for split in test.split_names()),
        "test_kept": len(test),
        "test_sha256": test.identity_sha256(),
        # Messages name file and row; the folder they lie in is this machine's own affair.
        "problems": [[p.clip_id, p.reason, p.fatal, p.message.replace(f"{index.root}/", "")] for p in store.problems],
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
    except (OSError, CheckpointError) as error:
        raise InputError(f"{path}: cannot store the weights ({error}): free space, or another --runs folder") from None
