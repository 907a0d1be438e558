"""Warnings about a training run whose numbers look wrong. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from reproduce.experiments.paper_recipes import AST, paper_recipe
from reproduce.experiments.recipe import Recipe
from reproduce.experiments.schedule import learning_rate

# mAP in per cent by epoch of AST's own logs, without weight averaging (YuanGongND/ast egs/audioset/exp/*/result.csv).
AST_CURVES: Mapping[str, Mapping[int, float]] = {
    "balanced": {1: 1.66, 2: 5.13, 3: 12.52, 4: 19.14, 5: 23.63, 10: 31.27, 15: 33.23, 25: 33.58},
    "full": {1: 41.53, 2: 43.49, 3: 44.76, 4: 44.90, 5: 44.86},
}


FAR_BELOW = 0.5  # of the published mAP
FLAT_EPOCHS = 3


def health_warnings(experiment: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per symptom of the epoch that has just ended; empty where there is none.

    Args:
        experiment: as in a record.
        history: one dict per epoch, with "epoch", "loss", "steps", "clips", and the test "map" in per cent where it was
            scored.
    """
    lines = []
    last, published = history[-1], _published(experiment, history)
    if published is not None and last["map"] < FAR_BELOW * published.value:
        lines.append(
            f"below AST's curve: mAP {last['map']:.2f} % after epoch {last['epoch']}, AST's own log has "
            f"{published.value:.2f} %{published.where}; check labels, weights and the sampler before you continue"
        )
    losses = [epoch["loss"] for epoch in history]
    if len(losses) == FLAT_EPOCHS and min(losses[1:]) >= losses[0]:
        lines.append(
            f"the loss does not fall: {', '.join(f'{loss:.4f}' for loss in losses)} over the first {FLAT_EPOCHS} "
            "epochs; check the learning rate and the labels"
        )
    return lines


@dataclass(frozen=True)
class _Published:
    """A point of AST's log that the last epoch is compared with.

    Args:
        value: mAP in per cent.
        where: what of AST's log it is, "" for the same epoch of the same recipe.
    """

    value: float
    where: str = ""


def _published(experiment: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> _Published | None:
    """The point of AST's log for the last epoch of a run on AudioSet from ImageNet weights.

    AST by its own recipe is compared epoch by epoch. Every other model and recipe is compared at the same summed
    learning rate, in the first epoch that reaches that of a known epoch of AST.

    Returns:
        None for other runs, and for epochs that are not scored or reach no further epoch of AST's log.
    """
    on_audioset = experiment["dataset"] == "audioset" and experiment["weights"] == "imagenet"
    curve = AST_CURVES.get(experiment["protocol"]) if on_audioset and experiment["scale"] == "paper" else None
    if curve is None or history[-1].get("map") is None:
        return None
    epoch = history[-1]["epoch"]
    if experiment["model"] == "ast_base" and experiment.get("recipe_name") == "ast":
        return _Published(curve[epoch]) if epoch in curve else None
    recipe = Recipe.from_dict(experiment["recipe"])
    before, now = (_epochs_reached(experiment["protocol"], recipe, history, done) for done in (epoch - 1, epoch))
    if not now or now == before:
        return None
    return _Published(curve[now], f" after epoch {now}, at the same summed learning rate")


def _epochs_reached(variant: str, recipe: Recipe, history: Sequence[Mapping[str, Any]], epochs: int) -> int:
    """The last known epoch of AST's log whose summed learning rate this recipe has reached after `epochs` epochs."""
    last = history[-1]
    summed = _rate_after(recipe, last["steps"], epochs)
    official = paper_recipe(AST, AST, "audioset", variant).recipe
    steps = math.ceil(last["clips"] / official.batch_size)
    return max((known for known in AST_CURVES[variant] if _rate_after(official, steps, known) <= summed), default=0)


@cache
def _rate_after(recipe: Recipe, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate summed over the steps of the first `epochs` epochs."""
    total = steps_per_epoch * recipe.epochs
    return math.fsum(learning_rate(recipe, step, total) for step in range(steps_per_epoch * epochs))
