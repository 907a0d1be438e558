"""How a model is trained, as a frozen value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

SCRATCH = "scratch"
CHOICES = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "steps"),
    "sampler": ("shuffle", "balanced"),
    "crop": ("first", "random"),
    "primary": ("last", "averaged"),
}


def later(default: Any) -> Any:
    """A field added after the first records were written.

    It is not serialised at its default value, so existing keys do not change.
    """
    return field(default=default, metadata={"later": True})


def stored_as(name: str, default: Any) -> Any:
    """A field that records and keys know by an older `name`."""
    return field(default=default, metadata={"stored_as": name})


def to_plain_dict(value: Any) -> dict[str, Any]:
    kept = (f for f in fields(value) if not ("later" in f.metadata and getattr(value, f.name) == f.default))
    return {f.metadata.get("stored_as", f.name): _plain(getattr(value, f.name)) for f in kept}


def _plain(value: Any) -> Any:
    return to_plain_dict(value) if is_dataclass(value) else json.loads(json.dumps(value))


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
        roll: 0; kept so that the keys of existing records stay the same.
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

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"Recipe.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.schedule == "steps" and min(self.decay_start, self.decay_every) < 1:
            raise ValueError("Recipe: the schedule 'steps' needs decay_start and decay_every of at least 1")
        if self.roll:
            raise ValueError("Recipe.roll must be 0: rotation along time (Speech Commands only) is not supported")
        if self.primary == "averaged" and not self.average_from:
            raise ValueError("Recipe: the primary weights are 'averaged', but average_from is 0")
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives lists back

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Of a record; fields that came later than the record have their defaults."""
        return cls(**values)
