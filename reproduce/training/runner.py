"""Joins the stages: an experiment and its clips become trained weights, stored predictions and a record."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace

from torch import nn

from reproduce.data.waveform_store import WaveformStore
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.training_subset import training_positions
from reproduce.records.record import RunRecord
from reproduce.training.checkpoint_files import lock_run
from reproduce.training.execution import Execution, RunSettings
from reproduce.training.model_building import build_model
from reproduce.training.processes import gather
from reproduce.training.run_keys import RunKeys
from reproduce.training.run_record import FinishedRun, Scored, make_record, store_run
from reproduce.training.signals import Stopped, stop_signals
from reproduce.training.trainer import Trainer, TrainingRun


def run_experiment(experiment: Experiment, store: WaveformStore, settings: RunSettings) -> RunRecord:
    """Train, predict the test clips with the final weights, store everything, append and return the record.

    Resumes an interrupted run of the same key from its folder under `settings.runs`. The record's metrics are those of
    the recipe's primary weights; no epoch is selected on the test clips for them. Where the recipe asks for averaged
    weights and the best epoch, their scores are in the record's details, by name.

    Args:
        experiment: see there.
        store: the clips; those that cannot be used are left out and listed. Its digests make the run's key cover the
            sound; without them the key is of version 1. Of several processes only the first needs them.
        settings: folders, execution and callbacks. Of several processes the first one writes.

    Raises:
        TrainingDiverged: the loss is no longer finite; nothing is stored.
        Stopped: a signal came; the same call resumes from the last checkpoint.
        InputError: a split without usable clips, weights that cannot be loaded, a folder that cannot be written, or
            another process that trains the same run.
    """
    start = time.perf_counter()
    execution = settings.execution
    # The statistics of a fold's training clips are the experiment's, not the store's.
    store = store if store.spec == experiment.front_end else replace(store, spec=experiment.front_end)
    train, test = training_store(store, experiment), store.where_split(*experiment.test_splits)
    val = store.where_split(*experiment.val_splits) if experiment.val_splits else None
    folder = settings.runs / _common_key(experiment, store, len(train), len(test))
    main = execution.accelerator.is_main_process
    with lock_run(folder) if main else nullcontext():
        model = build_model(experiment, store.index, settings.weights, execution.grad_checkpointing)
        for remark in (*model.remarks, *_batch_norm_remarks(experiment, model, execution)):
            settings.progress.on_warning(remark)
        with stop_signals() as received:
            run = TrainingRun(experiment=experiment, model=model, train=train, test=test, folder=folder, val=val)
            trainer = Trainer(run, execution, settings.progress, received)
            predictions = trainer.train()
            scored: dict[str, Scored] = {"last": (predictions or trainer.predict_test(), None)}
            if trainer.state.average.epochs:
                mean = trainer.state.average.mean
                scored["averaged"] = (trainer.predict_test(mean), mean)
            finished = FinishedRun(
                run=run,
                store=store,
                state=trainer.state,
                scored=scored,
                problems=trainer.problems(),
                execution=execution,
                wall_time_s=max(trainer.state.seconds, time.perf_counter() - start),
            )
            record = make_record(finished, settings.kind, settings.name)
            if main:
                store_run(finished, record, settings)
            trainer.accelerator.free_memory()
            if stops := [number for number in gather(received[:1]) if number]:
                raise Stopped(stops[0])
    return record


def training_store(store: WaveformStore, experiment: Experiment) -> WaveformStore:
    """The training clips of an experiment.

    Raises:
        InputError: none of them can be used.
    """
    positions = training_positions(experiment, store.index)
    return store.take(positions) if len(positions) else store.where_split(*experiment.train_splits)


def _batch_norm_remarks(experiment: Experiment, model: nn.Module, execution: Execution) -> list[str]:
    """A micro-batch is no execution setting where batches are normalised: it changes the result."""
    clips = execution.micro_batch or experiment.recipe.batch_size
    parts = min(clips, -(-experiment.recipe.batch_size // execution.accelerator.num_processes))
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if not normalised or parts == experiment.recipe.batch_size:
        return []
    return [f"{experiment.model}: batch normalisation sees {parts} clips at a time, not {experiment.recipe.batch_size}"]


def _common_key(experiment: Experiment, store: WaveformStore, train_clips: int, test_clips: int) -> str:
    """The experiment's key, by the first process' digests.

    Raises:
        InputError: not all processes see the same clips.
    """
    keys = RunKeys(store)
    if len({*gather([(keys.names_key(experiment), train_clips, test_clips)])}) > 1:
        raise InputError(
            f"{store.index.root}: the processes do not see the same clips: give all the same files, or use --stream"
        )
    return gather([keys.key(experiment)])[0]
