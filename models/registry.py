"""One door to every model: `create_model(name, ...)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.base import SpectrogramTransformer
from models.classifier import ModelError, SpectrogramClassifier
from models.names import is_foreign


@dataclass(frozen=True)
class Preset:
    """A named model.

    Args:
        family: its class.
        fields: fields of the family's config that differ from the defaults.
    """

    family: type[SpectrogramTransformer]
    fields: Mapping[str, Any]


PRESETS: dict[str, Preset] = {}


def register_presets(family: type[SpectrogramTransformer], presets: Mapping[str, Mapping[str, Any]]) -> None:
    """Register {name: fields of the family's config} for `create_model`.

    Raises:
        ValueError: a name is registered already; then none of `presets` is.
    """
    for name in presets:
        if name in PRESETS:
            raise ValueError(f"model {name!r} is registered twice")
    PRESETS.update({name: Preset(family, fields) for name, fields in presets.items()})


def list_models() -> list[str]:
    """Names that `create_model` accepts, sorted."""
    return sorted(PRESETS)


def families() -> list[type[SpectrogramTransformer]]:
    """Classes that have presets, in order of registration."""
    return list(dict.fromkeys(preset.family for preset in PRESETS.values()))


def create_model(
    name: str,
    num_classes: int | Mapping[str, int] = 527,
    input_size: tuple[int, int] = (128, 1024),
    in_chans: int = 1,
    **overrides: Any,
) -> SpectrogramClassifier:
    """Build a model with random weights; nothing is printed or patched, and of weights nothing is downloaded.

    Args:
        name: a preset, see `list_models()`; or another library's network that takes log-mels: "timm:resnet18",
            "hf:OWNER/NAME" (its config.json is read from the hub), or "package.module:function", which is called as
            `function(num_classes=..., input_size=(mels, frames))` and returns a module that gives (batch, classes).
        num_classes: size of the one head, or {head name: size}; then `forward` returns {head name: logits}.
        input_size: (mels, frames) of the spectrogram.
        in_chans: spectrogram channels.
        overrides: fields of the family's config (`ASTConfig`, `MASTConfig`, `ForeignConfig`).

    Returns:
        A model that maps (batch, in_chans, mels, frames) to (batch, num_classes).

    Raises:
        ModelError: unknown name, or a network that cannot be had or does not take such log-mels.
        ValueError: a config that cannot be built.
        TypeError: an override that is not a field of the config.
    """
    fields: dict[str, Any] = {"num_classes": num_classes, "input_size": input_size, "in_chans": in_chans}
    if is_foreign(name):
        from models.foreign import ForeignConfig, ForeignModel  # late: it needs our families

        return ForeignModel(ForeignConfig(name, **{**fields, **overrides}))
    if name not in PRESETS:
        raise ModelError(
            f"unknown model {name!r}: choose one of {', '.join(list_models())}, or timm:NAME, hf:NAME or "
            "package.module:function"
        )
    preset = PRESETS[name]
    fields = {**preset.fields, **fields}
    return preset.family(preset.family.config_class(**{**fields, **overrides}))
