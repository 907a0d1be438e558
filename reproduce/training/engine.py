"""Training and prediction loops. They take batches and return numbers and arrays; they open, print and plot nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from reproduce.data.batches import Batch
from reproduce.errors import InputError
from reproduce.evaluation.predict import as_heads
from reproduce.experiments.recipe import Recipe
from reproduce.experiments.schedule import learning_rate
from reproduce.training.losses import per_clip_losses

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where one is made: it takes seconds, and tables need none


class TrainingDiverged(InputError):
    """The loss is no longer a number."""


@dataclass
class EpochSums:
    """What an epoch has added up so far, over all processes; an interrupted one goes on from its own."""

    loss: float = 0.0
    clips: int = 0
    steps: int = 0
    seconds: float = 0.0
    lr: float = 0.0

    def summary(self) -> dict[str, float]:
        """Mean loss over clips, last learning rate, steps, clips and clips per second."""
        return {
            "loss": self.loss / self.clips if self.clips else math.nan,
            "lr": self.lr,
            "steps": self.steps,
            "clips": self.clips,
            "clips_per_s": self.clips / self.seconds if self.seconds else 0.0,
        }


def train_one_epoch(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    recipe: Recipe,
    seed: tuple[int, int],
    epoch_start: int,
    total_steps: int,
    multilabel: bool,
    sums: EpochSums,
    after_step: Callable[[int, float, bool], None] = lambda clips, loss, stop: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """One pass, or the rest of one; `sums` is added to.

    Args:
        model, optimizer: as `accelerator.prepare` gave them.
        batches: this process' pieces of the steps that are left.
        seed: (seed, epoch), from which drop path draws anew in every step.
        epoch_start: steps of the run before this epoch.
        total_steps: of the run.
        after_step: called with the step's clips and mean loss, and whether any process asked to stop.
        stop: whether this process was asked to.

    Raises:
        TrainingDiverged: a loss or gradients that are not finite; the weights are then those before the step.
    """
    model.train()
    start = time.perf_counter()
    before = sums.seconds
    loss_sum, weight_sum = torch.zeros((), device=accelerator.device), torch.zeros((), device=accelerator.device)
    fresh = True
    for batch in batches:
        step = epoch_start + batch.step
        if fresh:
            sums.lr = learning_rate(recipe, step, total_steps)
            for group in optimizer.param_groups:
                group["lr"] = sums.lr
            optimizer.zero_grad(set_to_none=True)
            state = np.random.SeedSequence((*seed, batch.step, accelerator.process_index)).generate_state(1)
            torch.manual_seed(int(state[0]))
            loss_sum.zero_()
            weight_sum.zero_()
        # Only the last piece's backward pass waits for the other processes' gradients.
        with nullcontext() if batch.last else accelerator.no_sync(model):
            logits = as_heads(model(batch.inputs))
            losses = per_clip_losses(logits, batch.targets, multilabel, recipe.label_smoothing) * batch.weights
            # Gradients are averaged over processes: their number makes the sum over the global batch a mean again.
            accelerator.backward(losses.sum() * (accelerator.num_processes / batch.clips))
        loss_sum += losses.detach().sum()
        weight_sum += batch.weights.sum()
        fresh = batch.last
        if not batch.last:
            continue
        told = torch.stack((loss_sum, weight_sum, torch.full_like(loss_sum, float(stop()))))
        total, clips, asked = accelerator.reduce(told, "sum").tolist()
        if not math.isfinite(total):
            raise TrainingDiverged(
                f"the loss became {total} at step {step} (lr {sums.lr:.2e}): lower the learning rate"
            )
        norm = accelerator.clip_grad_norm_(model.parameters(), recipe.clip_norm or math.inf)
        # float16's scaler skips such a step and lowers its scale; without one the weights would be lost.
        if accelerator.scaler is None and not math.isfinite(float(norm)):
            raise TrainingDiverged(
                f"the gradients became {float(norm)} at step {step} (lr {sums.lr:.2e}): lower the learning rate"
            )
        optimizer.step()
        sums.loss, sums.clips, sums.steps = sums.loss + total, sums.clips + int(clips), sums.steps + 1
        sums.seconds = before + time.perf_counter() - start
        after_step(int(clips), total / max(clips, 1), asked > 0)
