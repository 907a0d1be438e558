"""One run from its first step to its last, on one process or many, whatever interrupts it."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from models import SpectrogramTransformer
from reproduce.data.batches import EpochPart, evaluation_batches, steps_per_epoch, training_batches
from reproduce.data.rank_share import RankShare
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import Problem
from reproduce.errors import InputError
from reproduce.evaluation.predict import Predictions, merge, predict
from reproduce.experiments.experiment import Experiment
from reproduce.metrics.headline import headline, score
from reproduce.training.alarms import alarms
from reproduce.training.checkpointing import load_run_state, save_run_state
from reproduce.training.engine import EpochSums, train_one_epoch
from reproduce.training.optimizers import make_optimizer
from reproduce.training.processes import gather
from reproduce.training.signals import Stopped, stop_signals

if TYPE_CHECKING:
    from accelerate import Accelerator


EVALUATION_BATCH = 32  # clips
EPOCH_LOG = "epochs.jsonl"


@dataclass(frozen=True)
class Progress:
    """What a run tells while it works; a progress bar subscribes, tests do not."""

    on_resume: Callable[[int, int], None] = lambda epochs, clips: None
    on_step: Callable[[int, float], None] = lambda clips, loss: None
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, summary: None
    on_warning: Callable[[str], None] = lambda line: None


SILENT = Progress()


@dataclass(frozen=True)
class Execution:
    """How a run is executed. None of it is part of what is trained, so none is in its key; the record has it.

    Args:
        accelerator: device, precision and the processes that share the run.
        micro_batch: clips a device takes at once; None for its share of the batch.
        workers: processes that read clips ahead, for each training process.
        grad_checkpointing: recompute activations in the backward pass, for memory.
        checkpoint_seconds: at most so much work is lost by a kill.
    """

    accelerator: Accelerator
    micro_batch: int | None = None
    workers: int = 0
    grad_checkpointing: bool = False
    checkpoint_seconds: float = 300.0

    @property
    def share(self) -> RankShare:
        return RankShare(self.accelerator.process_index, self.accelerator.num_processes, self.micro_batch)


@dataclass
class RunState:
    """Where a run is. Everything a checkpoint holds besides weights and optimiser.

    Args:
        epoch: epochs finished.
        sums: of the epoch that is under way.
        history: one dict a finished epoch.
        average, averaged: running mean of end-of-epoch weights (float32, CPU), and over how many epochs.
        best: epoch and metrics with the highest headline score on the test clips.
        seconds: spent so far, before the last interruption.
        problems: clips that could not be used in training.
    """

    epoch: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    history: list[dict[str, Any]] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    averaged: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    problems: dict[str, Problem] = field(default_factory=dict)


class Trainer:
    """Trains `model` by `experiment`.

    Args:
        train, test: clips of the experiment's splits.
        folder: of this run's checkpoints and logs.

    A checkpoint in `folder` is gone on from. Test clips are looked at after every epoch only if the recipe reports the
    best one.
    """

    def __init__(
        self,
        experiment: Experiment,
        model: SpectrogramTransformer,
        train: WaveformStore,
        test: WaveformStore,
        folder: Path,
        execution: Execution,
        progress: Progress = SILENT,
    ) -> None:
        self.experiment, self.recipe = experiment, experiment.recipe
        self.base = model.set_grad_checkpointing(execution.grad_checkpointing)
        self.train_store, self.test_store = train, test
        self.folder, self.execution, self.progress = folder, execution, progress
        self.accelerator = execution.accelerator
        self.steps = steps_per_epoch(len(train), self.recipe)
        self.state = RunState()
        if self.accelerator.scaler is not None:  # float16: an earlier run's scale must not be this one's
            self.accelerator.scaler = torch.amp.GradScaler(self.accelerator.device.type)
        self.wrapped, self.optimizer = self.accelerator.prepare(model, make_optimizer(model, self.recipe))
        self._scored: tuple[int, Predictions] | None = None
        self._saved_at = time.perf_counter()

    # --- training ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """All epochs that are left.

        Raises:
            Stopped: SIGTERM or SIGINT came; the same run goes on from the last checkpoint.
            TrainingDiverged: the loss is no longer a number.
        """
        self._resume()
        with stop_signals() as received, self._scalars() as write_scalars:
            for epoch in range(self.state.epoch, self.recipe.epochs):
                self._train_epoch(epoch, received)
                self._finish_epoch(write_scalars)
                self._stop_if_asked(received)

    def _train_epoch(self, epoch: int, received: list[int]) -> None:
        started, spent = time.perf_counter(), self.state.seconds

        def after_step(clips: int, loss: float, stop: bool) -> None:
            self.progress.on_step(clips, loss)
            self.state.seconds = spent + time.perf_counter() - started
            if stop:
                self._stop(received)
            if time.perf_counter() - self._saved_at > self.execution.checkpoint_seconds:
                self._save()

        train_one_epoch(
            self.accelerator,
            self.wrapped,
            self.optimizer,
            self._watched(epoch),
            self.recipe,
            (self.experiment.seed, epoch),
            epoch * self.steps,
            self.recipe.epochs * self.steps,
            self.train_store.index.multilabel,
            self.state.sums,
            after_step,
            lambda: bool(received),
        )
        self.state.seconds = spent + time.perf_counter() - started

    def _stop_if_asked(self, received: list[int]) -> None:
        """A signal that came while the test clips were scored; with no step left, no other place would see it."""
        asked = torch.tensor(float(bool(received)), device=self.accelerator.device)
        if self.accelerator.reduce(asked, "sum").item():
            self._stop(received)

    def _stop(self, received: list[int]) -> NoReturn:
        self._save()
        self.accelerator.wait_for_everyone()
        raise Stopped(received[0] if received else signal.SIGTERM)

    def _watched(self, epoch: int) -> Iterator[Any]:
        """The batches that are left of the epoch; clips that could not be used are noted and named."""
        part = EpochPart(
            seed=self.experiment.seed, epoch=epoch, share=self.execution.share, first_step=self.state.sums.steps
        )
        device = self.accelerator.device
        for batch in training_batches(self.train_store, self.recipe, part, device, self.execution.workers):
            for problem in batch.problems:
                if problem.clip_id not in self.state.problems:
                    self.state.problems[problem.clip_id] = problem
                    self.progress.on_warning(f"not used: {problem.message}")
            yield batch

    def _finish_epoch(self, write_scalars: Callable[[dict[str, Any]], None]) -> None:
        state = self.state
        summary: dict[str, Any] = state.sums.summary()
        state.epoch += 1
        if self.recipe.average_from and state.epoch >= self.recipe.average_from:
            self._average()
        if self.recipe.report_best:
            metrics = self._score_epoch()
            name = headline(metrics)
            summary[name] = metrics[name]
            if not state.best or metrics[name] > state.best["metrics"][name]:
                state.best = {"epoch": state.epoch, "metrics": metrics}
        state.history.append({"epoch": state.epoch, **summary})
        state.sums = EpochSums()
        if self.accelerator.is_main_process:
            write_scalars(state.history[-1])
            self._write_epoch_log()
        self.progress.on_epoch(state.epoch, summary)
        for line in alarms(self.experiment.to_dict(), state.history):
            self.progress.on_warning(f"warning: {line}")
        if time.perf_counter() - self._saved_at > self.execution.checkpoint_seconds:
            self._save()

    def _average(self) -> None:
        """Running mean, as torch's AveragedModel keeps it, in float32 in main memory."""
        self.state.averaged += 1
        for name, value in self.base.state_dict().items():
            value = value.detach().float().cpu()
            mean = self.state.average.get(name)
            self.state.average[name] = value.clone() if mean is None else mean + (value - mean) / self.state.averaged

    # --- evaluation -------------------------------------------------------------------------------------------------

    def predict_test(self) -> Predictions:
        """Of the weights as they are, over all processes; each clip once."""
        if self._scored is not None and self._scored[0] == self.state.epoch:
            return self._scored[1]
        share = self.execution.share
        parts: list[Predictions] = []
        if len(share.of(len(self.test_store))):
            batches = evaluation_batches(
                self.test_store,
                EVALUATION_BATCH,
                self.accelerator.device,
                self.recipe.test_crops,
                share,
                self.execution.workers,
            )
            parts = [predict(self.base, batches, self.test_store.index.multilabel, self.accelerator.autocast)]
        merged = merge(gather(parts))
        self._scored = (self.state.epoch, merged)
        return merged

    def predict_test_averaged(self) -> Predictions:
        """Of the averaged weights; the model keeps its own."""
        own = {name: value.detach().clone() for name, value in self.base.state_dict().items()}
        self._scored = None
        self.base.load_state_dict(self.state.average)
        try:
            return self.predict_test()
        finally:
            self._scored = None
            self.base.load_state_dict(own)

    def _score_epoch(self) -> dict[str, float | int]:
        predictions, index = self.predict_test(), self.test_store.index
        targets = {head: index.targets(head, predictions.positions) for head in index.classes}
        return score(predictions.logits, targets, index.multilabel)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """A checkpoint that cannot be written is told and costs nothing but itself: training goes on."""
        self._saved_at = time.perf_counter()
        if not self.accelerator.is_main_process:
            return
        state, scaler = self.state, self.accelerator.scaler
        content = {
            "epoch": state.epoch,
            "sums": asdict(state.sums),
            "history": json.dumps(state.history),
            "best": json.dumps(state.best),
            "problems": json.dumps([asdict(problem) for problem in state.problems.values()]),
            "average": state.average,
            "averaged": state.averaged,
            "seconds": state.seconds,
            "model": self.base.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        try:
            save_run_state(self.folder, state.epoch, state.sums.steps, content)
        except OSError as error:
            self.progress.on_warning(
                f"warning: {self.folder}: no checkpoint written ({error.strerror or error}); the last one still "
                "stands, free some space: training goes on"
            )

    def _resume(self) -> None:
        content = load_run_state(self.folder, self.progress.on_warning)
        self.accelerator.wait_for_everyone()  # nobody writes while another still reads
        if content is not None:
            self.base.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            if content["scaler"] and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(content["scaler"])
            self.state = RunState(
                epoch=content["epoch"],
                sums=EpochSums(**content["sums"]),
                history=json.loads(content["history"]),
                average=content["average"],
                averaged=content["averaged"],
                best=json.loads(content["best"]),
                seconds=content["seconds"],
                problems={p["clip_id"]: Problem(**p) for p in json.loads(content["problems"])},
            )
        places = gather([(self.state.epoch, self.state.sums.steps, self.state.seconds)])
        if len({*places}) > 1:
            raise InputError(
                f"{self.folder}: the processes found different checkpoints: --runs must lie where every node sees it"
            )
        if content is not None:
            done = self.state.epoch * len(self.train_store) + self.state.sums.clips
            self.progress.on_resume(self.state.epoch, done)
        if self.accelerator.is_main_process:
            # Epochs after the checkpoint will be trained again.
            self._write_epoch_log()

    def _write_epoch_log(self) -> None:
        """Whole, so that one that a full disk refused is there after the next epoch."""
        temporary = self.folder / f"{EPOCH_LOG}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text("".join(json.dumps(_finite(epoch)) + "\n" for epoch in self.state.history))
            os.replace(temporary, self.folder / EPOCH_LOG)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self.progress.on_warning(f"warning: {self.folder / EPOCH_LOG}: not written ({error.strerror})")

    @contextmanager
    def _scalars(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that writes an epoch's numbers for TensorBoard."""
        if not self.accelerator.is_main_process:
            yield lambda epoch: None
            return
        from torch.utils.tensorboard import SummaryWriter

        def tell(error: OSError) -> None:
            self.progress.on_warning(f"warning: {self.folder}: no TensorBoard scalars written ({error.strerror})")

        try:
            writer = SummaryWriter(self.folder / "tensorboard", purge_step=self.state.epoch + 1)
        except OSError as error:
            tell(error)
            yield lambda epoch: None
            return

        def write(epoch: dict[str, Any]) -> None:
            try:
                for name, value in epoch.items():
                    if name != "epoch":
                        writer.add_scalar(name, value, epoch["epoch"])
                writer.flush()
            except OSError as error:
                tell(error)

        try:
            yield write
        finally:
            with suppress(OSError):  # what could not be written has been told
                writer.close()


def _finite(epoch: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in epoch.items()}
