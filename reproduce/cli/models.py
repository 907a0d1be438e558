"""The models of a comparison: those of its preset, or the ones that `--models` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reproduce.experiments.model_names import ModelName
from reproduce.experiments.presets import ComparisonPreset


def choose_models(preset: ComparisonPreset, names: Sequence[ModelName] | None, run: str) -> ComparisonPreset:
    """The preset with other models; each has the rate that the preset tuned for it, or the recipe's.

    Args:
        preset: the comparison.
        names: of `--models`; None for the preset's own.
        run: "none" builds no model to check it.

    Raises:
        InputError: a model that cannot be had.
    """
    if names is None:
        return preset
    preset = replace(preset, models=tuple(str(name.with_code()) for name in names))
    _check(preset, run, any_size=True)
    return preset


def check_input_size(preset: ComparisonPreset, names: Sequence[ModelName] | None, run: str) -> None:
    """Check that the models take the input that was fitted to the data; arguments as above.

    Raises:
        InputError: a model that does not.
    """
    if names is not None:
        _check(preset, run, any_size=False)


def _check(preset: ComparisonPreset, run: str, any_size: bool) -> None:
    if run != "none":
        from reproduce.training.model_building import check_models  # late: it imports torch

        check_models(preset.models, preset.front_end, any_size=any_size)
