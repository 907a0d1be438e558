"""Change fields of a recipe as the user asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from reproduce.errors import InputError
from reproduce.experiments.paper_recipes import PaperRecipe
from reproduce.experiments.provenance import FRONT_END, OPEN, Provenance
from reproduce.experiments.recipe import CHOICES, Recipe

_AT_LEAST_ONE = {"epochs", "batch_size", "warmup_every", "test_crops"}
_SHARES = {"mixup", "label_smoothing", "drop_path_rate", "decay"}  # numbers from 0 to 1
_BOOLEANS = {"true": True, "false": False}
_NOT_FREE = {"loss", "seeds"}  # the labels decide the loss; --seeds sets the seeds


def override(recipe: PaperRecipe, changes: Mapping[str, Any]) -> PaperRecipe:
    """Return the recipe with some fields changed. Its name lists them: "mast, batch_size=12" fills no paper cell.

    Args:
        recipe: the recipe to change.
        changes: field -> value, or its text on the command line; "front_end.mels" changes `mels` of the front end. A
            value equal to the recipe's changes nothing, not even the name.

    Raises:
        InputError: an unknown field (the message lists the known ones), or a value that the field cannot take.
    """
    free = {name: value for name, value in recipe.values().items() if name not in _NOT_FREE}
    for name in changes:
        if name not in free:
            raise InputError(f"a recipe has no field {name!r} to override: choose from {', '.join(free)}")
    parsed = {name: parse_value(name, changes[name], free[name]) for name in free if name in changes}
    changed = {name: value for name, value in parsed.items() if value != free[name]}
    of_recipe = {name: value for name, value in changed.items() if name in {f.name for f in fields(Recipe)}}
    of_front_end = {n.removeprefix(FRONT_END): v for n, v in changed.items() if n.startswith(FRONT_END)}
    try:
        new_recipe, new_front_end = replace(recipe.recipe, **of_recipe), replace(recipe.front_end, **of_front_end)
    except ValueError as error:
        raise InputError(str(error)) from None
    if new_recipe.freq_mask > new_front_end.mels or new_recipe.time_mask > new_front_end.frames:
        raise InputError(
            f"masks of up to {new_recipe.freq_mask} mels and {new_recipe.time_mask} frames do not fit an input of "
            f"{new_front_end.mels} x {new_front_end.frames}: override freq_mask and time_mask too"
        )
    overridden = {name: Provenance(OPEN, "overridden", f"the recipe has {value_text(free[name])}") for name in changed}
    return replace(
        recipe,
        name=", ".join([recipe.name, *(f"{name}={value_text(value)}" for name, value in changed.items())]),
        recipe=new_recipe,
        front_end=new_front_end,
        weights=changed.get("weights", recipe.weights),
        provenance=MappingProxyType({**recipe.provenance, **overridden}),
    )


def parse_value(name: str, value: Any, current: Any) -> Any:
    """Convert `value`, or its text, to the type of the field's current value."""
    refused = InputError(f"{name}={value}: {_wanted(name, current)}, like {value_text(current)}")
    try:
        parsed = _converted(value, current)
    except (TypeError, ValueError):
        raise refused from None
    numbers = parsed if isinstance(parsed, tuple) else (parsed,)
    if isinstance(current, (int, float, tuple)) and not name.startswith(FRONT_END):
        lowest = 1 if name in _AT_LEAST_ONE else 0
        highest = 1 if name in _SHARES or name == "betas" else float("inf")
        if any(not lowest <= number <= highest or number == float("inf") for number in numbers):
            raise refused
        if name == "lr" and not parsed:
            raise refused
    return parsed


def _converted(value: Any, current: Any) -> Any:
    if isinstance(current, bool):
        if str(value).lower() not in _BOOLEANS:
            raise ValueError(value)
        return _BOOLEANS[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(current, int):
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        return int(value)
    if isinstance(current, float):
        return float(value)
    if isinstance(current, tuple):
        parts = tuple(float(part) for part in (value.split(",") if isinstance(value, str) else value))
        if len(parts) != len(current):
            raise ValueError(value)
        return parts
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _wanted(name: str, current: Any) -> str:
    if name in CHOICES:
        return f"must be one of {', '.join(CHOICES[name])}"
    if isinstance(current, bool):
        return "must be true or false"
    if isinstance(current, tuple):
        return f"must be {len(current)} numbers from 0 to 1, separated by commas"
    if isinstance(current, str):
        return "must be a name"
    if name in _SHARES:
        return "must be a number from 0 to 1"
    kind = "a whole number" if isinstance(current, int) else "a number"
    return f"must be {kind}" + (" of at least 1" if name in _AT_LEAST_ONE else "" if name == "lr" else " of at least 0")


def value_text(value: Any) -> str:
    """Format a value for names, tables and messages."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) and f"{value:g}" == f"{value:.12g}" else f"{value}"
