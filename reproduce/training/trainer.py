"""One run from its first step to its last, on one process or many, across interruptions."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from models import ModelError, SpectrogramClassifier
from reproduce.data.batches import (
    Batch,
    EpochPart,
    EvaluationBatch,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import Problem
from reproduce.efficiency.compilation import compile_model
from reproduce.errors import InputError
from reproduce.evaluation.predict import Predictions, drop_not_finite, merge, predict, score_predictions
from reproduce.experiments.experiment import Experiment
from reproduce.metrics.headline import headline
from reproduce.records.clusterings import DATASET as CLUSTERED_DATASET
from reproduce.training.checkpointer import Checkpointer
from reproduce.training.engine import EpochContext, TrainingDiverged, train_one_epoch
from reproduce.training.epoch_log import EpochLogger
from reproduce.training.epoch_meter import EpochMeter, StepReport
from reproduce.training.execution import SILENT, Execution, Progress
from reproduce.training.health import health_warnings
from reproduce.training.optimizers import make_optimizer
from reproduce.training.processes import accelerator_of_run, gather
from reproduce.training.signals import Stopped
from reproduce.training.state import TrainingState, weights

EVALUATION_BATCH = 32  # clips
CLIPS_NAMED = 5  # in a message
VAL = "validation_"  # prefix of an epoch's scores on the validation clips


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What is trained on what.

    Args:
        experiment: recipe and seed.
        model: with its initial weights, which training changes.
        train: clips of the experiment's training splits.
        test: clips of its test splits.
        folder: of this run's checkpoints and logs.
        val: clips that are scored after every epoch, None for none.
    """

    experiment: Experiment
    model: SpectrogramClassifier
    train: WaveformStore
    test: WaveformStore
    folder: Path
    val: WaveformStore | None = None


