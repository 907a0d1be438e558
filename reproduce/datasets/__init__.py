"""The one door to the data sets: importing it registers them all. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.datasets.index import Clip, ClipIndex, Problem
from reproduce.datasets.locations import expand_home, location_of, parse_locations
from reproduce.datasets.readers import (  # noqa: F401 (they register themselves)
    audioset,
    csv_manifest,
    epic_kitchens,
    esc50,
    folder,
    kinetics_sounds,
    vggsound,
)
from reproduce.datasets.registry import DatasetSpec, dataset_spec, list_datasets
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError

__all__ = [
    "Clip",
    "ClipIndex",
    "DatasetSpec",
    "Problem",
    "dataset_spec",
    "list_datasets",
    "location_of",
    "parse_locations",
    "read_dataset",
    "read_variant",
]


def read_dataset(name: str, root: str | Path, **options: Any) -> ClipIndex:
    """Read the data set `name` from the folder (or file) `root`.

    Args:
        options: those of its reader, see `dataset_spec(name).read`.

    Raises:
        InputError: what the reader refuses, or a stand-in whose writing was interrupted.
    """
    spec, path = dataset_spec(name), expand_home(root)
    marker = standin_marker(path)
    if marker is not None and marker.get("complete") is False:
        raise InputError(f"{root}: this stand-in was not written to its end; run `data standin` again to complete it")
    return spec.read(path, **options)


def read_variant(name: str, root: str | Path, variant: str | None = None, *, follow_outside: bool = False) -> ClipIndex:
    """Read one variant of a data set, by default its first.

    Args:
        follow_outside: read files that its lists name outside of `root`, or that a link leads to from there. Only
            lists that name paths (csv, AST's JSON lists of AudioSet) can do so.

    Raises:
        InputError: a variant that the data set does not have, or what `read_dataset` refuses.
    """
    spec = dataset_spec(name)
    options: dict[str, Any] = {"follow_outside": True} if follow_outside and spec.names_paths else {}
    if variant is None:
        return read_dataset(name, root, **options)
    if variant not in spec.variants:
        known = f"choose one of {', '.join(spec.variants)}" if spec.variants else f"{name} has one variant only"
        raise InputError(f"--variant {variant}: {known}")
    return read_dataset(name, root, variant=variant, **options)
