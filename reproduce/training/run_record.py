"""The record of a finished run, and the files behind it: weights and per-clip predictions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from models import SpectrogramClassifier
from models.checkpoints import CheckpointError, save_checkpoint, weights_sha256
from models.complexity import measure_complexity
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import ClipIndex, Problem
from reproduce.efficiency.training_memory import training_memory
from reproduce.environment import computing_in, describe_environment
from reproduce.errors import InputError
from reproduce.evaluation.predict import Predictions, score_predictions
from reproduce.experiments.experiment import KEY_VERSION
from reproduce.records.predictions import FOLDER, StoredPredictions, save_predictions
from reproduce.records.reading import CONTENT
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import CLOSED_FORM
from reproduce.records.store import append_record
from reproduce.training.checkpoint_files import delete_training_state
from reproduce.training.execution import Execution, RunSettings
from reproduce.training.processes import PRECISION_NAMES
from reproduce.training.state import TrainingState, weights
from reproduce.training.trainer import TrainingRun

Scored = tuple[Predictions, Mapping[str, Tensor] | None]  # and the weights behind them; None: those of the model


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that is trained and scored.

    Args:
        run: experiment, model with the last epoch's weights, and clips.
        store: all clips of the data set.
        state: history, best epoch and time.
        scored: "last" and, where the recipe asks for it, "averaged" -> test predictions and the weights behind them.
        problems: training clips that could not be used.
        execution: see there.
        wall_time_s: training and prediction, from building the model on, interruptions left out.
    """

    run: TrainingRun
    store: WaveformStore
    state: TrainingState
    scored: Mapping[str, Scored]
    problems: Sequence[Problem]
    execution: Execution
    wall_time_s: float

    @property
    def primary(self) -> Scored:
        """The predictions and weights that are the run's result."""
        return self.scored[self.run.experiment.recipe.primary]


def make_record(finished: FinishedRun, kind: str, name: str = "") -> RunRecord:
    """The record, not appended.

    Args:
        finished: the run.
        kind: "train" or "search".
        name: of the user's own corpus, "" for others.
    """
    run, (predictions, primary) = finished.run, finished.primary
    key, history, model = run.folder.name, finished.state.history, run.model
    with weights(model, primary):
        sha256 = weights_sha256(model)
    problems = {problem.clip_id: problem for problem in (*finished.problems, *predictions.problems)}
    return RunRecord(
        kind=kind,
        key=key,
        experiment=run.experiment.to_dict(),
        scale=run.experiment.scale,
        metrics={
            **score_predictions(predictions, run.test.index),
            **cost_metrics(model),
            "train_loss": history[-1]["loss"],
            "train_clips_per_s": training_speed(history),
            "predict_clips_per_s": predictions.clips_per_s,
        },
        dataset={
            **describe_data(finished.store, run.train, run.test, len(predictions), list(problems.values())),
            **({"corpus": name} if name else {}),
        },
        seed=run.experiment.seed,
        weights_sha256=sha256,
        history=tuple(history),
        details=_other_scores(finished) | macs_source(model),
        # The time is in the name, so that a repeated run leaves the earlier record's predictions alone.
        predictions=(FOLDER / f"{key}-{datetime.now(UTC):%Y%m%dT%H%M%S}.npz").as_posix(),
        wall_time_s=finished.wall_time_s,
        environment=_environment(finished.execution, model),
        created=now(),
    )


def store_run(finished: FinishedRun, record: RunRecord, settings: RunSettings) -> None:
    """Write weights, predictions and record, in this order: a record has all that it names. Then delete checkpoints.

    Raises:
        InputError: a file cannot be written; the checkpoints are still there.
    """
    run = finished.run
    for name, (_, state) in finished.scored.items():
        suffix = "" if name == run.experiment.recipe.primary else f"-{name}"
        with weights(run.model, state):
            _save_weights(settings.runs / f"{record.key}{suffix}.safetensors", run, finished.store.index)
    predictions, _ = finished.primary
    save_predictions(settings.records, Path(str(record.predictions)).stem, as_stored(predictions, run.test))
    append_record(settings.records, record)
    delete_training_state(run.folder)


def as_stored(predictions: Predictions, test: WaveformStore) -> StoredPredictions:
    """Predictions with clip ids, targets, and the groups and hashes of the sound where they are known."""
    index = test.index
    groups = None if index.groups is None else np.array(index.groups[predictions.positions].tolist())
    return StoredPredictions(
        np.array(index.clip_ids[predictions.positions].tolist()),
        predictions.logits,
        {head: index.targets(head, predictions.positions) for head in index.classes},
        predictions.embeddings,
        groups,
        test.digests[predictions.positions] if test.digests is not None and test.has_content else None,
        predictions.second_last,
    )


