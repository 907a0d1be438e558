"""Names of precisions: those of the command line, and torch's, which records hold. No torch here."""

from __future__ import annotations

AUTO = "auto"
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # of the command line -> of torch


def short_name(precision: str) -> str:
    """The command line's name of torch's: "bf16" for "bfloat16"; a name that it does not know stays as it is."""
    return next((short for short, name in PRECISIONS.items() if name == precision), precision)
