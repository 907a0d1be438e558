"""A user's preset, from a TOML file, and changes of single fields of any preset. No torch here.

base = "demo"                  # the preset to start from
models = ["mast_tiny"]
search_lrs = [1e-4, 3e-4]      # what `tune` tries
[recipe]
epochs = 30
[front_end]
mels = 128
[rates]                        # learning rate of single models
mast_tiny = 2e-4
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError
from reproduce.experiments.overrides import parse_value
from reproduce.experiments.presets import PRESETS, ComparisonPreset, comparison_preset
from reproduce.experiments.provenance import FRONT_END
from reproduce.experiments.recipe import Recipe

TABLES = ("recipe", "front_end", "rates")
KEYS = ("base", "models", "search_lrs", *TABLES)


@dataclass(frozen=True, kw_only=True)
class ChosenPreset:
    """A preset, and the fields that the user states: they hold whatever the clips suggest.

    Args:
        preset: to start from.
        changes: field -> value or its text: "epochs", "front_end.mels".
    """

    preset: ComparisonPreset
    changes: Mapping[str, Any]


def choose_preset(name: str, changes: Mapping[str, Any]) -> ChosenPreset:
    """Return a registered preset, or that of a TOML file, with further changes.

    Args:
        name: of a registered preset, or the path of a file that ends in .toml.
        changes: of `--set`; they overrule the file.

    Raises:
        InputError: an unknown name, or a file that is no preset.
    """
    chosen = _read_preset(Path(name)) if name.endswith(".toml") else ChosenPreset(preset=_known(name), changes={})
    merged = {**chosen.changes, **changes}
    apply_changes(chosen.preset, merged)  # a wrong field is an error before anything is read
    return replace(chosen, changes=merged)


def _known(name: str) -> ComparisonPreset:
    if name not in PRESETS and Path(name).is_file():
        raise InputError(f"--preset {name}: a preset's file must end in .toml; rename it")
    return comparison_preset(name)


def apply_changes(preset: ComparisonPreset, changes: Mapping[str, Any]) -> ComparisonPreset:
    """Return the preset with the changed fields of recipe and front end; a changed lr holds for every model.

    Raises:
        InputError: an unknown field (the message lists the known ones), or a value that the field cannot take.
    """
    recipe, front_end = preset.recipe, preset.front_end
    known = {f.name: getattr(recipe, f.name) for f in fields(Recipe)}
    known |= {FRONT_END + f.name: getattr(front_end, f.name) for f in fields(AudioSpec)}
    for name in changes:
        if name not in known:
            raise InputError(f"a preset has no field {name!r} to change: choose from {', '.join(known)}")
    parsed = {name: parse_value(name, value, known[name]) for name, value in changes.items()}
    of_front_end = {n.removeprefix(FRONT_END): v for n, v in parsed.items() if n.startswith(FRONT_END)}
    of_recipe = {name: value for name, value in parsed.items() if not name.startswith(FRONT_END)}
    try:
        recipe, front_end = replace(recipe, **of_recipe), replace(front_end, **of_front_end)
    except ValueError as error:
        raise InputError(str(error)) from None
    if recipe.freq_mask > front_end.mels or recipe.time_mask > front_end.frames:
        raise InputError(
            f"masks of up to {recipe.freq_mask} mels and {recipe.time_mask} frames do not fit an input of "
            f"{front_end.mels} x {front_end.frames}: set freq_mask and time_mask too"
        )
    return replace(preset, recipe=recipe, front_end=front_end, rates={} if "lr" in parsed else preset.rates)


def _read_preset(path: Path) -> ChosenPreset:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; --preset needs a name or a TOML file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; write it as TOML with [recipe] and [front_end] tables") from None
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise InputError(f"{path}: unknown key {unknown[0]!r}; a preset has {', '.join(KEYS)}")
    for table in TABLES:
        if not isinstance(content.get(table, {}), dict):
            raise InputError(f"{path}: {table} must be a table; write it below a line [{table}]")
    base = content.get("base", "demo")
    if not isinstance(base, str) or base not in PRESETS:
        raise InputError(f"{path}: base = {base!r} is no preset; choose one of {', '.join(PRESETS)}")
    preset = replace(
        PRESETS[base],
        models=_texts(path, content.get("models", list(PRESETS[base].models))),
        search_lrs=tuple(_rate(path, "search_lrs", v) for v in _list(path, content, "search_lrs", base)),
        rates={**PRESETS[base].rates, **{m: _rate(path, m, v) for m, v in content.get("rates", {}).items()}},
        why=f"the preset of {path.name}",
    )
    changes = {**content.get("recipe", {}), **{FRONT_END + n: v for n, v in content.get("front_end", {}).items()}}
    try:
        if "lr" in changes:  # the file's own rates overrule its own lr
            rates = {model: _rate(path, model, rate) for model, rate in content.get("rates", {}).items()}
            lr = _rate(path, "lr", changes.pop("lr"))
            preset = replace(preset, recipe=replace(preset.recipe, lr=lr), rates=rates)
        apply_changes(preset, changes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return ChosenPreset(preset=preset, changes=changes)


def _list(path: Path, content: Mapping[str, Any], key: str, base: str) -> list[Any]:
    values = content.get(key, list(PRESETS[base].search_lrs))
    if not isinstance(values, list) or not values:
        raise InputError(f"{path}: {key} must be a list of numbers, like [1e-4, 3e-4]")
    return values


def _texts(path: Path, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise InputError(f'{path}: models must be a list of names, like ["ast_tiny", "mast_tiny"]')
    return tuple(values)


def _rate(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise InputError(f"{path}: {name} = {value!r} is no learning rate; give a positive number")
    return float(value)
