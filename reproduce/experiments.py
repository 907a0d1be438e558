"""Experiments as named values: what is trained on what, how, and the key under which its record is found.

Importing this needs neither torch nor data; variants derive from a base with `dataclasses.replace`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from reproduce.audio_spec import ESC50_MEAN, ESC50_STD, AudioSpec
from reproduce.errors import InputError

SCRATCH = "scratch"
CHOICES = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "steps"),
    "sampler": ("shuffle", "balanced"),
    "crop": ("first", "random"),
    "primary": ("last", "averaged"),
}


def _later(default: Any) -> Any:
    """A field that came after the first records: left out at its default, so that their keys stay what they are."""
    return field(default=default, metadata={"later": True})


def _to_dict(value: Any) -> dict[str, Any]:
    kept = (f for f in fields(value) if not ("later" in f.metadata and getattr(value, f.name) == f.default))
    return {f.name: _plain(getattr(value, f.name)) for f in kept}


def _plain(value: Any) -> Any:
    return _to_dict(value) if is_dataclass(value) else json.loads(json.dumps(value))


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. One recipe serves both models of a comparison.

    Args:
        epochs, batch_size: passes over the training clips; clips a step, over all devices together.
        lr: peak learning rate.
        warmup_steps: linear up to `lr`.
        weight_decay: AdamW: none on biases, norms and the models' own `no_weight_decay`. Adam: L2 on everything.
        betas: of Adam or AdamW.
        clip_norm: L2 norm to which gradients are clipped; 0 leaves them alone.
        drop_path_rate: stochastic depth, linear over the blocks.
        label_smoothing: for cross-entropy; BCE takes none.
        mixup: probability of mixing a clip's waveform with another's.
        freq_mask, time_mask: SpecAugment's exclusive bounds, in mels and frames.
        roll: clips are rotated along time by up to this many frames.
        optimizer: "adamw", or "adam" (AST's).
        schedule: "cosine" per step from the end of the warm-up down to 0, or "steps" (AST's): after epoch
            `decay_start`, and every `decay_every` epochs from there, the rate is multiplied by `decay`.
        warmup_every: the warm-up's rate is updated every so many steps (AST: 50, from a rate of 0).
        sampler: "shuffle" gives each clip once an epoch; "balanced" draws as many with AST's class-balanced weights.
        average_from: the weights at the end of this epoch (the first is 1) and of every later one are averaged, and
            the average is scored beside the last epoch; 0 averages nothing.
        primary: weights whose scores are the run's result: the "last" epoch's, or the "averaged" ones (AST's recipe).
        report_best: score the test clips after every epoch and report the best one beside the last, labelled.
        crop: stretch of a clip longer than the input that training takes: its "first" seconds, or a "random" one.
        test_crops: evenly spaced crops of a longer test clip whose probabilities are averaged.
    """

    epochs: int
    batch_size: int
    lr: float
    warmup_steps: int
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    drop_path_rate: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    freq_mask: int = 0
    time_mask: int = 0
    roll: int = 0
    optimizer: str = _later("adamw")
    schedule: str = _later("cosine")
    decay_start: int = _later(0)
    decay_every: int = _later(0)
    decay: float = _later(0.5)
    warmup_every: int = _later(1)
    sampler: str = _later("shuffle")
    average_from: int = _later(0)
    primary: str = _later("last")
    report_best: bool = _later(False)
    crop: str = _later("first")
    test_crops: int = _later(1)

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"Recipe.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.schedule == "steps" and min(self.decay_start, self.decay_every) < 1:
            raise ValueError("Recipe: the schedule 'steps' needs decay_start and decay_every of at least 1")
        if self.primary == "averaged" and not self.average_from:
            raise ValueError("Recipe: the primary weights are 'averaged', but average_from is 0")
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives lists back

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Of a record; fields that came later than the record have their defaults."""
        return cls(**values)


@dataclass(frozen=True)
class Experiment:
    """One model trained on one split with one seed.

    Args:
        model: registered name.
        dataset, protocol: corpus and its variant.
        train_splits, test_splits: split (or fold) names.
        front_end, recipe: see there.
        scale: "demo" or "paper"; only paper-scale records may fill a paper cell.
        weights: SCRATCH, or what training starts from: a published name, or "file" and the file's hash.
        model_config: overrides of the model's config, such as pool_strides.
        seed: of initialisation, order and augmentation.
        recipe_name: what the tables know the recipe by: "mast" or "ast" (RECIPES of the paper and of AST's authors),
            "demo", EQUAL_MACS, POOLING, or "" for the comparisons of `esc50` and `train`. An overridden field makes it
            another name.
    """

    model: str
    dataset: str
    train_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    front_end: AudioSpec
    recipe: Recipe
    scale: str
    weights: str = SCRATCH
    protocol: str = ""
    model_config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    recipe_name: str = _later("")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; fields of later versions are left out at their defaults (see `_later`)."""
        return _to_dict(self)

    def key(self, train_sha256: str, test_sha256: str) -> str:
        """16 hex digits over the config and the identity of both clip sets: no path, no machine, no time."""
        identity = {"experiment": self.to_dict(), "train": train_sha256, "test": test_sha256}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ComparisonPreset:
    """One protocol for both models: the same clips, augmentation, schedule and seeds.

    Args:
        models: registered names, one row of the table each.
        front_end, recipe, scale: as in `Experiment`; `fit_front_end` adapts the front end to a corpus.
        search_lrs: learning rates that `tune` tries, for every model alike.
        rates: model -> the rate that `tune` found best for it; a model without one has the recipe's.
        why: what the preset is for and what it costs, printed by `list`.
    """

    models: tuple[str, ...]
    front_end: AudioSpec
    recipe: Recipe
    scale: str
    search_lrs: tuple[float, ...]
    why: str
    rates: Mapping[str, float] = field(default_factory=dict)

    def recipe_of(self, model: str) -> Recipe:
        return replace(self.recipe, lr=self.rates.get(model, self.recipe.lr))


# Best of five rates for either model in `tune` at the demo's scale: folds 3-5 of ESC-10 train, fold 2 decides.
TUNED_RATES = {"ast_tiny": 2.5e-4, "mast_tiny": 1.25e-4}

DEMO = ComparisonPreset(
    models=("ast_tiny", "mast_tiny"),
    # The whole five-second clip: 64 mels, and 124 frames of 40 ms, padded to 128. An eighth of AST's input for
    # ESC-50 (128 x 512): five folds of both models with two seeds must train within an hour on two CPU cores.
    # ESC-50's statistics are those of 128 mels; with 64, wider filters lift the mean a little, for both models.
    front_end=AudioSpec(mels=64, frames=128, frame_length_ms=40.0, frame_shift_ms=40.0, mean=ESC50_MEAN, std=ESC50_STD),
    # AST's masks and mixup (none) for ESC-50, the masks scaled to this input.
    recipe=Recipe(epochs=16, batch_size=8, lr=5e-4, warmup_steps=100, freq_mask=12, time_mask=24),
    scale="demo",
    search_lrs=(6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3),
    rates=TUNED_RATES,
    why="quarter-width models from scratch on 64 x 128 log-mels; about 5 minutes a fold on two CPU cores",
)

PRESETS: dict[str, ComparisonPreset] = {
    "demo": DEMO,
    "coarse": replace(
        DEMO,
        # Half the demo's frames: MAST without pooling, 16 times the MACs of the paper's, must be affordable.
        front_end=replace(DEMO.front_end, frames=64, frame_length_ms=80.0, frame_shift_ms=80.0),
        recipe=replace(DEMO.recipe, epochs=8, time_mask=12),
        why="the demo on 64 x 64 log-mels: half its tokens, for the pooling ablations, one of which pools nothing",
    ),
    "base": ComparisonPreset(
        models=("ast_base", "mast_base"),
        front_end=AudioSpec(mels=128, frames=512, mean=ESC50_MEAN, std=ESC50_STD),
        # AST's rates for ESC-50 from ImageNet weights, under the one schedule that both models share here.
        recipe=Recipe(epochs=25, batch_size=48, lr=1e-4, warmup_steps=100, freq_mask=24, time_mask=96),
        scale="paper",
        search_lrs=(3e-5, 1e-4, 3e-4),
        why="the paper's sizes on AST's input for ESC-50, 128 x 512; for a GPU, with --weights imagenet",
    ),
    "debug": ComparisonPreset(
        models=("ast_debug", "mast_debug"),
        front_end=AudioSpec(mels=32, frames=64, frame_shift_ms=80.0, mean=ESC50_MEAN, std=ESC50_STD),
        recipe=Recipe(epochs=1, batch_size=16, lr=1e-3, warmup_steps=4, freq_mask=8, time_mask=12, mixup=0.5),
        scale="demo",
        search_lrs=(1e-3, 3e-3),
        why="toy models for one epoch; shows that the whole path works, in seconds",
    ),
}

# Studies that have a table of their own, by the recipe name of their runs.
EQUAL_MACS, POOLING = "equal MACs", "pooling"

# Query pooling (frequency, time) at blocks 2, 5 and 21, by the row of the paper's ablation (sec. 4; RECIPES 3.11).
POOLING_ABLATIONS: dict[str, tuple[tuple[int, int], ...]] = {
    "mast": ((2, 2), (2, 2), (1, 2)),
    "2d_at_21": ((2, 2), (2, 2), (2, 2)),
    "none_at_21": ((2, 2), (2, 2), (1, 1)),
    "first_only": ((2, 2), (1, 1), (1, 1)),
    "none": ((1, 1), (1, 1), (1, 1)),
}


def comparison_preset(name: str) -> ComparisonPreset:
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}") from None


