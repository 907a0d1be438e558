"""Compute learning rates by step. No torch here."""

from __future__ import annotations

import math
from functools import cache

from reproduce.experiments.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Compute the rate of one step: a linear warm-up to `recipe.lr`, then the schedule.

    AST's warm-up (`warmup_every` 50) keeps each rate for 50 steps and begins with 0.

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


def optimizer_steps(recipe: Recipe, clips: int) -> int:
    """Count the optimizer steps of a run: per epoch the training clips over the batch, rounded up."""
    return recipe.epochs * math.ceil(clips / recipe.batch_size)


@cache
def summed_learning_rate(recipe: Recipe, total_steps: int) -> float:
    """Add up the learning rate over all steps: the distance that a run can move its weights, for any batch size."""
    return math.fsum(learning_rate(recipe, step, total_steps) for step in range(total_steps))
