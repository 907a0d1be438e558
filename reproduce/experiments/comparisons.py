"""List the experiments of a comparison: folds, equal MACs, pooling variants, learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family
from reproduce.experiments.presets import ComparisonPreset

# Recipe names of the studies with a separate table. Longer runs of equal MACs had a name of their own once.
EQUAL_MACS, POOLING = "equal MACs", "pooling"
# Row of the paper's ablation -> query pooling (frequency, time) at blocks 2, 5 and 21 (sec. 4; RECIPES 3.11).
POOLING_ABLATIONS: dict[str, tuple[tuple[int, int], ...]] = {
    "mast": ((2, 2), (2, 2), (1, 2)),
    "2d_at_21": ((2, 2), (2, 2), (2, 2)),
    "none_at_21": ((2, 2), (2, 2), (1, 1)),
    "first_only": ((2, 2), (1, 1), (1, 1)),
    "none": ((1, 1), (1, 1), (1, 1)),
}


def fixed_split(
    preset: ComparisonPreset,
    dataset: str,
    variant: str,
    train: tuple[str, ...],
    test: tuple[str, ...],
    seeds: tuple[int, ...],
    *,
    val: tuple[str, ...] = (),
) -> list[Experiment]:
    """Return an experiment per (seed, model) on a corpus with official training and test splits.

    Args:
        preset: models, front end and recipe.
        dataset: registered name.
        variant: variant of the data set; "" for a data set with only one.
        train: splits to train on.
        test: splits to score.
        seeds: seeds of the runs.
        val: splits to score after every epoch.
    """
    return [
        Experiment(
            model=model,
            dataset=dataset,
            train_splits=train,
            test_splits=test,
            val_splits=val,
            front_end=preset.front_end,
            recipe=preset.recipe_of(model),
            scale=preset.scale,
            variant=variant,
            seed=seed,
        )
        for seed in seeds
        for model in preset.models
    ]


def cross_validation(
    preset: ComparisonPreset,
    dataset: str,
    folds: tuple[str, ...],
    test_folds: tuple[str, ...],
    seeds: tuple[int, ...],
) -> list[Experiment]:
    """Return an experiment per (seed, fold, model), in this order; each fold of `test_folds` is the test set once.

    Args:
        preset: models, front end and recipe.
        dataset: registered name.
        folds: all folds of the data.
        test_folds: folds to score.
        seeds: seeds of the runs.

    Raises:
        InputError: the data have fewer than two folds.
    """
    if len(folds) < 2:
        raise InputError(f"cross-validation needs at least two folds, the data have {len(folds)}: {', '.join(folds)}")
    return [
        Experiment(
            model=model,
            dataset=dataset,
            train_splits=_without(folds, fold),
            test_splits=(fold,),
            front_end=preset.front_end,
            recipe=preset.recipe_of(model),
            scale=preset.scale,
            seed=seed,
        )
        for seed in seeds
        for fold in test_folds
        for model in preset.models
    ]


def at_equal_macs(experiments: Iterable[Experiment], macs: Mapping[str, float]) -> list[Experiment]:
    """Return longer runs: of each cheaper model until it has taken the training MACs of the dearest one, and of that.

    So models are compared at equal epochs, short and long, and at equal MACs. The runs are those of a plain comparison
    of that length, and serve it too.

    Args:
        experiments: runs of all models with equal epochs.
        macs: model -> MACs per clip.
    """
    highest, longer = max(macs.values()), []
    for experiment in experiments:
        own = macs[experiment.model]
        compared = macs.values() if own == highest else (own, highest)
        for epochs in sorted(equal_macs_lengths(experiment.recipe.epochs, compared)):
            longer.append(replace(experiment, recipe=replace(experiment.recipe, epochs=epochs)))
    return longer


def equal_macs_lengths(epochs: int, macs: Iterable[float]) -> set[int]:
    """Return the longer trainings at which a cheaper model has taken the MACs of the dearest one in `epochs` epochs.

    Args:
        epochs: of the short training.
        macs: MACs per clip of every model.
    """
    costs = list(macs)
    return {round(epochs * max(costs) / cost) for cost in costs} - {epochs} if costs else set()


def pooling_variants(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Return each MAST run with every row of the paper's pooling ablation, and each AST run unchanged."""
    variants = []
    for experiment in experiments:
        configs: list[dict[str, Any]] = [{}]
        if family(experiment.model) == "mast":
            configs += [{"pool_strides": strides} for name, strides in POOLING_ABLATIONS.items() if name != "mast"]
        variants += [replace(experiment, model_config=config, recipe_name=POOLING) for config in configs]
    return variants


def learning_rate_search(
    preset: ComparisonPreset, dataset: str, variant: str, train: tuple[str, ...], validation: tuple[str, ...]
) -> list[Experiment]:
    """Return an experiment per (learning rate, model).

    Args:
        preset: models, front end, recipe and the rates to try.
        dataset: registered name.
        variant: variant of the data set; "" for a data set with only one.
        train: splits to train on.
        validation: splits to score. The preset's runs must not test them: see `ComparisonPreset.test_folds`.
    """
    return [
        Experiment(
            model=model,
            dataset=dataset,
            train_splits=train,
            test_splits=validation,
            front_end=preset.front_end,
            recipe=preset.search_recipe(lr),
            scale=preset.scale,
            variant=variant,
        )
        for lr in preset.search_lrs
        for model in preset.models
    ]


def _without(folds: tuple[str, ...], fold: str) -> tuple[str, ...]:
    return tuple(f for f in folds if f != fold)