def fit_front_end(preset: ComparisonPreset, clip_seconds: float, mean: float, std: float) -> ComparisonPreset:
    """The preset with as many frames as clips of this length need, rounded up to 64, and the corpus' statistics."""
    spec = preset.front_end
    frames = math.ceil((clip_seconds * 1000 - spec.frame_length_ms) / spec.frame_shift_ms) + 1
    return replace(preset, front_end=replace(spec, frames=-(-frames // 64) * 64, mean=mean, std=std))


def fixed_split(
    preset: ComparisonPreset,
    dataset: str,
    protocol: str,
    train: tuple[str, ...],
    test: tuple[str, ...],
    seeds: tuple[int, ...],
) -> list[Experiment]:
    """Every (seed, model) on a corpus that says itself what is trained on and what is tested."""
    return [
        Experiment(
            model,
            dataset,
            train,
            test,
            preset.front_end,
            preset.recipe_of(model),
            preset.scale,
            protocol=protocol,
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
    """Every (seed, fold, model), the models of a fold side by side: each fold of `test_folds` is the test set once.

    Raises:
        InputError: fewer than two folds in the data.
    """
    if len(folds) < 2:
        raise InputError(f"cross-validation needs at least two folds, the data has {len(folds)}: {', '.join(folds)}")
    return [
        Experiment(
            model,
            dataset,
            _without(folds, fold),
            (fold,),
            preset.front_end,
            preset.recipe_of(model),
            preset.scale,
            seed=seed,
        )
        for seed in seeds
        for fold in test_folds
        for model in preset.models
    ]


def at_equal_macs(experiments: Iterable[Experiment], macs: Mapping[str, float]) -> list[Experiment]:
    """Runs of the cheaper models, so much longer that their training takes the MACs of the dearest model's.

    Args:
        macs: model -> MACs a clip.
    """
    experiments, dearest = list(experiments), max(macs.values())
    longer = []
    for experiment in experiments:
        epochs = round(experiment.recipe.epochs * dearest / macs[experiment.model])
        if epochs > experiment.recipe.epochs:
            recipe = replace(experiment.recipe, epochs=epochs)
            longer.append(replace(experiment, recipe=recipe, recipe_name=EQUAL_MACS))
    return longer


def pooling_variants(experiments: Iterable[Experiment]) -> list[Experiment]:
    """MAST with every row of the paper's pooling ablation, and AST as it is, cheap ones first in each seed and fold."""
    found = []
    for experiment in experiments:
        configs: list[dict[str, Any]] = [{}]
        if experiment.model.startswith("mast"):
            configs += [{"pool_strides": strides} for name, strides in POOLING_ABLATIONS.items() if name != "mast"]
        found += [replace(experiment, model_config=config, recipe_name=POOLING) for config in configs]
    return found


def learning_rate_search(preset: ComparisonPreset, dataset: str, folds: tuple[str, ...], fold: str) -> list[Experiment]:
    """Every (rate, model) on the training part of test fold `fold`, scored on its next fold; `fold` itself is not used.

    Raises:
        InputError: fewer than three folds in the data.
    """
    if len(folds) < 3:
        raise InputError(f"a search needs at least three folds, the data has {len(folds)}: {', '.join(folds)}")
    validation = folds[(folds.index(fold) + 1) % len(folds)]
    train = _without(_without(folds, fold), validation)
    return [
        Experiment(model, dataset, train, (validation,), preset.front_end, replace(preset.recipe, lr=lr), preset.scale)
        for lr in preset.search_lrs
        for model in preset.models
    ]


def _without(folds: tuple[str, ...], fold: str) -> tuple[str, ...]:
    return tuple(f for f in folds if f != fold)
