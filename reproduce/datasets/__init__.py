"""The one door to the corpora: importing it registers them all. Nothing here imports torch."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reproduce.datasets.index import Clip, ClipIndex, Problem
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
    """The corpus `name` as it lies under `root`; `options` are those of its reader (see `dataset_spec(name).read`).

    Raises InputError, besides what the reader refuses, for a stand-in whose writing was interrupted.
    """
    from reproduce.datasets.standin_marker import standin_marker  # here, as SciPy comes with it

    spec = dataset_spec(name)
    marker = standin_marker(Path(root).expanduser())
    if marker is not None and marker.get("complete") is False:
        raise InputError(f"{root}: this stand-in was not written to its end; run `data standin` again to complete it")
    return spec.read(root, **options)


def read_variant(name: str, root: str | Path, variant: str | None = None) -> ClipIndex:
    """The corpus in one of its protocols, by default its first; InputError for one that it does not have."""
    variants = dataset_spec(name).variants
    if variant is None:
        return read_dataset(name, root)
    if variant not in variants:
        known = f"choose one of {', '.join(variants)}" if variants else f"{name} has one variant only"
        raise InputError(f"--variant {variant}: {known}")
    return read_dataset(name, root, variant=variant)


def parse_locations(pairs: Iterable[str], toml_file: str | Path | None = None) -> dict[str, Path]:
    """Where each dataset lies, from `--data NAME=PATH` and the [datasets] table of `--datasets FILE.toml`.

    A `--data` overrules the file. Relative paths in the file are relative to the file's folder. Raises InputError for
    an unknown dataset, a pair without "=", a dataset given twice, or a file that is not as described.
    """
    given: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (equals and name and path):
            raise InputError(f"--data {pair}: write it as NAME=PATH, e.g. esc50=/data/ESC-50")
        dataset_spec(name)
        if name in given:
            raise InputError(f"--data {pair}: {name} is given twice ({given[name]}); keep one")
        given[name] = Path(path).expanduser()
    return {**(_toml_locations(Path(toml_file).expanduser()) if toml_file is not None else {}), **given}


def location_of(name: str, pairs: Iterable[str], toml_file: str | Path | None = None) -> Path:
    """Where one dataset lies; InputError if it is unknown or nobody said where."""
    dataset_spec(name)
    locations = parse_locations(pairs, toml_file)
    if name not in locations:
        raise InputError(f"{name} needs its data: add --data {name}=DIR")
    return locations[name]


def _toml_locations(file: Path) -> dict[str, Path]:
    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; --datasets needs a TOML file with a [datasets] table") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'{file}: {error}; write it as TOML with a [datasets] table of NAME = "PATH"') from None
    table = content.get("datasets")
    if not isinstance(table, dict):
        raise InputError(f'{file}: no [datasets] table; write one with lines like esc50 = "/data/ESC-50"')
    for name, path in table.items():
        if not isinstance(path, str) or not path:
            raise InputError(f"{file}: datasets.{name} must be a path in quotes")
        try:
            dataset_spec(name)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
    return {name: file.parent / Path(path).expanduser() for name, path in table.items()}
