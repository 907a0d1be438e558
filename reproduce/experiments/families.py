"""The two model families and the inputs at which they are compared."""

from __future__ import annotations

PAPER_MODELS = {"ast": "ast_base", "mast": "mast_base"}


def family(model: str) -> str:
    """ "ast" or "mast" of "ast_tiny", "mast_base" or a row's label that begins with it."""
    return "ast" if model.lower().startswith("ast") else "mast"


PAPER_SECONDS = 10.24  # 1024 frames at a 10 ms hop
LENGTHS_S = (1.0, 2.0, 5.0, 10.0, PAPER_SECONDS, 20.0, 30.0, 60.0)
LABELS = {"ast": "AST", "mast": "MAST"}
