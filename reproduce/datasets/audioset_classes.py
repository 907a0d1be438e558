"""The 527 class names of AudioSet, for published weights that hold none."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")


@cache
def audioset_classes() -> tuple[str, ...]:
    """Return the display names in the order of `class_labels_indices.csv`, which is that of published AST's logits."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))
