"""Experiments as frozen values: model, data, recipe and seed, and the key of their record.

This module needs neither torch nor data. Derive variants with `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reproduce.audio.spec import AudioSpec
from reproduce.experiments.recipe import SCRATCH, Recipe, later, stored_as, to_plain_dict
from reproduce.keys import hash_key


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
            "demo", EQUAL_MACS, POOLING, or "" for the comparisons of `esc50` and `train`. Overridden fields follow
            it: "mast, batch_size=12".
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

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values under their stored names, without `later` fields at their defaults."""
        return to_plain_dict(self)

    def key(self, train_sha256: str, test_sha256: str) -> str:
        """Hash the experiment and the identity of both clip sets to 16 hex digits.

        The key does not depend on paths, machines or time.

        Args:
            train_sha256: hash of the training clips.
            test_sha256: hash of the test clips.
        """
        return hash_key({"experiment": self.to_dict(), "train": train_sha256, "test": test_sha256})
