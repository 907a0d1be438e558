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

    "ast_tiny", "AST [1] (Our AS)" and "ast" belong to the family "ast"; MBT's audio branch, "ast_mbt", is none of it.
    """
    if is_other(model) or model.startswith("ast_mbt"):
        return model
    first = model.lower().replace(",", " ").replace("_", " ").split(" ", 1)[0]
    return first if first in PAPER_MODELS else model


@dataclass(frozen=True, kw_only=True)
class ShownModel:
    """A model in the columns of a table or in a figure.

    Args:
        name: of the model.
        key: begins the keys of its columns: its family where no other model shown is of it, else its name.
        label: "AST" or "MAST" of the paper's sizes, else its name.
    """

    name: str
    key: str
    label: str


def shown_models(models: Sequence[str]) -> list[ShownModel]:
    """Return the models of a table with the keys and labels of their columns."""
    known = [family(model) for model in models]
    return [
        ShownModel(
            name=model,
            key=name if known.count(name) == 1 else model,
            label=LABELS[name] if PAPER_MODELS.get(name) == model else model,
        )
        for model, name in zip(models, known, strict=True)
    ]


def ratios_of(shown: Sequence[ShownModel]) -> dict[str, tuple[ShownModel, ShownModel]]:
    """Key of a ratio's column -> the two models whose costs are divided: each by MAST, or by the first; see above.

    The first ratio's key is "ratio", that of another "ratio KEY".
    """
    reference = reference_of([model.name for model in shown])
    under = next(model for model in shown if model.name == reference)
    others = [model for model in shown if model is not under]
    return {f"ratio {over.key}" if number else "ratio": (over, under) for number, over in enumerate(others)}


def in_order(models: Iterable[str]) -> list[str]:
    """Names in the order of table rows: ours by name, then the others by name."""
    return sorted(models, key=lambda model: (is_other(model), model))


def listed(names: Sequence[str]) -> str:
    """ "ast_tiny and mast_tiny", "ast_tiny, mast_tiny and timm:resnet18"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def reference_of(models: Sequence[str]) -> str:
    """Return the model that the costs and times of all others are divided by: the first MAST, else the first model."""
    return next((model for model in models if family(model) == "mast"), models[0])


def size(model: str) -> str:
    """Return the size of a registered name: "tiny" for "ast_tiny"; "" for a model of neither family."""
    name, _, suffix = model.partition("_")
    return suffix if name in PAPER_MODELS and suffix in SIZES and not is_other(model) else ""
