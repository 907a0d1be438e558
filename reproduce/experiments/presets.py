"""Training protocols for comparisons of both models on any data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reproduce.audio.spec import ESC50_MEAN, ESC50_STD, AudioSpec
from reproduce.errors import InputError
from reproduce.experiments.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ComparisonPreset:
    """One protocol for both models: the same clips, augmentation, schedule and seeds.

    Args:
        models: registered names, one per table row.
        front_end: log-mel parameters; `fit_front_end` adapts them to a corpus.
        recipe: as in `Experiment`; `rates` may replace its learning rate.
        scale: as in `Experiment`.
        search_lrs: learning rates that `tune` tries for every model.
        rates: model -> its best learning rate by `tune`; other models have the recipe's.
        search_epochs: epochs of the runs of `tune`; 0 for the recipe's.
        validation_fold: fold whose clips chose `rates`. Runs train on it and never test it. "" for none.
        why: purpose and cost of the preset, which `list` prints.
        clips_seen: training clips that a run on a user's own data sees over all epochs, within bounds; 0 keeps the
            recipe's epochs.
    """

    models: tuple[str, ...]
    front_end: AudioSpec
    recipe: Recipe
    scale: str
    search_lrs: tuple[float, ...]
    why: str
    rates: Mapping[str, float] = field(default_factory=dict)
    search_epochs: int = 0
    validation_fold: str = ""
    clips_seen: int = 0

    def recipe_of(self, model: str) -> Recipe:
        """Return the recipe with the learning rate of `model`."""
        return replace(self.recipe, lr=self.rates.get(model, self.recipe.lr))

    def search_recipe(self, lr: float) -> Recipe:
        """Return the recipe of a run of `tune` with the learning rate `lr`."""
        return replace(self.recipe, lr=lr, epochs=self.search_epochs or self.recipe.epochs)

    def test_folds(self, folds: tuple[str, ...]) -> tuple[str, ...]:
        """Return the folds that the runs may test: all of `folds` but the validation fold."""
        return tuple(fold for fold in folds if fold != self.validation_fold)


# The best of five rates per model in `tune` at the demo's scale: trained on folds 3-5 of ESC-10, scored on fold 2.
TUNED_RATES = {"ast_tiny": 2.5e-4, "mast_tiny": 1.25e-4}
DEMO = ComparisonPreset(
    models=("ast_tiny", "mast_tiny"),
    # 64 mels, and 124 frames of 40 ms padded to 128, cover the whole clip of 5 s. This is an eighth of AST's input for
    # ESC-50 (128 x 512): five folds of both models with two seeds must train within an hour on two CPU cores.
    # ESC-50's statistics are those of 128 mels; 64 wider filters raise the mean slightly, for both models.
    front_end=AudioSpec(mels=64, frames=128, frame_length_ms=40.0, frame_shift_ms=40.0, mean=ESC50_MEAN, std=ESC50_STD),
    # AST's masks and mixup (none) for ESC-50, the masks scaled to this input.
    recipe=Recipe(epochs=16, batch_size=8, lr=5e-4, warmup_steps=100, freq_mask=12, time_mask=24),
    scale="demo",
    search_lrs=(6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3),
    rates=TUNED_RATES,
    why="quarter-width models from scratch on 64 x 128 log-mels; about 5 minutes per fold on two CPU cores",
    clips_seen=12_800,
)
PRESETS: dict[str, ComparisonPreset] = {
    "demo": DEMO,
    "coarse": replace(
        DEMO,
        # Half the demo's frames: MAST without pooling takes 16 times the MACs of the paper's MAST.
        front_end=replace(DEMO.front_end, frames=64, frame_length_ms=80.0, frame_shift_ms=80.0),
        recipe=replace(DEMO.recipe, epochs=8, time_mask=12),
        # TUNED_RATES were chosen on clips of fold 2. DEMO tests it too, for all folds of ESC-10; its table says so.
        validation_fold="2",
        why="the demo on 64 x 64 log-mels, with half its tokens, for the pooling ablations",
    ),
    "long": replace(
        DEMO,
        recipe=replace(DEMO.recipe, epochs=30, batch_size=16, warmup_steps=300),
        search_lrs=(3.125e-5, 6.25e-5, 1.25e-4, 2.5e-4, 5e-4),
        search_epochs=10,
        # By `tune --preset long` on ESC-50: trained on folds 2-5, scored on fold 1.
        rates={"ast_tiny": 1.25e-4, "mast_tiny": 6.25e-5},
        validation_fold="1",
        why="the demo for 30 epochs: on ESC-50 fold 1 chose the rates; 20 minutes per fold and model on a core",
    ),
    "base": ComparisonPreset(
        models=("ast_base", "mast_base"),
        front_end=AudioSpec(mels=128, frames=512, mean=ESC50_MEAN, std=ESC50_STD),
        # AST's rates for ESC-50 from ImageNet weights, with one schedule for both models.
        recipe=Recipe(epochs=25, batch_size=48, lr=1e-4, warmup_steps=100, freq_mask=24, time_mask=96),
        scale="paper",
        search_lrs=(3e-5, 1e-4, 3e-4),
        why="the paper's sizes on AST's input for ESC-50, 128 x 512; for a GPU, with --weights imagenet",
        clips_seen=40_000,
    ),
    "debug": ComparisonPreset(
        models=("ast_debug", "mast_debug"),
        front_end=AudioSpec(mels=32, frames=64, frame_shift_ms=80.0, mean=ESC50_MEAN, std=ESC50_STD),
        recipe=Recipe(epochs=1, batch_size=16, lr=1e-3, warmup_steps=4, freq_mask=8, time_mask=12, mixup=0.5),
        scale="demo",
        search_lrs=(1e-3, 3e-3),
        why="toy models for one epoch: a check of the whole path in seconds",
    ),
}


def comparison_preset(name: str) -> ComparisonPreset:
    """Return the preset `name`.

    Raises:
        InputError: an unknown name; the message lists the known ones.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}") from None


def fit_front_end(preset: ComparisonPreset, clip_seconds: float, mean: float, std: float) -> ComparisonPreset:
    """Adapt the preset's front end to a corpus.

    Args:
        preset: to adapt.
        clip_seconds: clip length in seconds; the frames cover it, rounded up to a multiple of 64.
        mean: mean of the corpus' log-mels.
        std: standard deviation of the corpus' log-mels.
    """
    spec = preset.front_end
    frames = math.ceil((clip_seconds * 1000 - spec.frame_length_ms) / spec.frame_shift_ms) + 1
    return replace(preset, front_end=replace(spec, frames=-(-frames // 64) * 64, mean=mean, std=std))
