"""The model families of the comparison and the inputs at which they are compared."""

from __future__ import annotations

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


def size(model: str) -> str:
    """Return the size of a registered name: "tiny" for "ast_tiny"; "" for a model of neither family."""
    name, _, suffix = model.partition("_")
    return suffix if name in PAPER_MODELS and suffix in SIZES and not is_other(model) else ""
