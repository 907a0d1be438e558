"""One step of a real recipe before days of it: memory, loss, checkpoint, resume and prediction."""

from __future__ import annotations

import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reproduce.data.waveform_store import WaveformStore
from reproduce.errors import InputError
from reproduce.evaluation.predict import score_predictions
from reproduce.experiments.experiment import Experiment
from reproduce.metrics.headline import HEADLINES, headline
from reproduce.training.execution import NO_TRACKER, Execution, Progress
from reproduce.training.model_building import build_model
from reproduce.training.processes import gather
from reproduce.training.signals import stop_signals
from reproduce.training.trainer import Trainer, TrainingRun

TEST_CLIPS = 8


def dry_run(experiment: Experiment, store: WaveformStore, execution: Execution, runs: Path) -> str:
    """Train one global batch, write a checkpoint, resume it in a new model, train another, predict 8 test clips.

    The recipe is the experiment's but for its length. Nothing is recorded. Returns a line that describes what happened.

    Args:
        experiment: see there.
        store: its clips.
        execution: see there.
        runs: where training keeps its checkpoints, on a disk that all processes see; a temporary folder is made there.

    Raises:
        InputError: as `run_experiment`, or training did not resume from the checkpoint.
    """
    train = _first(store.where_split(*experiment.train_splits), experiment.recipe.batch_size)
    test = _first(store.where_split(*experiment.test_splits), TEST_CLIPS)
    execution = replace(execution, checkpoint_seconds=0.0, log_with=NO_TRACKER)
    if execution.accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    averaged = min(1, experiment.recipe.average_from)
    resumed: list[int] = []
    progress = Progress(on_resume=lambda epochs, clips: resumed.append(epochs))
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dry-run-", dir=runs) as temporary, stop_signals() as received:
        folder = Path(gather([temporary])[0])  # the first process writes, and all read
        for epochs in (1, 2):
            shortened = replace(experiment, recipe=replace(experiment.recipe, epochs=epochs, average_from=averaged))
            model = build_model(shortened, store.index, grad_checkpointing=execution.grad_checkpointing)
            run = TrainingRun(experiment=shortened, model=model, train=train, test=test, folder=folder)
            trainer = Trainer(run, execution, progress, received)
            trainer.train()
            trainer.accelerator.free_memory()  # it would keep the first model beside the second
            size = max((path.stat().st_size for path in folder.glob("*.pt")), default=0)
        if resumed != [1]:
            raise InputError(f"{folder}: training did not resume from the checkpoint: check the disk of --runs")
        predictions = trainer.predict_test()
    history, metrics = trainer.state.history, score_predictions(predictions, test.index)
    name = headline(metrics)
    pieces = len(execution.share.micro_batches(len(train)))
    return (
        f"{experiment.model}, recipe {experiment.recipe_name}: a step of {len(train)} clips in {pieces} "
        f"micro-batch{'es' if pieces > 1 else ''} took {1 / history[-1]['clips_per_s'] * len(train):.1f} s, loss "
        f"{history[0]['loss']:.4f} then {history[1]['loss']:.4f}, peak memory {_peak_gib(execution):.1f} GiB; "
        f"checkpoint of {size / 1e9:.2f} GB written and resumed; {len(predictions)} test clips predicted "
        f"({HEADLINES[name]} {metrics[name]:.1f} %)"
    )


def _first(store: WaveformStore, clips: int) -> WaveformStore:
    positions = np.arange(min(clips, len(store)))
    return replace(store, index=store.index.take(positions), waveforms=store.waveforms.take(positions))


def _peak_gib(execution: Execution) -> float:
    """Peak memory of the device; on a CPU of the whole process since its start."""
    if execution.accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
