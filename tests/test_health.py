"""Health warnings of a training run: named where its numbers look wrong, none where they look right."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from reproduce.experiments.experiment import Experiment
from reproduce.experiments.overrides import override
from reproduce.experiments.paper_recipes import paper_recipe, to_experiment
from reproduce.training.health import AST_CURVES, health_warnings

OFFICIAL = {variant: paper_recipe("ast", "ast", "audioset", variant) for variant in AST_CURVES}


def warned(experiment: Experiment, history: list[dict[str, Any]]) -> list[str]:
    """All warnings while `history` grows."""
    values = experiment.to_dict()
    return [line for end in range(1, len(history) + 1) for line in health_warnings(values, history[:end])]


def falling(maps: Iterable[float]) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "loss": 1 / epoch, "map": score} for epoch, score in enumerate(maps, start=1)]


def along(variant: str, share: float) -> list[float]:
    """`share` of AST's curve; between its known epochs 0, where nothing is compared."""
    curve = AST_CURVES[variant]
    return [share * curve.get(epoch, 0.0) for epoch in range(1, max(curve) + 1)]


@pytest.mark.parametrize("variant", AST_CURVES)
def test_a_run_near_the_published_curve_has_no_warning(variant: str) -> None:
    experiment = to_experiment(OFFICIAL[variant], seed=0)
    for share in (0.8, 1.0, 1.2):
        assert warned(experiment, falling(along(variant, share))) == []


@pytest.mark.parametrize("variant", AST_CURVES)
def test_a_run_far_below_the_published_curve_has_a_warning_per_known_epoch(variant: str) -> None:
    lines = warned(to_experiment(OFFICIAL[variant], seed=0), falling(along(variant, 0.3)))
    assert len(lines) == len(AST_CURVES[variant])
    assert all(line.startswith("below AST's curve: mAP ") for line in lines)
    first = AST_CURVES[variant][1]
    assert f"mAP {0.3 * first:.2f} % after epoch 1, AST's own log has {first:.2f} %" in lines[0]


def test_the_published_curves_are_those_of_asts_logs() -> None:
    # RECIPES 2.6, "Log check".
    assert AST_CURVES["balanced"][1] == 1.66 and AST_CURVES["balanced"][25] == 33.58
    assert list(AST_CURVES["full"].values()) == [41.53, 43.49, 44.76, 44.90, 44.86]


def epochs_of(experiment: Experiment, clips: int, maps: Iterable[float]) -> list[dict[str, Any]]:
    """`falling` with the clips of an epoch and its steps."""
    steps = math.ceil(clips / experiment.recipe.batch_size)
    return [{**epoch, "clips": clips, "steps": steps} for epoch in falling(maps)]


def test_other_recipes_and_models_are_compared_at_the_same_summed_rate() -> None:
    # 1,486 steps per epoch of 17,823 clips. AST adds up to 0.346 x in five epochs, MAST's protocol to 0.372 in 50.
    for recipe in (
        paper_recipe("mast", "mast", "audioset", "balanced"),
        paper_recipe("mast", "ast", "audioset", "balanced"),
        override(OFFICIAL["balanced"], {"batch_size": 24}),
    ):
        experiment = to_experiment(recipe, seed=0)
        poor = warned(experiment, epochs_of(experiment, 17_823, [0.5] * experiment.recipe.epochs))
        assert all(" at the same summed learning rate; check" in line for line in poor)
        named = [float(line.split("log has ")[1].split(" %")[0]) for line in poor]
        assert named[:5] == list(AST_CURVES["balanced"].values())[:5] and len(set(named)) == len(named)
        good = epochs_of(experiment, 17_823, [34.0] * experiment.recipe.epochs)
        assert warned(experiment, good) == []


def test_a_batch_that_trains_little_reaches_little_of_asts_curve() -> None:
    experiment = to_experiment(override(paper_recipe("mast", "mast", "audioset", "balanced"), {"batch_size": 64}), 0)
    (line,) = warned(experiment, epochs_of(experiment, 17_823, [0.5] * 50))
    assert "AST's own log has 1.66 % after epoch 1," in line  # all 50 epochs add up to less than two of AST's


@pytest.mark.parametrize(
    "experiment",
    [
        to_experiment(override(OFFICIAL["balanced"], {"weights": "scratch"}), seed=0),
        to_experiment(paper_recipe("mast", "ast", "vggsound"), seed=0),
    ],
    ids=["from scratch", "another data set"],
)
def test_runs_without_a_published_curve_are_not_compared(experiment: Experiment) -> None:
    assert warned(experiment, epochs_of(experiment, 17_823, [0.01] * 25)) == []


def test_a_run_without_test_scores_is_not_compared() -> None:
    history = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 6)]
    assert warned(to_experiment(OFFICIAL["full"], seed=0), history) == []


@pytest.mark.parametrize(
    ("losses", "flat"),
    [
        ([0.7, 0.7, 0.7], True),
        ([0.7, 0.8, 0.9], True),
        ([0.7, 0.8, 0.6], False),
        ([0.7, 0.6, 0.8], False),
        ([0.7, 0.7], False),
    ],
)
def test_a_loss_that_does_not_fall_has_one_warning_after_three_epochs(losses: list[float], flat: bool) -> None:
    experiment = to_experiment(paper_recipe("mast", "mast", "vggsound"), seed=0)
    history = [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate([*losses, 0.9][: len(losses) + flat], 1)]
    lines = warned(experiment, history)
    assert len(lines) == flat
    if flat:
        shown = ", ".join(f"{loss:.4f}" for loss in losses)
        assert lines[0].startswith(f"the loss does not fall: {shown} over the first 3 epochs")
