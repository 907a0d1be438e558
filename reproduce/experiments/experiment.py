"""Experiments as frozen values: model, data, recipe and seed, and the key of their record.

This module needs neither torch nor data. Derive variants with `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reproduce.audio.spec import AudioSpec
from reproduce.experiments.recipe import SCRATCH, Recipe, later, stored_as, to_plain_dict
from reproduce.keys import hash_key

MEASURED = "data"  # see `Experiment.normalise`
KEY_VERSION = 2  # of keys that cover the sound; those of version 1 cover names, stretches and labels alone


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The training and scoring of one model on one data set with one seed.

    Args:
        model: registered name.
        dataset: registered name of the corpus.
        train_splits: splits or folds to train on.
        test_splits: splits or folds to score.
        front_end: log-mel parameters.
        recipe: training recipe.
        scale: "demo" or "paper"; only paper-scale records may fill a paper cell.
        weights: initial weights: SCRATCH, a published name, or "file" and the file's hash.
        variant: variant of the corpus; "" for a corpus with only one.
        model_config: overrides of the model's config, such as pool_strides.
        seed: seed of initialisation, order and augmentation.
        recipe_name: name of the recipe in tables: "mast" or "ast" (the protocols of the paper and of AST's authors),
            "demo", POOLING, COMPONENTS, DATA_EFFICIENCY, or "" for the comparisons of `esc50` and `train`. Overridden
            fields follow it: "mast, batch_size=12".
        normalise: MEASURED if mean and deviation of the front end are those of this run's training clips, else "":
            published ones.
        val_splits: splits that are scored after every epoch; neither trained on nor tested.
        train_fraction: part of the training clips to train on, see `training_positions`.

    Raises:
        ValueError: a fraction outside (0, 1].
    """

    model: str
    dataset: str
    train_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    front_end: AudioSpec
    recipe: Recipe
    scale: str
    weights: str = SCRATCH
    variant: str = stored_as("protocol", "")
    model_config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    recipe_name: str = later("")
    normalise: str = later("")
    val_splits: tuple[str, ...] = later(())
    train_fraction: float = later(1.0)

    def __post_init__(self) -> None:
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction must be above 0 and at most 1, got {self.train_fraction}")

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values under their stored names, without `later` fields at their defaults."""
        return to_plain_dict(self)

    def key(self, train_sha256: str, test_sha256: str, content: Sequence[str] = ()) -> str:
        """Return the key of a run of this experiment; see `run_key`."""
        return run_key(self.to_dict(), train_sha256, test_sha256, content)


def run_key(experiment: Mapping[str, Any], train_sha256: str, test_sha256: str, content: Sequence[str] = ()) -> str:
    """Hash an experiment and the identity and sound of both clip sets to 16 hex digits.

    The key does not depend on paths, machines or time.

    Args:
        experiment: result of `Experiment.to_dict`.
        train_sha256: `ClipIndex.identity_sha256` of the training clips.
        test_sha256: `ClipIndex.identity_sha256` of the test clips.
        content: `content_sha256` of the training and of the test clips; without them the key is of version 1.
    """
    definition: dict[str, Any] = {"experiment": experiment, "train": train_sha256, "test": test_sha256}
    if content:
        definition |= {"version": KEY_VERSION, "content": list(content)}
    return hash_key(definition)