def _other_scores(finished: FinishedRun) -> dict[str, Any]:
    """Scores beside the primary weights' result: of the last epoch or the averaged weights, and of the best epoch."""
    recipe, details = finished.run.experiment.recipe, dict[str, Any]()
    for name, (predictions, _) in finished.scored.items():
        if name != recipe.primary:
            epochs = {"from_epoch": recipe.average_from, "to_epoch": recipe.epochs} if name == "averaged" else {}
            details[name] = {**epochs, "metrics": score_predictions(predictions, finished.run.test.index)}
    if finished.state.best:
        details["best"] = finished.state.best
    return details


def _environment(execution: Execution, model: SpectrogramClassifier) -> dict[str, Any]:
    accelerator = execution.accelerator
    precision = PRECISION_NAMES[accelerator.mixed_precision]
    with computing_in(precision, accelerator.device):
        attention = model.attention
    return {
        **describe_environment(str(accelerator.device), precision),
        "attention": attention,
        "processes": accelerator.num_processes,
        "micro_batch": execution.micro_batch,
        "grad_checkpointing": execution.grad_checkpointing,
        "compile": execution.compile,
    }


def training_speed(history: Sequence[Mapping[str, float]]) -> float:
    """Median clips per second over epochs, the first left out where there are more: it warms the process up."""
    return statistics.median(epoch["clips_per_s"] for epoch in history[1:] or history)


def macs_source(model: SpectrogramClassifier) -> dict[str, str]:
    """The record's detail on the counter of the MACs; none for closed forms."""
    return {} if model.cost_counter == CLOSED_FORM else {"macs_by": model.cost_counter}


def cost_metrics(model: SpectrogramClassifier) -> dict[str, int]:
    """Parameters, MACs and saved activations of one clip, so that accuracy and cost are in the same record."""
    complexity = measure_complexity(model)
    costs = {
        "parameters": complexity.parameters,
        "macs_module_only": complexity.macs_module_only,
        "macs_full": complexity.macs_full,
    }
    with suppress(NotImplementedError):  # a model that does not state its activations
        costs["activation_bytes"] = training_memory(model, 1, "cpu", mixed=False).saved
    return costs


def describe_data(
    store: WaveformStore, train_clips: WaveformStore, test_clips: WaveformStore, tested: int, met: Sequence[Problem]
) -> dict[str, Any]:
    """The record's description of the data: counts, identities and every clip or row that could not be used.

    Args:
        store: all clips of the data set.
        train_clips: its training clips.
        test_clips: its test clips.
        tested: test clips that were predicted.
        met: problems that came up after the store was opened.
    """
    index, train, test = store.index, train_clips.index, test_clips.index
    problems = [*store.problems, *met]
    content = (train_clips.content_sha256(), test_clips.content_sha256()) if store.has_content else ()
    return {
        "name": index.dataset,
        "protocol": index.variant,
        "multilabel": index.multilabel,
        "unit": index.unit,
        "standin": store.standin,
        "classes": {head: list(classes) for head, classes in index.classes.items()},
        "listed": sum(index.listed.values()),
        "kept": len(store) - sum(problem.fatal for problem in met),
        "missing": len(index.missing_ids),
        "train_kept": len(train),
        "train_sha256": train.identity_sha256(),
        "test_listed": sum(index.listed.get(split, 0) for split in test.split_names()),
        "test_kept": tested,
        "test_sha256": test.identity_sha256(),
        **(dict(zip(CONTENT, content, strict=True)) | {"key_version": KEY_VERSION} if content else {}),
        "problems": [_describe(problem, index.root) for problem in problems],
    }


def _describe(problem: Problem, root: Path) -> dict[str, Any]:
    """Messages name file and row; the folder of the data depends on the machine, and is left out."""
    message = problem.message.replace(f"{root}/", "")
    return {"clip_id": problem.clip_id, "reason": problem.reason, "fatal": problem.fatal, "message": message}


def _save_weights(path: Path, run: TrainingRun, index: ClipIndex) -> None:
    experiment = run.experiment
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            path,
            run.model,
            experiment.model,
            front_end=experiment.front_end.to_dict(),
            labels={head: list(classes) for head, classes in index.classes.items()},
            multilabel=index.multilabel,
            extra={"experiment": experiment.to_dict()},
        )
    except (OSError, CheckpointError) as error:
        raise InputError(f"{path}: cannot store the weights ({error}): free space, or another --runs folder") from None
