"""One door to every model: `create_model(name, ...)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.base import SpectrogramTransformer

_BUILDERS: dict[str, Callable[..., SpectrogramTransformer]] = {}


def register_model(builder: Callable[..., SpectrogramTransformer]) -> Callable[..., SpectrogramTransformer]:
    """Register a preset under its function's name. A repeated name is an error."""
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"model {name!r} is registered twice")
    _BUILDERS[name] = builder
    return builder


def list_models() -> list[str]:
    """Names that `create_model` accepts, sorted."""
    return sorted(_BUILDERS)


def create_model(
    name: str,
    num_classes: int | Mapping[str, int] = 527,
    input_size: tuple[int, int] = (128, 1024),
    in_chans: int = 1,
    **overrides: Any,
) -> SpectrogramTransformer:
    """Build a model with random weights; nothing is downloaded, printed or patched.

    Args:
        name: a preset, see `list_models()`.
        num_classes: size of the one head, or {head name: size}; then `forward` returns {head name: logits}.
        input_size: (mels, frames) of the spectrogram.
        in_chans: spectrogram channels.
        overrides: fields of the preset's config (`ASTConfig` or `MASTConfig`).

    Returns:
        A model that maps (batch, in_chans, mels, frames) to (batch, num_classes).

    Raises:
        ValueError: unknown name, or a config that cannot be built.
        TypeError: an override that is no field of the config.
    """
    if name not in _BUILDERS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(list_models())}")
    return _BUILDERS[name](num_classes=num_classes, input_size=input_size, in_chans=in_chans, **overrides)
