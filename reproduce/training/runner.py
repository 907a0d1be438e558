"""The one stage-joiner: Experiment + clips -> trained weights, stored predictions, RunRecord."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import SpectrogramTransformer, create_model
from models.checkpoints import save_checkpoint, weights_sha256
from models.complexity import measure_complexity
from models.pretrained import load_by_name, load_pretrained
from models.weight_files import CheckpointError
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.evaluation.predict import Predictions
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import SCRATCH
from reproduce.metrics.headline import score
from reproduce.records.predictions import FOLDER, StoredPredictions, save_predictions
from reproduce.records.record import RunRecord, now
from reproduce.records.store import append_record
from reproduce.training.checkpointing import delete_run_state, locked
from reproduce.training.processes import gather
from reproduce.training.trainer import SILENT, Execution, Progress, Trainer


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
    execution: Execution,
    progress: Progress = SILENT,
    kind: str = "train",
    weights: Path | None = None,
) -> RunRecord:
    """Train, predict the test clips with the last epoch's weights, store everything, append and return the record.

    Whatever `runs` holds of an interrupted run of the same key is gone on from. No epoch is selected on the test clips
    for the record's metrics; where the recipe asks for the averaged weights and the best epoch, their scores stand in
    its details, by name. Of several processes the first one writes.

    Args:
        store: the clips; those that turn out to be unusable are left out and listed.
        records: folder of the records; predictions go to its `predictions/`.
        runs: folder for weights, checkpoints and logs.
        kind: "train", or "search" where the test splits are a validation fold.
        weights: see `build_model`.

    Raises:
        TrainingDiverged: the loss is no longer a number; nothing is stored.
        Stopped: a signal came; the same call goes on from the last checkpoint.
        InputError: a split without usable clips, weights that cannot be loaded, a folder that cannot be written, or
            another process that trains the same run.
    """
    start = time.perf_counter()
    key = experiment_key(experiment, store)
    train, test = store.where_split(*experiment.train_splits), store.where_split(*experiment.test_splits)
    accelerator = execution.accelerator
    if len({*gather([(key, len(train), len(test))])}) > 1:
        raise InputError(
            f"{store.index.root}: the processes do not see the same clips: give all the same files, or use --stream"
        )
    with locked(runs / key) if accelerator.is_main_process else nullcontext():
        model = build_model(experiment, store.index, weights)
        trainer = Trainer(experiment, model, train, test, runs / key, execution, progress)
        trainer.train()
        resumed_s = trainer.state.seconds
        primary = experiment.recipe.primary
        scored = {"last": trainer.predict_test()}
        if trainer.state.averaged:
            scored["averaged"] = trainer.predict_test_averaged()
        predictions = scored[primary]
        stored = _as_stored(predictions, test)
        metrics = score(stored.logits, stored.targets, test.index.multilabel)
        details = _other_scores(trainer, scored, test)
        kept = {"last": {name: value.clone() for name, value in model.state_dict().items()}}
        if trainer.state.averaged:
            kept["averaged"] = trainer.state.average
        model.load_state_dict(kept[primary])
        history = trainer.state.history
        record = RunRecord(
            kind=kind,
            key=key,
            experiment=experiment.to_dict(),
            scale=experiment.scale,
            metrics={
                **metrics,
                **cost_metrics(model),
                "train_loss": history[-1]["loss"],
                "train_clips_per_s": training_speed(history),
                "predict_clips_per_s": len(predictions.positions) / predictions.seconds,
            },
            dataset=describe_data(store, train.index, test.index, stored.clip_ids, _problems(trainer, predictions)),
            seed=experiment.seed,
            weights_sha256=weights_sha256(model),
            history=tuple(history),
            details=details,
            # The time is in the name, so that a repeated run leaves the earlier record's predictions alone.
            predictions=(FOLDER / f"{key}-{datetime.now(UTC):%Y%m%dT%H%M%S}.npz").as_posix(),
            wall_time_s=max(resumed_s, time.perf_counter() - start),
            environment=_environment(execution, model.attention),
            created=now(),
        )
        if accelerator.is_main_process:
            _store(record, stored, experiment, model, kept, store, records, runs)
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    return record


def _store(
    record: RunRecord,
    stored: StoredPredictions,
    experiment: Experiment,
    model: SpectrogramTransformer,
    kept: Mapping[str, Mapping[str, torch.Tensor]],
    store: WaveformStore,
    records: Path,
    runs: Path,
) -> None:
    """Weights, predictions, record, in this order: a record that is there has all it names. Then the checkpoints go."""
    for name, values in kept.items():
        model.load_state_dict(values)
        suffix = "" if name == experiment.recipe.primary else f"-{name}"
        _save_weights(runs / f"{record.key}{suffix}.safetensors", model, experiment, store)
    save_predictions(records, Path(str(record.predictions)).stem, stored)
    append_record(records, record)
    delete_run_state(runs / record.key)


def _other_scores(trainer: Trainer, scored: Mapping[str, Predictions], test: WaveformStore) -> dict[str, Any]:
    """Beside the primary weights' result: the last epoch or the averaged weights, and the best epoch."""
    recipe, details = trainer.recipe, dict[str, Any]()
    for name, predictions in scored.items():
        if name != recipe.primary:
            other = _as_stored(predictions, test)
            epochs = {"from_epoch": recipe.average_from, "to_epoch": recipe.epochs} if name == "averaged" else {}
            details[name] = {**epochs, "metrics": score(other.logits, other.targets, test.index.multilabel)}
    if trainer.state.best:
        details["best"] = trainer.state.best
    return details


