"""Training and prediction loops. They take batches and return numbers and arrays; they open, print and plot nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import SpectrogramTransformer
from reproduce.datasets.base import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.experiments import Recipe
from reproduce.loading import Batch


class TrainingDiverged(InputError):
    """The loss is no longer a number."""


def make_optimizer(model: SpectrogramTransformer, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: none on 1-D tensors and on what the model itself exempts."""
    exempt = model.no_weight_decay()
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (undecayed if parameter.ndim <= 1 or name in exempt else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Of step 0, 1, ... `total_steps` - 1: linear to `recipe.lr` over the warm-up, then half a cosine towards 0."""
    warmup = min(recipe.warmup_steps, total_steps)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))


def classification_loss(
    logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], multilabel: bool, label_smoothing: float = 0.0
) -> Tensor:
    """Mean over heads of BCE (multi-label) or soft-target cross-entropy; both take raw logits (batch, classes).

    AST's own code turns a mixed label into class 0 on the cross-entropy path (`argmax(labels.long())`); soft targets
    do not. A head's mean is AudioSlowFast's 0.5 * (verb + noun) where there are two.
    """
    losses = []
    for head, target in targets.items():
        if multilabel:
            losses.append(F.binary_cross_entropy_with_logits(logits[head], target))
        else:
            losses.append(F.cross_entropy(logits[head], target, label_smoothing=label_smoothing))
    return torch.stack(losses).mean()


def as_heads(logits: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A single-head model's logits under the name that single-head data sets use."""
    return logits if isinstance(logits, dict) else {DEFAULT_HEAD: logits}


def train_one_epoch(
    model: SpectrogramTransformer,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    first_step: int,
    total_steps: int,
    multilabel: bool,
    on_step: Callable[[int, float], None] = lambda clips, loss: None,
) -> dict[str, float]:
    """One pass. Returns the mean loss over clips, the last learning rate, steps, clips and clips per second.

    Args:
        on_step: called with the clips and the loss of every step.

    Raises:
        TrainingDiverged: a loss that is not finite; the weights are then those before the step.
    """
    model.train()
    loss_sum, clips, step, lr = 0.0, 0, first_step, 0.0
    start = time.perf_counter()
    for batch in batches:
        lr = learning_rate(recipe, step, total_steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        logits = as_heads(model(batch.inputs))
        loss = classification_loss(logits, batch.targets, multilabel, recipe.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(f"the loss became {value} at step {step} (lr {lr:.2e}): lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        size = len(batch.positions)
        loss_sum, clips, step = loss_sum + value * size, clips + size, step + 1
        on_step(size, value)
    seconds = time.perf_counter() - start
    return {
        "loss": loss_sum / clips,
        "lr": lr,
        "steps": step - first_step,
        "clips": clips,
        "clips_per_s": clips / seconds,
    }


@dataclass(frozen=True)
class Predictions:
    """Per clip, in the order of the store: raw logits {head: (n, classes)} and embeddings (n, dim)."""

    logits: dict[str, np.ndarray]
    embeddings: np.ndarray
    seconds: float


@torch.inference_mode()
def predict(model: SpectrogramTransformer, batches: Iterable[Batch]) -> Predictions:
    """Logits and pooled embeddings of every clip; `seconds` is the model's time alone, after one untimed batch."""
    model.eval()
    logits: dict[str, list[np.ndarray]] = {}
    embeddings: list[np.ndarray] = []
    seconds = 0.0
    for batch in batches:
        if not embeddings:
            model(batch.inputs)
        synchronise(batch.inputs.device)
        start = time.perf_counter()
        tokens = model.forward_features(batch.inputs)
        embedding = model.pool(tokens)
        outputs = as_heads(model.classify(embedding))
        synchronise(batch.inputs.device)
        seconds += time.perf_counter() - start
        for head, values in outputs.items():
            logits.setdefault(head, []).append(values.float().cpu().numpy())
        embeddings.append(embedding.float().cpu().numpy())
    return Predictions(
        {head: np.concatenate(rows) for head, rows in logits.items()}, np.concatenate(embeddings), seconds
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
