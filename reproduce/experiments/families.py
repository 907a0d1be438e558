"""The model families of the comparison and the inputs at which they are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reproduce.experiments.model_names import is_other

PAPER_MODELS = {"ast": "ast_base", "mast": "mast_base"}  # family -> the paper's size
LABELS = {"ast": "AST", "mast": "MAST"}  # family -> name in tables and figures
SIZES = ("base", "small", "tiny", "debug")
PAPER_SECONDS = 10.24  # 1024 frames at a 10 ms hop
LENGTHS_S = (1.0, 2.0, 5.0, 10.0, PAPER_SECONDS, 20.0, 30.0, 60.0)


def family(model: str) -> str:
    """Return the family of a registered name or of a row's label: "ast", "mast", or the name itself for other models.

    "ast_tiny", "AST [1] (Our AS)" and "ast" belong to the family "ast".
    """
    if is_other(model):
        return model
    first = model.lower().replace(",", " ").replace("_", " ").split(" ", 1)[0]
    return first if first in PAPER_MODELS else model


@dataclass(frozen=True, kw_only=True)
class ShownModel:
    """A model in the columns of a table or in a figure.

    Args:
        name: of the model.
        key: begins the keys of its columns: its family where no other model shown is of it, else its name.
        label: "AST", "MAST", or its name.
    """

    name: str
    key: str
    label: str


def shown_models(models: Sequence[str]) -> list[ShownModel]:
    """Return the models of a table with the keys and labels of their columns."""
    known = [family(model) for model in models]
    return [
        ShownModel(name=model, key=name, label=LABELS[name])
        if name in LABELS and known.count(name) == 1
        else ShownModel(name=model, key=model, label=model)
        for model, name in zip(models, known, strict=True)
    ]


def in_order(models: Iterable[str]) -> list[str]:
    """Names in the order of table rows: ours by name, then the others by name."""
    return sorted(models, key=lambda model: (is_other(model), model))


def reference_of(models: Sequence[str]) -> str:
    """Return the model that the costs and times of all others are divided by: the first MAST, else the first model."""
    return next((model for model in models if family(model) == "mast"), models[0])


def size(model: str) -> str:
    """Return the size of a registered name: "tiny" for "ast_tiny"; "" for a model of neither family."""
    name, _, suffix = model.partition("_")
    return suffix if name in PAPER_MODELS and not is_other(model) else ""