def _as_stored(predictions: Predictions, test: WaveformStore) -> StoredPredictions:
    return StoredPredictions(
        np.array(test.index.clip_ids[predictions.positions].tolist()),
        predictions.logits,
        {head: test.index.targets(head, predictions.positions) for head in test.index.classes},
        predictions.embeddings,
    )


def _problems(trainer: Trainer, predictions: Predictions) -> list[Problem]:
    """Met while training and predicting, by every process."""
    met = {p.clip_id: p for p in gather(list(trainer.state.problems.values()))}
    return list((met | {p.clip_id: p for p in predictions.problems}).values())


def _environment(execution: Execution, attention: str) -> dict[str, Any]:
    accelerator = execution.accelerator
    precision = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[accelerator.mixed_precision]
    return {
        **describe_environment(str(accelerator.device), precision),
        "attention": attention,
        "processes": accelerator.num_processes,
        "micro_batch": execution.micro_batch,
        "grad_checkpointing": execution.grad_checkpointing,
    }


def training_speed(history: list[dict[str, float]]) -> float:
    """Median clips per second over epochs, the first left out where there are more: it warms the process up."""
    return statistics.median(epoch["clips_per_s"] for epoch in history[1:] or history)


def cost_metrics(model: SpectrogramTransformer) -> dict[str, int]:
    """Parameters and MACs of one clip, so that accuracy and cost stand in the same record."""
    complexity = measure_complexity(model)
    return {
        "parameters": complexity.parameters,
        "macs_module_only": complexity.macs_module_only,
        "macs_full": complexity.macs_full,
    }


def describe_data(
    store: WaveformStore, train: ClipIndex, test: ClipIndex, tested: np.ndarray, met: list[Problem]
) -> dict[str, Any]:
    """What the record says of the data: counts, identities and every clip or row that could not be used.

    Args:
        tested: ids of the test clips that were predicted.
        met: problems that came up after the store was opened.
    """
    index = store.index
    problems = [*store.problems, *met]
    return {
        "name": index.dataset,
        "protocol": index.variant,
        "standin": store.standin,
        "classes": {head: list(classes) for head, classes in index.classes.items()},
        "listed": sum(index.listed.values()),
        "kept": len(store) - sum(problem.fatal for problem in met),
        "missing": len(index.missing_ids),
        "train_kept": len(train),
        "train_sha256": train.identity_sha256(),
        "test_listed": sum(index.listed.get(split, 0) for split in test.split_names()),
        "test_kept": len(tested),
        "test_sha256": test.identity_sha256(),
        # Messages name file and row; the folder they lie in is this machine's own affair.
        "problems": [[p.clip_id, p.reason, p.fatal, p.message.replace(f"{index.root}/", "")] for p in problems],
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
