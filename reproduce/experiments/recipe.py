"""Training recipes as frozen values, and their stored form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

SCRATCH = "scratch"
WHOLE_S = 60.0  # of a whole clip, this much counts in a baseline
CHOICES = {
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("cosine", "steps"),
    "sampler": ("shuffle", "balanced"),
    "crop": ("first", "random"),
    "primary": ("last", "averaged"),
    "bce": ("mean", "sum"),
}


def later(default: Any) -> Any:
    """Declare a field that was added after the first records were written.

    It is not serialised at its default value, so existing keys do not change.
    """
    return field(default=default, metadata={"later": True})


def stored_as(name: str, default: Any) -> Any:
    """Declare a field that has another `name` in records and keys."""
    return field(default=default, metadata={"stored_as": name})


def to_plain_dict(value: Any) -> dict[str, Any]:
    """Convert a dataclass to JSON values under its stored names, without `later` fields at their defaults."""
    kept = (f for f in fields(value) if not ("later" in f.metadata and getattr(value, f.name) == f.default))
    stored = {f.metadata.get("stored_as", f.name): _plain(getattr(value, f.name)) for f in kept}
    return {**getattr(value, "REMOVED", {}), **stored}


def _plain(value: Any) -> Any:
    return to_plain_dict(value) if is_dataclass(value) else json.loads(json.dumps(value))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training recipe of a model. Both models of a comparison share one.

    Args:
        epochs: passes over the training clips.
        batch_size: clips per optimiser step, over all devices together.
        lr: peak learning rate.
        warmup_steps: steps of the linear warm-up to `lr`.
        weight_decay: AdamW decays all weights but biases, norms and the model's `no_weight_decay`; Adam and SGD add L2
            on all.
        betas: betas of Adam or AdamW; the first is SGD's momentum.
        clip_norm: L2 norm to which gradients are clipped; 0 does not clip.
        drop_path_rate: stochastic depth of the last block; it rises linearly over the blocks.
        label_smoothing: share of the labels that is spread evenly over the classes.
        mixup: probability of mixing a clip's waveform with another's.
        freq_mask: exclusive upper bound of SpecAugment's frequency masks, in mels.
        time_mask: exclusive upper bound of SpecAugment's time masks, in frames.
        optimizer: "adamw", "adam" (AST's), or "sgd" with momentum (MBT's).
        schedule: "cosine" per step from the end of the warm-up to 0, or "steps" (AST's): the rate is multiplied by
            `decay` after epoch `decay_start` and every `decay_every` epochs from there.
        decay_start: see `schedule`.
        decay_every: see `schedule`.
        decay: see `schedule`.
        warmup_every: steps between updates of the warm-up's rate (AST: 50, from a rate of 0).
        sampler: "shuffle" gives each clip once per epoch; "balanced" draws as many with AST's class-balanced weights.
        average_from: first epoch (counted from 1) whose final weights enter the average; 0 averages nothing.
        primary: weights of the run's result: those of the "last" epoch, or the "averaged" ones (AST's recipe).
        report_best: score the test clips after every epoch and also report the best epoch, labelled.
        crop: part of a longer clip to train on: its "first" seconds, or a "random" part.
        test_crops: evenly spaced crops of a longer test clip whose probabilities are averaged.
        bce: a clip's BCE is the "mean" or the "sum" over classes (MBT's), which decides what a rate means to SGD.

    Raises:
        ValueError: an unknown choice, or fields that contradict each other.
    """

    REMOVED: ClassVar[Mapping[str, Any]] = {"roll": 0}  # fields of earlier versions that existing keys contain

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
    optimizer: str = later("adamw")
    schedule: str = later("cosine")
    decay_start: int = later(0)
    decay_every: int = later(0)
    decay: float = later(0.5)
    warmup_every: int = later(1)
    sampler: str = later("shuffle")
    average_from: int = later(0)
    primary: str = later("last")
    report_best: bool = later(False)
    crop: str = later("first")
    test_crops: int = later(1)
    bce: str = later("mean")

    @property
    def needs_whole_clips(self) -> bool:
        """Whether a longer clip is used beyond its first seconds: by random crops, or by several test crops."""
        return self.crop == "random" or self.test_crops > 1

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
        """Build a recipe from stored values: missing fields have their defaults, removed ones are ignored."""
        return cls(**{name: value for name, value in values.items() if name not in cls.REMOVED})


def baseline_settings(recipe: Recipe, seconds: float) -> dict[str, Any]:
    """The settings of the baseline beside runs of a recipe with `seconds` of input, as its record has them."""
    return {
        "seconds": WHOLE_S if recipe.needs_whole_clips else round(seconds, 3),
        "balanced": recipe.sampler == "balanced",
    }
