"""List the runs that fill a table or figure, at the paper's scale or at demo scale. No torch here.

The paper's scale uses the recipes of `paper_recipes`. A demo trains quarter-width models from scratch on synthetic
stand-ins, in minutes on two CPU cores: it shows that every table can be filled, but not the scores of the paper's
models. Tables show demo results in separate blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reproduce.audio.spec import AudioSpec
from reproduce.datasets import dataset_spec
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family
from reproduce.experiments.overrides import override
from reproduce.experiments.paper_recipes import MBT, paper_recipes, to_experiment, train_splits_of
from reproduce.experiments.paper_studies import BCE, PaperStudy, studies_of, trained_targets
from reproduce.experiments.presets import TUNED_RATES
from reproduce.experiments.recipe import SCRATCH, Recipe

PAPER = "paper"
QUOTES_MBT = ("table2", "table3", "table4", "table5")  # each has a row of MBT's audio branch


@dataclass(frozen=True)
class Demo:
    """One demo scale.

    Args:
        models: "ast" and "mast" -> registered name.
        front_end: log-mel parameters; each data set replaces the statistics.
        recipe: training recipe; each study sets sampler and crops, `rates` may replace its learning rate.
        clips: data set -> clips of its stand-in, over all splits.
        why: description that `list` prints.
        rates: model -> its own learning rate; other models have the recipe's.
    """

    models: Mapping[str, str]
    front_end: AudioSpec
    recipe: Recipe
    clips: Mapping[str, int]
    why: str
    rates: Mapping[str, float] = field(default_factory=dict)

    def rate_of(self, model: str) -> float:
        """Return the learning rate of `model`."""
        return self.rates.get(model, self.recipe.lr)


DEMOS: Mapping[str, Demo] = {
    "demo": Demo(
        models={"ast": "ast_tiny", "mast": "mast_tiny"},
        front_end=AudioSpec(mels=64, frames=128, frame_length_ms=80.0, frame_shift_ms=80.0),
        recipe=Recipe(epochs=8, batch_size=8, lr=5e-4, warmup_steps=50, freq_mask=12, time_mask=24),
        clips={"kinetics_sounds": 420, "epic_kitchens": 420, "vggsound": 420, "audioset": 420},
        why="quarter-width models from scratch on 64 x 128 log-mels of the synthetic stand-ins",
        # Of the same search for both models on real recordings: stand-ins are not worth a search of their own.
        rates=TUNED_RATES,
    ),
    "debug": Demo(
        models={"ast": "ast_debug", "mast": "mast_debug"},
        front_end=AudioSpec(mels=32, frames=64, frame_length_ms=160.0, frame_shift_ms=160.0),
        recipe=Recipe(epochs=2, batch_size=16, lr=1e-3, warmup_steps=4, freq_mask=8, time_mask=12, mixup=0.5),
        clips={"kinetics_sounds": 128, "epic_kitchens": 96, "vggsound": 128, "audioset": 96},
        why="toy models for two epochs on small stand-ins: a check of every table in a minute",
    ),
}


def demo(name: str) -> Demo:
    """Return the demo `name`.

    Raises:
        InputError: an unknown name; the message lists the known presets.
    """
    try:
        return DEMOS[name]
    except KeyError:
        raise InputError(f"there is no preset {name!r}: choose one of {', '.join((PAPER, *DEMOS))}") from None


def experiments_of(
    target: str, preset: str, seeds: int | None = None, overrides: Mapping[str, Any] | None = None
) -> list[Experiment]:
    """List the runs that fill a target, each once, sorted by seed within a study.

    Args:
        target: table or figure, or "all"; a target that needs no training has no runs.
        preset: "paper", or a key of DEMOS.
        seeds: seeds 0 to `seeds` - 1; None takes the seeds of the recipe (seed 0 for a demo).
        overrides: fields of the recipes to change; such runs have another recipe name and fill no cell of the paper.

    Raises:
        InputError: an unknown preset or field, or overrides of a demo.
    """
    unique: dict[str, Experiment] = {}
    for name in trained_targets() if target == "all" else (target,):
        for study in studies_of(name):
            experiments = (
                _paper_experiments(name, study, seeds, overrides or {})
                if preset == PAPER
                else _demo_experiments(name, study, demo(preset), seeds or 1, overrides or {})
            )
            for experiment in experiments:
                unique.setdefault(repr(sorted(experiment.to_dict().items())), experiment)
    return list(unique.values())


def _configs(target: str, model: str) -> list[dict[str, Any]]:
    """Overrides of the model's config that the target compares; only MAST has ablations."""
    if target != "ablations":
        return [{}]
    if family(model) != "mast":
        return []
    return [{} if name == "mast" else {"pool_strides": strides} for name, strides in POOLING_ABLATIONS.items()]


def _paper_experiments(
    target: str, study: PaperStudy, seeds: int | None, overrides: Mapping[str, Any]
) -> list[Experiment]:
    runs = []
    for recipe in paper_recipes():
        if recipe.name == MBT and target not in QUOTES_MBT:
            continue
        if (recipe.dataset, recipe.variant) == (study.dataset, study.variant):
            recipe = override(recipe, overrides) if overrides else recipe
            study_seeds = recipe.seeds if seeds is None else tuple(range(seeds))
            runs += [(seed, recipe, config) for config in _configs(target, recipe.model) for seed in study_seeds]
    return [to_experiment(recipe, seed, config) for seed, recipe, config in sorted(runs, key=lambda run: run[0])]


def _demo_experiments(
    target: str, study: PaperStudy, scale: Demo, seeds: int, overrides: Mapping[str, Any]
) -> list[Experiment]:
    if overrides:
        raise InputError("--set changes the paper's recipes, not a demo's: omit --set, or use --preset paper")
    spec = dataset_spec(study.dataset)
    recipe = replace(scale.recipe, sampler=study.sampler, crop=study.crop, test_crops=study.test_crops)
    recipe = replace(recipe, **study.demo_recipe)
    if study.loss == BCE:
        recipe = replace(recipe, average_from=recipe.epochs // 2 + 1, report_best=True)
    return [
        Experiment(
            model=model,
            dataset=study.dataset,
            train_splits=train_splits_of(study.dataset, study.variant),
            test_splits=spec.test_splits,
            front_end=replace(scale.front_end, mean=spec.mean, std=spec.std),
            recipe=replace(recipe, lr=scale.rate_of(model)),
            scale="demo",
            weights=SCRATCH,
            variant=study.variant,
            model_config=config,
            seed=seed,
            recipe_name="demo",
        )
        for seed in range(seeds)
        for model in scale.models.values()
        for config in _configs(target, model)
    ]
