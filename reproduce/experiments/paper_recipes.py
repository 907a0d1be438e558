"""The paper's training recipes: one per model and data set, each field with its source. No torch here.

    recipe = paper_recipe("mast", "ast_base", "audioset", "balanced")  # AST under MAST's protocol
    to_experiment(override(recipe, {"batch_size": 12}), seed=0)

"mast" is the protocol of the MAST paper (sec. 4); AST uses it too, so that both models of a comparison train alike.
"ast" is the recipe of AST's authors (YuanGongND/ast `egs/audioset/run.sh`): the row "AST [1] (Our AS)" of Table 5, and
the nearest of theirs on the data sets for which they published none.
"mbt" is that of MBT's audio branch, the network that Tables 2 to 4 quote as "AST [28]".
Values that the paper states come from `paper.json`. The others are INHERITED from the code that the paper follows, or
chosen here and marked OPEN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any

from reproduce.audio.spec import AudioSpec
from reproduce.datasets import dataset_spec
from reproduce.datasets.readers.audioset import VARIANTS as AUDIOSET_VARIANTS
from reproduce.datasets.readers.audioset import WHOLE_TRAIN
from reproduce.errors import InputError
from reproduce.experiments.baseline_provenance import ast_provenance, mbt_front_end_provenance, mbt_provenance
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import PAPER_MODELS
from reproduce.experiments.paper_studies import BCE, PaperStudy, paper_studies, study_name
from reproduce.experiments.provenance import FRONT_END, Provenance, front_end_provenance, mast_provenance
from reproduce.experiments.recipe import Recipe
from reproduce.paper import Fact, load_paper

MAST, AST, MBT = "mast", "ast", "mbt"
AST_RECIPES = (MAST, AST)  # by which the paper's AST is trained: the stronger one is the one that MAST is compared with
MBT_MODEL = "ast_mbt"
WEIGHTS, MBT_WEIGHTS = "imagenet", "imagenet21k"
MBT_FRAMES, MBT_CROPS, MBT_EPOCHS, MBT_WARMUP_EPOCHS, MBT_BATCH = 800, 4, 50, 2.5, 64
# Settings of AST's run.sh by the size of the training set.
AST_BY_VARIANT: Mapping[str, Mapping[str, Any]] = {
    "balanced": {"epochs": 25, "lr": 5e-5, "decay_start": 10, "decay_every": 5, "average_from": 6},
    "full": {
        "epochs": 5, "lr": 1e-5, "decay_start": 2, "decay_every": 1, "average_from": 1, "sampler": "balanced",
    },
}  # fmt: skip


@dataclass(frozen=True)
class PaperRecipe:
    """The recipe of one model on one data set, by the paper or by AST's authors.

    Args:
        name: "mast", "ast" or "mbt", followed by overridden fields ("mast, batch_size=12"); `Experiment.recipe_name`.
        model: registered name.
        dataset: registered name.
        variant: variant of the data set; "" for a data set with only one.
        recipe: training recipe.
        front_end: log-mel parameters.
        weights: initial weights.
        loss: training loss, for information: training chooses it by the labels.
        seeds: seeds of the runs that a table averages.
        provenance: source of every field by name; fields of the front end have the prefix "front_end.".
    """

    name: str
    model: str
    dataset: str
    variant: str
    recipe: Recipe
    front_end: AudioSpec
    weights: str
    loss: str
    seeds: tuple[int, ...]
    provenance: Mapping[str, Provenance]

    def values(self) -> dict[str, Any]:
        """Return every field with a provenance: those of recipe and front end, then weights, loss and seeds."""
        return {
            **{f.name: getattr(self.recipe, f.name) for f in fields(Recipe)},
            **{FRONT_END + f.name: getattr(self.front_end, f.name) for f in fields(AudioSpec)},
            "weights": self.weights,
            "loss": self.loss,
            "seeds": self.seeds,
        }


def paper_recipes() -> tuple[PaperRecipe, ...]:
    """Return every recipe: each study by MAST's protocol for both models, then by AST's authors, then by MBT's."""
    studies = paper_studies()
    by_mast = [_mast_recipe(study, model) for study in studies for model in PAPER_MODELS]
    return (*by_mast, *map(_ast_recipe, studies), *map(_mbt_recipe, studies))


def paper_recipe(name: str, model: str, dataset: str, variant: str = "") -> PaperRecipe:
    """Return one recipe.

    Args:
        name: "mast", "ast" or "mbt".
        model: registered name, or "mast" or "ast" for the paper's size.
        dataset: registered name.
        variant: variant of the data set; "" selects its first.

    Raises:
        InputError: the paper has no such recipe; the message lists the known ones.
    """
    preset = PAPER_MODELS.get(model, model)
    variant = variant or next((s.variant for s in paper_studies() if s.dataset == dataset), "")
    for recipe in paper_recipes():
        if (recipe.name, recipe.model, recipe.dataset, recipe.variant) == (name, preset, dataset, variant):
            return recipe
    known = dict.fromkeys(f"{r.name}: {r.model} on {study_name(r.dataset, r.variant)}" for r in paper_recipes())
    raise InputError(
        f"no recipe {name!r} of {preset} on {study_name(dataset, variant)}: choose one of {'; '.join(known)}"
    )


def to_experiment(recipe: PaperRecipe, seed: int, model_config: Mapping[str, Any] | None = None) -> Experiment:
    """Return one run at the paper's scale.

    Args:
        recipe: the recipe of the run.
        seed: seed of the run.
        model_config: overrides of the model's config, such as the ablations' pool_strides.
    """
    spec = dataset_spec(recipe.dataset)
    return Experiment(
        model=recipe.model,
        dataset=recipe.dataset,
        train_splits=train_splits_of(recipe.dataset, recipe.variant),
        test_splits=spec.test_splits,
        front_end=recipe.front_end,
        recipe=recipe.recipe,
        scale="paper",
        weights=recipe.weights,
        variant=recipe.variant,
        model_config=dict(model_config or {}),
        seed=seed,
        recipe_name=recipe.name,
    )


