"""One step of a real recipe before days of it: does it fit, does it move, does it come back from its checkpoint?"""

from __future__ import annotations

import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reproduce.data.waveform_store import WaveformStore
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.metrics.headline import HEADLINES, headline, score
from reproduce.training.processes import gather
from reproduce.training.runner import build_model
from reproduce.training.trainer import Execution, Progress, Trainer

TEST_CLIPS = 8


def dry_run(experiment: Experiment, store: WaveformStore, execution: Execution, runs: Path) -> str:
    """Trains one global batch, writes a checkpoint, resumes it in a new model, trains another, predicts 8 test clips.

    The recipe is the experiment's but for its length. Nothing is recorded. Returns what happened, in one line.

    Args:
        runs: where training keeps its checkpoints, on a disk that all processes see; a folder comes and goes there.

    Raises:
        InputError: as `run_experiment`, or the resumed run does not hold what was saved.
    """
    train, test = store.where_split(*experiment.train_splits), store.where_split(*experiment.test_splits)
    train, test = _first(train, experiment.recipe.batch_size), _first(test, TEST_CLIPS)
    execution = replace(execution, checkpoint_seconds=0.0)
    if execution.accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    averaged = min(1, experiment.recipe.average_from)
    resumed: list[int] = []
    progress = Progress(on_resume=lambda epochs, clips: resumed.append(epochs))
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dry-run-", dir=runs) as own:
        folder = gather([own])[0]  # of several processes the first one writes, and all read it
        for epochs in (1, 2):
            recipe = replace(experiment.recipe, epochs=epochs, average_from=averaged)
            shortened = replace(experiment, recipe=recipe)
            model = build_model(shortened, store.index)
            trainer = Trainer(shortened, model, train, test, Path(folder), execution, progress)
            trainer.train()
            execution.accelerator.free_memory()  # the accelerator would hold on to both models
            size = max((path.stat().st_size for path in Path(folder).glob("*.pt")), default=0)
        if resumed != [1]:
            raise InputError(f"{folder}: the checkpoint was not gone on from")
        predictions = trainer.predict_test()
    history, index = trainer.state.history, test.index
    targets = {head: index.targets(head, predictions.positions) for head in index.classes}
    metrics = score(predictions.logits, targets, index.multilabel)
    name = headline(metrics)
    pieces = len(execution.share.micro_batches(len(train)))
    return (
        f"{experiment.model}, recipe {experiment.recipe_name}: a step of {len(train)} clips in {pieces} "
        f"piece{'s' if pieces > 1 else ''} took {1 / history[-1]['clips_per_s'] * len(train):.1f} s, loss "
        f"{history[0]['loss']:.4f} then {history[1]['loss']:.4f}, peak memory {_peak_gib(execution):.1f} GiB; "
        f"checkpoint of {size / 1e9:.2f} GB written and resumed; {len(predictions.positions)} test clips predicted "
        f"({HEADLINES[name]} {metrics[name]:.1f} %)"
    )


def _first(store: WaveformStore, clips: int) -> WaveformStore:
    positions = np.arange(min(clips, len(store)))
    return replace(store, index=store.index.take(positions), waveforms=store.waveforms.take(positions))


def _peak_gib(execution: Execution) -> float:
    """Of the device; on a CPU of the whole process, from its start on."""
    if execution.accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
