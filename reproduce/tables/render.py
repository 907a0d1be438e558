"""Tables as text: the formats of the command line. The numbers are the table's; only their layout is decided here."""

from __future__ import annotations

import os
import shutil
import sys

from reproduce.tables.base import Table
from reproduce.tables.data_formats import to_csv, to_html, to_json, to_latex
from reproduce.tables.terminal import to_terminal
from reproduce.tables.text import cell_text, reasons, to_markdown

__all__ = ["ALL_FORMATS", "FORMATS", "cell_text", "reasons", "render", "terminal_width"]

FORMATS = ("terminal", "markdown", "csv", "json", "latex", "html")  # that are text
ALL_FORMATS = (*FORMATS, "parquet")
WIDTH = 120  # of files and pipes
NARROWEST = 80


def render(table: Table, format: str, width: int | None = None) -> str:
    """Text of `table` and its blocks in one of FORMATS, ending in a newline.

    Args:
        table: to show.
        format: see FORMATS; `data_formats.to_parquet` writes the binary one.
        width: characters per line of the terminal format; by default `terminal_width()`.

    Raises:
        KeyError: an unknown format.
    """
    if format == "terminal":
        return to_terminal(table, terminal_width() if width is None else width)
    renderers = {"markdown": to_markdown, "csv": to_csv, "json": to_json, "latex": to_latex, "html": to_html}
    return renderers[format](table)


def terminal_width() -> int:
    """Characters per line: of COLUMNS or the terminal, at least NARROWEST; WIDTH where the output is no terminal."""
    if not os.environ.get("COLUMNS") and not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)
