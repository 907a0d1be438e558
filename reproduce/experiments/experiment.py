"""Experiments as named values: what is trained on what, how, and the key under which its record is found.

Importing this needs neither torch nor data; variants derive from a base with `dataclasses.replace`.
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
    """One model trained on one split with one seed.

    Args:
        model: registered name.
        dataset: registered name of the corpus.
        train_splits: splits (or folds) that the model is trained on.
        test_splits: splits (or folds) that the model is scored on.
        front_end: log-mel parameters.
        recipe: see there.
        scale: "demo" or "paper"; only paper-scale records may fill a paper cell.
        weights: what training starts from: SCRATCH, a published name, or "file" and the file's hash.
        variant: of the corpus, "" where it has one only.
        model_config: overrides of the model's config, such as pool_strides.
        seed: of initialisation, order and augmentation.
        recipe_name: name of the recipe in tables: "mast" or "ast" (the protocols of the paper and of AST's authors),
            "demo", EQUAL_MACS, POOLING, or "" for the comparisons of `esc50` and `train`; an overridden field is added
            to it: "mast, batch_size=12".
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
        """JSON values under their stored names; fields of later versions are left out at their defaults."""
        return to_plain_dict(self)

    def key(self, train_sha256: str, test_sha256: str) -> str:
        """16 hex digits over the config and the identity of both clip sets: no path, no machine, no time."""
        return hash_key({"experiment": self.to_dict(), "train": train_sha256, "test": test_sha256})
