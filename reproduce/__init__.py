"""Benchmarks and reproduction of MAST and AST. What programs use most is here; it is imported when it is asked for."""

from importlib import import_module
from typing import Any

from reproduce.shadowing import foreign_place

_PUBLIC = {
    "Classifier": "reproduce.evaluation.classifier",
    "load_classifier": "reproduce.evaluation.classifier",
    "load_frame": "reproduce.records",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        if name != "load_frame" and (hiding := foreign_place("models")) is not None:  # records need no model
            raise ImportError(f"{hiding}: hides this project's package 'models': rename it, or run in another folder")
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