def train_splits_of(dataset: str, variant: str) -> tuple[str, ...]:
    """Return the splits that a variant trains on; the data may lack some.

    The full AudioSet has two official training splits, or the one list that AST's authors made of both.
    """
    splits = dataset_spec(dataset).train_splits
    if dataset != "audioset":
        return splits
    wanted = {*AUDIOSET_VARIANTS[variant], *([WHOLE_TRAIN] if variant == "full" else [])}
    return tuple(split for split in splits if split in wanted)


@cache
def _mast_recipe(study: PaperStudy, model: str) -> PaperRecipe:
    """Return the protocol of sec. 4 for either model."""
    paper = load_paper()
    epochs = int(_fact_number(paper.fact(study.epochs_fact)))
    recipe = Recipe(
        epochs=epochs,
        batch_size=study.batch_size,
        lr=_fact_number(paper.fact("learning_rate")),
        warmup_steps=1000,
        weight_decay=0.05,
        betas=(0.9, 0.999),
        clip_norm=1.0,
        drop_path_rate=0.3,
        label_smoothing=0.0 if study.loss == BCE else 0.1,
        mixup=0.5,
        freq_mask=48,
        time_mask=192,
        optimizer="adamw",
        schedule="cosine",
        sampler=study.sampler,
        average_from=epochs // 2 + 1,
        report_best=True,
        crop=study.crop,
        test_crops=study.test_crops,
    )
    return PaperRecipe(
        name=MAST,
        model=PAPER_MODELS[model],
        dataset=study.dataset,
        variant=study.variant,
        recipe=recipe,
        front_end=_front_end(study.dataset),
        weights=WEIGHTS,
        loss=study.loss,
        seeds=study.seeds,
        provenance=MappingProxyType(
            {**mast_provenance(study, model), **front_end_provenance(study.dataset, inherited=False)}
        ),
    )


@cache
def _ast_recipe(study: PaperStudy) -> PaperRecipe:
    """Return the recipe of AST's authors: published for AudioSet, and its nearest for the other data sets.

    Those have 23 to 159 thousand training clips, one list each: nearest is the recipe of the balanced AudioSet. That of
    the full set would give VGGSound a tenth of its steps, those for ESC-50 and Speech Commands are of clips of 5 s and
    1 s.
    """
    recipe = Recipe(
        **AST_BY_VARIANT[study.variant if study.dataset == "audioset" else "balanced"],
        batch_size=12,
        warmup_steps=1000,
        warmup_every=50,
        weight_decay=5e-7,
        betas=(0.95, 0.999),
        clip_norm=0.0,
        mixup=0.5,
        freq_mask=48,
        time_mask=192,
        optimizer="adam",
        schedule="steps",
        decay=0.5,
        primary="averaged",
        report_best=True,
        crop=study.crop,
        test_crops=study.test_crops,
    )
    return PaperRecipe(
        name=AST,
        model=PAPER_MODELS["ast"],
        dataset=study.dataset,
        variant=study.variant,
        recipe=recipe,
        front_end=_front_end(study.dataset),
        weights=WEIGHTS,
        loss=study.loss,
        seeds=study.seeds,
        provenance=MappingProxyType(
            {
                **ast_provenance(study, recipe.epochs),
                **front_end_provenance(study.dataset, inherited=study.dataset == "audioset"),
            }
        ),
    )


@cache
def _mbt_recipe(study: PaperStudy) -> PaperRecipe:
    """Return the recipe of MBT's audio branch: published for balanced AudioSet, the same for the other data sets."""
    recipe = Recipe(
        epochs=MBT_EPOCHS,
        batch_size=MBT_BATCH,
        lr=0.5,
        warmup_steps=round(MBT_WARMUP_EPOCHS * training_clips(study) / MBT_BATCH),
        weight_decay=0.0,
        clip_norm=1.0,
        drop_path_rate=0.3,
        label_smoothing=0.3,
        mixup=0.5,
        freq_mask=48,
        time_mask=192,
        optimizer="sgd",
        schedule="cosine",
        sampler=study.sampler,
        average_from=MBT_EPOCHS // 2 + 1,
        report_best=True,
        crop="random",
        test_crops=MBT_CROPS,
        bce="sum",
    )
    return PaperRecipe(
        name=MBT,
        model=MBT_MODEL,
        dataset=study.dataset,
        variant=study.variant,
        recipe=recipe,
        front_end=_front_end(study.dataset, MBT_FRAMES),
        weights=MBT_WEIGHTS,
        loss=study.loss,
        seeds=study.seeds,
        provenance=MappingProxyType({**mbt_provenance(study), **mbt_front_end_provenance(study.dataset)}),
    )


def training_clips(study: PaperStudy) -> int:
    """Return the training clips that the paper used, or that the published lists have."""
    train = study.clips[0]
    return int(_fact_number(load_paper().fact(train.used))) if train.used else train.published


def _front_end(dataset: str, frames: int | None = None) -> AudioSpec:
    paper, spec = load_paper(), dataset_spec(dataset)
    return AudioSpec(
        mels=int(_fact_number(paper.fact("mel_bins"))),
        frames=frames or int(_fact_number(paper.fact("frames"))),
        mean=spec.mean,
        std=spec.std,
    )


def _fact_number(fact: Fact) -> float:
    if isinstance(fact.value, str):
        raise TypeError(f"facts.{fact.key} is {fact.value!r}, not a number")
    return fact.value