class Trainer:
    """Trains a run, resumes it from a checkpoint in its folder, and predicts its test clips.

    Args:
        run: see there.
        execution: see there; its accelerator is not changed.
        progress: callbacks.
        received: signals that ask to stop, as `stop_signals` collects them.

    Test clips are scored after every epoch only if the recipe reports the best epoch; validation clips always.
    """

    def __init__(
        self, run: TrainingRun, execution: Execution, progress: Progress = SILENT, received: Sequence[int] = ()
    ) -> None:
        self.run, self.execution, self.progress, self.received = run, execution, progress, received
        self.recipe = run.experiment.recipe
        self.steps = steps_per_epoch(len(run.train), self.recipe)
        self.accelerator = accelerator_of_run(execution, run.folder)
        optimizer = make_optimizer(run.model, self.recipe)
        if execution.compile:
            compile_model(run.model, str(self.accelerator.device))
        self.wrapped, self.optimizer = self.accelerator.prepare(run.model, optimizer)
        self.state = TrainingState()
        warn, seconds = progress.on_warning, execution.checkpoint_seconds
        self.checkpoints = Checkpointer(self.accelerator, run.model, self.optimizer, run.folder, seconds, warn)

    # --- training ---------------------------------------------------------------------------------------------------

    def train(self) -> Predictions | None:
        """Train the epochs that are left.

        Returns:
            Predictions of the test clips by the final weights, where this call scored them; None otherwise.

        Raises:
            Stopped: a signal came; the same run resumes from the last checkpoint.
            TrainingDiverged: the loss is no longer finite; the message names clips of that step.
            InputError: the processes read different checkpoints.
        """
        self._resume()
        predictions = None
        log = EpochLogger(self.accelerator, self.run.folder, self.progress.on_warning)
        log.write(self.state.history)  # epochs after the checkpoint are trained again
        with log.tracking(self.run.experiment.to_dict(), self.state.epoch):
            for epoch in range(self.state.epoch, self.recipe.epochs):
                self._train_epoch(epoch)
                predictions = self.predict_test() if self.recipe.report_best else None
                self._finish_epoch(predictions, self._validation(), log)
                if any(gather([bool(self.received)])):
                    self._stop()
        return predictions

    def _train_epoch(self, epoch: int) -> None:
        started, spent = time.perf_counter(), self.state.seconds

        def on_step(report: StepReport) -> None:
            self.progress.on_step(report.clips, report.loss / max(report.clips, 1))
            self.state.seconds = spent + time.perf_counter() - started
            if report.stop:
                self._stop()
            if report.checkpoint:
                self.checkpoints.save(self.state)

        context = EpochContext(
            accelerator=self.accelerator,
            recipe=self.recipe,
            seed=(self.run.experiment.seed, epoch),
            first_step=epoch * self.steps,
            total_steps=self.recipe.epochs * self.steps,
            multilabel=self.run.train.index.multilabel,
            stop=lambda: bool(self.received),
            checkpoint=self.checkpoints.due,
            on_step=on_step,
            lag=1 if self.accelerator.device.type == "cuda" else 0,
        )
        try:
            train_one_epoch(context, self.wrapped, self.optimizer, self._batches(epoch), self.state.meter)
        except TrainingDiverged as error:
            raise self._with_clips(error) from None
        except ModelError as error:
            raise InputError(str(error)) from None
        self.state.seconds = spent + time.perf_counter() - started

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The batches that are left of the epoch; clips that could not be used are kept and named once."""
        part = EpochPart(
            seed=self.run.experiment.seed, epoch=epoch, share=self.execution.share, first_step=self.state.meter.steps
        )
        device = self.accelerator.device
        for batch in training_batches(self.run.train, self.recipe, part, device, self.execution.workers):
            for problem in batch.problems:
                if problem.clip_id not in self.state.problems:
                    self.state.problems[problem.clip_id] = problem
                    self.progress.on_warning(f"{'not used' if problem.fatal else 'warning'}: {problem.message}")
            yield batch

    def _with_clips(self, error: TrainingDiverged) -> TrainingDiverged:
        """The same error with the names of the clips to look at, of all processes."""
        index = self.run.train.index
        ids = gather([str(index.clip_ids[position]) for position in error.positions])
        more = f" and {len(ids) - CLIPS_NAMED} more" if len(ids) > CLIPS_NAMED else ""
        mixed = ", or clips mixed into them" if self.recipe.mixup else ""
        named = f"{', '.join(ids[:CLIPS_NAMED])}{more}{mixed}"
        return TrainingDiverged(f"{error}, or check these clips of that step: {named}", error.positions)

    def _finish_epoch(self, predictions: Predictions | None, validation: Mapping[str, float], log: EpochLogger) -> None:
        """Book the epoch.

        Args:
            predictions: of the test clips by its weights, where the recipe asks for them.
            validation: scores of the validation clips by its weights.
            log: of the run.
        """
        state = self.state
        summary: dict[str, Any] = {**state.meter.summary(), **validation}
        state.epoch += 1
        if self.recipe.average_from and state.epoch >= self.recipe.average_from:
            state.average.add(self.run.model)
        if predictions is not None:
            metrics = score_predictions(predictions, self.run.test.index)
            name = headline(metrics)
            summary[name] = metrics[name]
            if not state.best or metrics[name] > state.best["metrics"][name]:
                state.best = {"epoch": state.epoch, "metrics": metrics}
        state.history.append({"epoch": state.epoch, **summary})
        state.meter = EpochMeter()
        log.write(state.history)
        log.track(state.history[-1])
        self.progress.on_epoch(state.epoch, summary)
        for line in health_warnings(self.run.experiment.to_dict(), state.history):
            self.progress.on_warning(f"warning: {line}")
        if self.checkpoints.due():
            self.checkpoints.save(self.state)

    def _validation(self) -> dict[str, float]:
        """The headline score of the validation clips by the current weights, "validation_top1"; {} without them."""
        if self.run.val is None:
            return {}
        metrics = score_predictions(self._predict(self.run.val), self.run.val.index)
        name = headline(metrics)
        return {f"{VAL}{name}": metrics[name]}

    # --- evaluation -------------------------------------------------------------------------------------------------

    def predict_test(self, state: Mapping[str, Tensor] | None = None) -> Predictions:
        """Predict each test clip once, over all processes.

        Args:
            state: weights to use instead of the model's own.

        Raises:
            Stopped: a signal came; a checkpoint has been written, from which the same run predicts again.
            InputError: no test clip could be used.
        """
        return self._predict(self.run.test, state)

    def _predict(self, clips: WaveformStore, state: Mapping[str, Tensor] | None = None) -> Predictions:
        share, part = self.execution.share, None
        if len(share.of(len(clips))):
            device, crops = self.accelerator.device, self.recipe.test_crops
            batches = evaluation_batches(clips, EVALUATION_BATCH, device, crops, share, self.execution.workers)
            with weights(self.run.model, state):
                batches = self._until_stopped(batches)
                clustered = self.run.experiment.dataset == CLUSTERED_DATASET  # Table 6 has two readings of features
                part = predict(self.run.model, batches, clips.index.multilabel, self.accelerator.autocast, clustered)
        reports = gather([(bool(self.received), part)])
        if any(stop for stop, _ in reports):
            self._stop()
        merged = merge(part for _, part in reports if part is not None)
        return merge([drop_not_finite(merged, clips.index.clip_ids)])

    def _until_stopped(self, batches: Iterable[EvaluationBatch]) -> Iterator[EvaluationBatch]:
        for batch in batches:
            yield batch
            if self.received:
                return

    def problems(self) -> list[Problem]:
        """Training clips that could not be used, as every process met them."""
        met = gather(list(self.state.problems.values()))
        return list({problem.clip_id: problem for problem in met}.values())

    # --- interruptions ----------------------------------------------------------------------------------------------

    def _stop(self) -> NoReturn:
        self.checkpoints.save(self.state)
        self.accelerator.wait_for_everyone()
        raise Stopped(self.received[0] if self.received else signal.SIGTERM)

    def _resume(self) -> None:
        state = self.checkpoints.load()
        if state is not None:
            self.state = state
        position = (self.state.epoch, self.state.meter.steps, self.state.seconds)
        if len({*gather([position])}) > 1:
            raise InputError(
                f"{self.run.folder}: the processes read different checkpoints: "
                "give --runs a folder that every node sees"
            )
        if state is not None:
            self.progress.on_resume(state.epoch, state.epoch * len(self.run.train) + state.meter.clips)
