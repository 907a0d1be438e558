"""What a model states about the published weights that it can load: formats, their names for our tensors, sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["matched", "resized", "summed channels", "initialised", "dropped by rule"]
Grid = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """How one kind of weights is recognised, and how its keys become ours.

    Args:
        marker: a state dict with a key that fully matches this pattern has this format.
        absent: a state dict with a key that fully matches this pattern does not.
        rules: (pattern, replacement), applied in order to every key. Keys that then end in .query, .key and .value
            are stacked to one .qkv.
        dropped: keys that fully match are dropped.
        head: our names of the classifier's layers, which a complete file has.
        head_marker: a file without a key that fully matches has no classifier.
    """

    marker: str
    absent: str | None = None
    rules: tuple[tuple[str, str], ...] = ()
    dropped: str | None = None
    head: tuple[str, ...] = ()
    head_marker: str = ".*"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A file on the Hugging Face hub.

    Args:
        repo_id: of the hub.
        url: the same weights elsewhere, to fetch by hand.
        preset: the model that they fit.
        fields: fields of the config that must equal the preset's.
        filename: in the hub's repository.
    """

    repo_id: str
    url: str
    preset: str
    fields: tuple[str, ...]
    filename: str = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Weights that are being loaded.

    Args:
        name: file name, or "state dict", for messages.
        format: name of the format.
        grid: (frequency, time) of the source's position embedding; None where unknown.
    """

    name: str
    format: str
    grid: Grid | None
