"""What the project knows of every corpus, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reproduce.datasets.index import ClipIndex
from reproduce.errors import InputError


@dataclass(frozen=True)
class DatasetSpec:
    """One corpus format.

    Args:
        name: what the user types, e.g. "esc50".
        title: what a table prints.
        read: `read(root, **options) -> ClipIndex`; raises InputError when the layout itself is wrong.
        clip_seconds: usual clip length.
        metric: the headline metric's key ("top1" or "mAP").
        mean, std: log-mel statistics for `(x - mean) / (2 * std)`, with `stats_source` saying whose.
        folds: names of the cross-validation folds, empty where there is a fixed train/test split.
        train_splits, test_splits: split names of the fixed split.
        protocols: variants that `read(root, protocol=...)` knows, the default first; empty where there is one only.
    """

    name: str
    title: str
    read: Callable[..., ClipIndex]
    clip_seconds: float
    metric: str
    mean: float
    std: float
    stats_source: str
    folds: tuple[str, ...] = ()
    train_splits: tuple[str, ...] = ("train",)
    test_splits: tuple[str, ...] = ("test",)
    variants: tuple[str, ...] = ()


_SPECS: dict[str, DatasetSpec] = {}


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    if spec.name in _SPECS:
        raise ValueError(f"dataset {spec.name!r} is registered twice")
    _SPECS[spec.name] = spec
    return spec


def dataset_spec(name: str) -> DatasetSpec:
    """The spec called `name`; InputError lists the known names."""
    try:
        return _SPECS[name]
    except KeyError:
        raise InputError(f"unknown dataset {name!r}: choose one of {', '.join(sorted(_SPECS))}") from None


def list_datasets() -> list[str]:
    return sorted(_SPECS)
