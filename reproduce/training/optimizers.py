"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from models import SpectrogramTransformer
from reproduce.experiments.recipe import Recipe


def make_optimizer(model: SpectrogramTransformer, recipe: Recipe, fused: bool = False) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only: none on 1-D tensors and on what the model itself exempts.

    Or AST's Adam, whose weight decay is an L2 term on every parameter.

    Args:
        model: whose parameters are updated.
        recipe: optimiser, rate, betas and weight decay.
        fused: one kernel per step. It resumes bit for bit, but rounds otherwise than the loop over tensors that the
            committed CPU records were made with: for GPUs.
    """
    options: dict[str, Any] = {
        "lr": recipe.lr,
        "betas": recipe.betas,
        "fused": fused or None,
    }  # None: torch chooses among the others
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), weight_decay=recipe.weight_decay, **options)
    exempt = model.no_weight_decay()
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (undecayed if parameter.ndim <= 1 or name in exempt else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, **options)


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """The rate of one step: linear to `recipe.lr` over the warm-up, then the schedule.

    AST's warm-up (`warmup_every` 50) holds each rate for 50 steps and begins with 0.

    Args:
        recipe: peak rate, warm-up and schedule.
        step: 0 to `total_steps` - 1, counted over the whole run.
        total_steps: steps of the run.
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
