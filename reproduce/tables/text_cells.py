"""Cells that hold words: verdicts, and settings such as an optimizer's name."""

from __future__ import annotations

from dataclasses import dataclass

from reproduce.tables.base import Cell


@dataclass(frozen=True)
class TextCell(Cell):
    """A cell that shows `text`, and has no number. `status` may carry a tag that the text abbreviates."""

    text: str = ""


def text_cell(text: str, status: str, conditions: str = "") -> TextCell:
    """`text` as a cell; `status` and `conditions` go to JSON and CSV beside it."""
    return TextCell(None, None, "", status, conditions, text=text)
