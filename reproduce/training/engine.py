"""The training loop of one epoch. It takes batches and returns numbers; it opens, prints and plots nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from reproduce.data.batches import Batch
from reproduce.errors import InputError
from reproduce.evaluation.predict import as_heads
from reproduce.experiments.recipe import Recipe
from reproduce.experiments.schedule import learning_rate
from reproduce.training.epoch_meter import EpochMeter, StepReport
from reproduce.training.losses import per_clip_losses
from reproduce.training.step_clock import Mark, StepClock

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where one is made: it takes seconds, and tables need none


class TrainingDiverged(InputError):
    """The loss or the gradients are no longer finite.

    Args:
        message: one line.
        positions: of the clips to blame, in the store: those with such a loss, or else all that this process had.
    """

    def __init__(self, message: str, positions: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.positions = positions


def _never() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class EpochContext:
    """What an epoch needs besides model, optimiser and batches.

    Args:
        accelerator: device, precision and processes.
        recipe: how the model is trained.
        seed: (seed, epoch), from which drop path draws anew in every step.
        first_step: steps of the run before this epoch.
        total_steps: steps of the run.
        multilabel: binary cross-entropy per class rather than cross-entropy over classes.
        stop: whether this process is asked to stop.
        checkpoint: whether this process asks for a checkpoint.
        on_step: called after every step. Where the report asks for a stop or a checkpoint, every step taken is counted
            by then, so that weights and counts agree.
        lag: steps that may be under way on the device before their numbers are read. 0 waits for every step; 1 keeps a
            GPU busy. The weights do not depend on it.
    """

    accelerator: Accelerator
    recipe: Recipe
    seed: tuple[int, int]
    first_step: int
    total_steps: int
    multilabel: bool
    stop: Callable[[], bool] = _never
    checkpoint: Callable[[], bool] = _never
    on_step: Callable[[StepReport], None] = lambda report: None
    lag: int = 0


def train_one_epoch(
    context: EpochContext,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    meter: EpochMeter,
) -> None:
    """One pass, or what is left of one; `meter` counts its steps.

    Args:
        context: see there.
        model: as `accelerator.prepare` gave it.
        optimizer: likewise.
        batches: this process' micro-batches of the steps that are left.
        meter: of the epoch.

    Raises:
        TrainingDiverged: the loss or the gradients are not finite. The weights must not be used then.
    """
    accelerator, recipe = context.accelerator, context.recipe
    model.train()
    clock = StepClock(accelerator.device)
    start, before = time.perf_counter(), meter.seconds
    pending: deque[_Step] = deque()
    step: _Step | None = None
    begin = clock.mark()
    for batch in batches:
        ready = clock.mark()
        if step is None:
            number = context.first_step + batch.step
            meter.lr = learning_rate(recipe, number, context.total_steps)
            _start_step(context, optimizer, batch.step, meter.lr)
            step = _Step(number, meter.lr, accelerator.device)
        # Only the last micro-batch's backward pass waits for the other processes' gradients.
        with nullcontext() if batch.last else accelerator.no_sync(model):
            logits = as_heads(model(batch.inputs))
            losses = per_clip_losses(logits, batch.targets, context.multilabel, recipe.label_smoothing, recipe.bce)
            losses = losses * batch.weights
            # Gradients are averaged over processes: their number makes the sum over the global batch a mean again.
            accelerator.backward(losses.sum() * (accelerator.num_processes / batch.clips))
        step.add(batch, losses.detach(), (begin, ready, clock.mark()))
        begin = clock.mark()
        if not batch.last:
            continue
        totals = accelerator.reduce(step.totals(context.stop(), context.checkpoint()), "sum")
        norm = accelerator.clip_grad_norm_(model.parameters(), recipe.clip_norm or math.inf)
        optimizer.step()
        step.finish(totals, norm, begin, clock)
        pending.append(step)
        step = None
        meter.seconds = before + time.perf_counter() - start
        _settle(context, clock, pending, meter, context.lag)
        begin = clock.mark()
    _settle(context, clock, pending, meter, 0)
    meter.seconds = before + time.perf_counter() - start


class _Step:
    """The numbers of one step, on the device until they are read.

    Args:
        number: in the run.
        lr: its learning rate.
        device: of the model.
    """

    def __init__(self, number: int, lr: float, device: torch.device) -> None:
        self.number, self.lr = number, lr
        self.loss, self.clips = torch.zeros((), device=device), torch.zeros((), device=device)
        self.clip_losses: list[tuple[np.ndarray, Tensor]] = []  # positions in the store and their losses
        self.marks: list[tuple[Mark, Mark, Mark]] = []  # per micro-batch: begin, batch at hand, backward pass done

    def add(self, batch: Batch, losses: Tensor, marks: tuple[Mark, Mark, Mark]) -> None:
        """Count one micro-batch; losses: (batch,)."""
        self.loss += losses.sum()
        self.clips += batch.weights.sum()
        self.clip_losses.append((batch.positions, losses))
        self.marks.append(marks)

    def totals(self, stop: bool, checkpoint: bool) -> Tensor:
        """(4,) sums of this process: loss, clips, and its two requests."""
        requests = [torch.full_like(self.loss, float(asked)) for asked in (stop, checkpoint)]
        return torch.stack((self.loss, self.clips, *requests))

    def finish(self, totals: Tensor, norm: Tensor, begin: Mark, clock: StepClock) -> None:
        """Start the copy of the numbers to the host, which does not wait for it; `end` is the mark of its completion.

        Args:
            totals: (4,) as above, over all processes.
            norm: of the gradients before clipping.
            begin: after the backward pass.
            clock: of the epoch.
        """
        self.numbers = torch.cat((totals, norm.detach().reshape(1).to(totals))).to("cpu", non_blocking=True)
        self.begin, self.end = begin, clock.mark()

    def report(self, clock: StepClock, scaled: bool) -> StepReport:
        """Wait for the step and check its numbers.

        Args:
            clock: of the epoch.
            scaled: float16's scaler skips a step whose gradients are not finite, and lowers its scale.

        Raises:
            TrainingDiverged: see `train_one_epoch`.
        """
        clock.wait(self.end)
        loss, clips, stop, checkpoint, norm = self.numbers.tolist()
        for what, value in (("loss", loss), ("gradients", 0.0 if scaled else norm)):
            if not math.isfinite(value):
                verb = "became" if what == "loss" else "have norm"
                raise TrainingDiverged(
                    f"the {what} {verb} {value} at step {self.number} (lr {self.lr:.2e}): lower the learning rate",
                    self._suspects(),
                )
        return StepReport(
            clips=int(clips),
            loss=loss,
            stop=stop > 0,
            checkpoint=checkpoint > 0,
            data_s=sum(clock.seconds(begin, ready) for begin, ready, _ in self.marks),
            model_s=sum(clock.seconds(ready, done) for _, ready, done in self.marks),
            optimizer_s=clock.seconds(self.begin, self.end),
        )

    def _suspects(self) -> tuple[int, ...]:
        """Positions of the clips whose losses are not finite; all of the step's where each loss is finite."""
        positions = np.concatenate([positions for positions, _ in self.clip_losses])
        finite = torch.cat([losses for _, losses in self.clip_losses]).isfinite().cpu().numpy()
        return tuple(int(position) for position in (positions if finite.all() else positions[~finite]))


def _start_step(context: EpochContext, optimizer: torch.optim.Optimizer, step: int, lr: float) -> None:
    """Set the learning rate, clear the gradients and seed drop path for step `step` of the epoch."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    sequence = np.random.SeedSequence((*context.seed, step, context.accelerator.process_index))
    torch.manual_seed(int(sequence.generate_state(1)[0]))


def _settle(context: EpochContext, clock: StepClock, pending: deque[_Step], meter: EpochMeter, lag: int) -> None:
    """Count the steps in `pending` but the last `lag`; all of them where one asks for a stop or a checkpoint."""
    reports = []
    while len(pending) > lag:
        report = pending.popleft().report(clock, context.accelerator.scaler is not None)
        meter.add(report)
        reports.append(report)
        if report.stop or report.checkpoint:
            lag = 0
    for report in reports:
        context.on_step(report)
