"""Optimisers."""

from __future__ import annotations

import torch
from torch import nn

from models import SpectrogramTransformer
from reproduce.experiments.recipe import Recipe


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
