"""Training and prediction loops. They take batches and return numbers and arrays; they open, print and plot nothing."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import SpectrogramTransformer
from reproduce.datasets import Problem
from reproduce.datasets.base import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.experiments import Recipe
from reproduce.loading import Batch, EvaluationBatch

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where one is made: it takes seconds, and tables need none

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours -> Accelerate's


class TrainingDiverged(InputError):
    """The loss is no longer a number."""


def make_accelerator(device: str, precision: str = "fp32") -> Accelerator:
    """The process' device, its place among the others (torchrun, accelerate launch) and the precision of products.

    Args:
        device: torch device; among several processes each takes its own GPU.
        precision: one of PRECISIONS; weights, optimiser, losses and spectrograms are always float32.
    """
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    if device not in ("cpu", "cuda"):  # one GPU by its number
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    # The batch is put together here; a user's own accelerate config must not divide its gradient once more.
    once = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=device == "cpu", mixed_precision=PRECISIONS[precision], gradient_accumulation_plugin=once)


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, in the order of their ranks, on each of them."""
    from accelerate.utils import gather_object

    return gather_object(items)


def make_optimizer(model: SpectrogramTransformer, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only: none on 1-D tensors and on what the model itself exempts.

    Or AST's Adam, whose weight decay is an L2 term on every parameter.
    """
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay)
    exempt = model.no_weight_decay()
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (undecayed if parameter.ndim <= 1 or name in exempt else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Of step 0, 1, ... `total_steps` - 1 of the whole run: linear to `recipe.lr` over the warm-up, then the schedule.

    AST's warm-up (`warmup_every` 50) holds each rate for 50 steps and begins with 0.
    """
    warmup = min(recipe.warmup_steps, total_steps)
    if step < warmup:
        reached = step + 1 if recipe.warmup_every == 1 else step // recipe.warmup_every * recipe.warmup_every
        return recipe.lr * reached / warmup
    if recipe.schedule == "steps":
        epochs_done = step // (total_steps // recipe.epochs)
        late = epochs_done - recipe.decay_start
        return recipe.lr * (recipe.decay ** (late // recipe.decay_every + 1) if late >= 0 else 1.0)
    progress = (step - warmup) / max(1, total_steps - warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))


def clip_losses(
    logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], multilabel: bool, label_smoothing: float = 0.0
) -> Tensor:
    """(batch,) mean over heads of BCE (multi-label) or soft-target cross-entropy; both take raw logits.

    AST's own code turns a mixed label into class 0 on the cross-entropy path (`argmax(labels.long())`); soft targets
    do not. A head's mean is AudioSlowFast's 0.5 * (verb + noun) where there are two.
    """
    losses = []
    for head, target in targets.items():
        values = logits[head].float()
        if multilabel:
            losses.append(F.binary_cross_entropy_with_logits(values, target, reduction="none").mean(dim=1))
        else:
            losses.append(F.cross_entropy(values, target, label_smoothing=label_smoothing, reduction="none"))
    return torch.stack(losses).mean(dim=0)


def as_heads(logits: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A single-head model's logits under the name that single-head data sets use."""
    return logits if isinstance(logits, dict) else {DEFAULT_HEAD: logits}


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
            losses = clip_losses(logits, batch.targets, multilabel, recipe.label_smoothing) * batch.weights
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


@dataclass(frozen=True)
class Predictions:
    """Per clip, ordered by its position in the store.

    Args:
        positions: (n,) int64; clips that could not be used are not among them.
        logits: head -> (n, classes), raw; of a clip with several crops those of its mean probabilities.
        embeddings: (n, dim), mean over crops.
        seconds: the model's time alone, crops included.
        problems: clips that could not be used.
    """

    positions: np.ndarray
    logits: dict[str, np.ndarray]
    embeddings: np.ndarray
    seconds: float
    problems: tuple[Problem, ...] = ()


@torch.inference_mode()
def predict(
    model: SpectrogramTransformer,
    batches: Iterable[EvaluationBatch],
    multilabel: bool,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Predictions:
    """Logits and pooled embeddings of every clip that can be used; the first batch runs once untimed."""
    model.eval()
    logits: dict[str, list[np.ndarray]] = {}
    embeddings: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    problems: list[Problem] = []
    seconds = 0.0
    for batch in batches:
        problems += batch.problems
        if not len(batch.positions):
            continue
        with autocast():
            if not embeddings:
                model(batch.inputs)
            synchronise(batch.inputs.device)
            start = time.perf_counter()
            embedding = model.pool(model.forward_features(batch.inputs))
            outputs = as_heads(model.classify(embedding))
            synchronise(batch.inputs.device)
        seconds += time.perf_counter() - start
        for head, values in outputs.items():
            logits.setdefault(head, []).append(_mean_of_crops(values.float(), batch.crops, multilabel).cpu().numpy())
        embeddings.append(_mean_rows(embedding.float(), batch.crops).cpu().numpy())
        positions.append(batch.positions)
    if not positions:
        return Predictions(np.empty(0, np.int64), {}, np.empty((0, 0), np.float32), 0.0, tuple(problems))
    return Predictions(
        np.concatenate(positions),
        {head: np.concatenate(rows) for head, rows in logits.items()},
        np.concatenate(embeddings),
        seconds,
        tuple(problems),
    )


def _mean_of_crops(logits: Tensor, crops: np.ndarray, multilabel: bool) -> Tensor:
    """(crops, classes) to (clips, classes): the logits of the mean probabilities."""
    if (crops == 1).all():
        return logits
    if multilabel:
        means = torch.logit(_mean_rows(logits.double().sigmoid(), crops), eps=1e-12).float()
    else:
        means = _mean_rows(logits.double().softmax(dim=1), crops).clamp(min=1e-38).log().float()
    # A clip of one crop keeps its own logits, whatever clips stand beside it.
    alone = torch.from_numpy(crops == 1).to(logits.device).unsqueeze(1)
    return torch.where(alone, _mean_rows(logits, crops), means)


def _mean_rows(rows: Tensor, counts: np.ndarray) -> Tensor:
    """Consecutive `counts[i]` rows of (rows, dim) averaged, (clips, dim)."""
    if (counts == 1).all():
        return rows
    return torch.stack([part.mean(dim=0) for part in rows.split(counts.tolist())])


def merge(parts: Iterable[Predictions]) -> Predictions:
    """Those of several processes, as one process would have made them.

    Raises:
        InputError: not one clip could be used.
    """
    parts = list(parts)
    problems = tuple(problem for part in parts for problem in part.problems)
    parts = [part for part in parts if len(part.positions)]
    if not parts:
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"none of the clips to predict can be used{first}")
    order = np.argsort(np.concatenate([part.positions for part in parts]), kind="stable")
    heads = parts[0].logits
    return Predictions(
        np.concatenate([part.positions for part in parts])[order],
        {head: np.concatenate([part.logits[head] for part in parts])[order] for head in heads},
        np.concatenate([part.embeddings for part in parts])[order],
        max(part.seconds for part in parts),
        problems,
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
