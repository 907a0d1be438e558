"""Warnings about a training run whose numbers look wrong. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
        history: one dict per epoch, with "epoch", "loss", and the test "map" in per cent where it was scored.
    """
    lines = []
    curve = _published_curve(experiment)
    last = history[-1]
    if curve is not None and last["epoch"] in curve and last.get("map") is not None:
        published = curve[last["epoch"]]
        if last["map"] < FAR_BELOW * published:
            lines.append(
                f"below AST's curve: mAP {last['map']:.2f} % after epoch {last['epoch']}, AST's own log has "
                f"{published:.2f} %; check labels, weights and the sampler before you continue"
            )
    losses = [epoch["loss"] for epoch in history]
    if len(losses) == FLAT_EPOCHS and min(losses[1:]) >= losses[0]:
        lines.append(
            f"the loss does not fall: {', '.join(f'{loss:.4f}' for loss in losses)} over the first {FLAT_EPOCHS} "
            "epochs; check the learning rate and the labels"
        )
    return lines


def _published_curve(experiment: Mapping[str, Any]) -> Mapping[int, float] | None:
    """AST's curve for its official recipe on AudioSet from ImageNet weights; None for other runs."""
    official = experiment["model"] == "ast_base" and experiment.get("recipe_name") == "ast"
    on_audioset = experiment["dataset"] == "audioset" and experiment["weights"] == "imagenet"
    return AST_CURVES.get(experiment["protocol"]) if official and on_audioset else None
