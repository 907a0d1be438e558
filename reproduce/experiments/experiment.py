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
    variant: str = stored_as("protocol", "")
    model_config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    recipe_name: str = later("")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; fields of later versions are left out at their defaults (see `later`)."""
        return to_plain_dict(self)

    def key(self, train_sha256: str, test_sha256: str) -> str:
        """16 hex digits over the config and the identity of both clip sets: no path, no machine, no time."""
        identity = {"experiment": self.to_dict(), "train": train_sha256, "test": test_sha256}
        return hash_key(identity)
