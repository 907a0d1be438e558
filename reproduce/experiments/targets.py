"""Which runs fill which table, at the paper's scale or at a demo's. No torch here.

The paper's scale takes its recipes from `paper_recipes`. A demo trains quarter-width models from scratch on the
synthetic stand-ins, long enough to learn something and short enough for two CPU cores: it shows that every table can
be filled, not what the paper's models would score, and stands in blocks of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reproduce.audio.spec import AudioSpec
from reproduce.datasets import dataset_spec
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.overrides import override
from reproduce.experiments.paper_recipes import PaperRecipe, paper_recipes, to_experiment, train_splits_of
from reproduce.experiments.recipe import SCRATCH, Recipe

# Target -> (data set, protocol) whose runs fill it. Table 6 and Figure 2 look at the runs of Table 3.
STUDIES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "table2": (("kinetics_sounds", "ks32"),),
    "table3": (("vggsound", ""),),
    "table4": (("epic_kitchens", ""),),
    "table5": (("audioset", "balanced"), ("audioset", "full")),
    "table6": (("vggsound", ""),),
    "figure2": (("vggsound", ""),),
    "ablations": (("audioset", "balanced"),),
}


TARGETS = (*STUDIES, "claims", "scaling", "all")
PAPER = "paper"


@dataclass(frozen=True)
class Demo:
    """One demo scale.

    Args:
        models: "ast" and "mast" -> registered name.
        front_end: its statistics are replaced by each data set's.
        recipe: for every data set, with what the data set asks for (`_demo_experiments`).
        clips: of each stand-in, over all splits.
        why: what `list` says of it.
    """

    models: Mapping[str, str]
    front_end: AudioSpec
    recipe: Recipe
    clips: Mapping[str, int]
    why: str


DEMOS: Mapping[str, Demo] = {
    "demo": Demo(
        models={"ast": "ast_tiny", "mast": "mast_tiny"},
        front_end=AudioSpec(mels=64, frames=128, frame_length_ms=80.0, frame_shift_ms=80.0),
        recipe=Recipe(epochs=8, batch_size=8, lr=5e-4, warmup_steps=50, freq_mask=12, time_mask=24),
        clips={"kinetics_sounds": 420, "epic_kitchens": 420, "vggsound": 420, "audioset": 420},
        why="quarter-width models from scratch on 64 x 128 log-mels of the synthetic stand-ins",
    ),
    "debug": Demo(
        models={"ast": "ast_debug", "mast": "mast_debug"},
        front_end=AudioSpec(mels=32, frames=64, frame_length_ms=160.0, frame_shift_ms=160.0),
        recipe=Recipe(epochs=2, batch_size=16, lr=1e-3, warmup_steps=4, freq_mask=8, time_mask=12, mixup=0.5),
        clips={"kinetics_sounds": 128, "epic_kitchens": 96, "vggsound": 128, "audioset": 96},
        why="toy models for two epochs on small stand-ins; shows that every table's path works, in a minute",
    ),
}


def demo(name: str) -> Demo:
    try:
        return DEMOS[name]
    except KeyError:
        raise InputError(f"there is no preset {name!r}: choose one of {', '.join((PAPER, *DEMOS))}") from None


def experiments_of(
    target: str, preset: str, seeds: int | None = None, overrides: Mapping[str, Any] | None = None
) -> list[Experiment]:
    """The runs that fill `target` ("all": every target), each once, the models of a seed side by side.

    Args:
        preset: "paper", or one of DEMOS.
        seeds: seeds 0 to `seeds` - 1; None takes the recipe's own (a demo's: one).
        overrides: fields of the recipes to change; such runs have another name and fill no cell of the paper.

    Raises:
        InputError: an unknown preset or field.
    """
    wanted = list(STUDIES) if target == "all" else [target] if target in STUDIES else []
    made: dict[str, Experiment] = {}
    for name in wanted:
        for study in STUDIES[name]:
            found = (
                _paper_experiments(name, *study, seeds, overrides or {})
                if preset == PAPER
                else _demo_experiments(name, *study, demo(preset), seeds or 1, overrides or {})
            )
            for experiment in found:
                made.setdefault(repr(sorted(experiment.to_dict().items())), experiment)
    return list(made.values())


def _variants(target: str, family: str) -> list[dict[str, Any]]:
    """Configs of the model family that the target compares: the ablations are MAST's alone."""
    if target != "ablations":
        return [{}]
    if family == "ast":
        return []
    return [{} if name == "mast" else {"pool_strides": strides} for name, strides in POOLING_ABLATIONS.items()]


def _paper_experiments(
    target: str, dataset: str, variant: str, seeds: int | None, overrides: Mapping[str, Any]
) -> list[Experiment]:
    found = []
    for recipe in paper_recipes():
        if (recipe.dataset, recipe.variant) != (dataset, variant):
            continue
        recipe = override(recipe, overrides) if overrides else recipe
        own = recipe.seeds if seeds is None else tuple(range(seeds))
        found += [(seed, recipe, config) for config in _variants(target, _family(recipe)) for seed in own]
    return [to_experiment(recipe, seed, config) for seed, recipe, config in sorted(found, key=lambda run: run[0])]


def _family(recipe: PaperRecipe) -> str:
    return recipe.model.partition("_")[0]


def _demo_experiments(
    target: str, dataset: str, variant: str, scale: Demo, seeds: int, overrides: Mapping[str, Any]
) -> list[Experiment]:
    if overrides:
        raise InputError("--set changes the paper's recipes; a demo's is fixed: leave --set or the demo out")
    spec = dataset_spec(dataset)
    front_end = replace(scale.front_end, mean=spec.mean, std=spec.std)
    recipe = scale.recipe
    if dataset == "epic_kitchens":  # its segments are of all lengths
        recipe = replace(recipe, crop="random", test_crops=2)
    if variant == "full":
        recipe = replace(recipe, sampler="balanced")
    if dataset == "audioset":
        recipe = replace(recipe, average_from=recipe.epochs // 2 + 1, report_best=True)
    return [
        Experiment(
            model,
            dataset,
            train_splits_of(dataset, variant),
            spec.test_splits,
            front_end,
            recipe,
            "demo",
            SCRATCH,
            variant,
            config,
            seed,
            "demo",
        )
        for seed in range(seeds)
        for family, model in scale.models.items()
        for config in _variants(target, family)
    ]
