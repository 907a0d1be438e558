"""Tables for a terminal: aligned columns within a width. Columns that do not fit follow below, with labels again."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from reproduce.tables.base import Table
from reproduce.tables.text import footer, grid_of, left_aligned

HEADER_WIDTH = 12  # longer headers are broken, where the cells under them are no wider
GAP = 2
LABEL_SHARE = 0.4  # of the width, at most, for the rows' labels
LONGEST_CELL = 60  # characters; more is cut, and the other formats have the whole
CUT_NOTE = "… cut to fit; --format markdown or csv shows the whole."


def to_terminal(table: Table, width: int) -> str:
    """The table and its blocks as lines of at most `width` characters, where single cells allow it."""
    lines = textwrap.wrap(table.title, width, subsequent_indent="  ", break_on_hyphens=False)
    notes = footer(table)
    if table.rows:
        longest = min(LONGEST_CELL, width // 2)
        whole = grid_of(table)
        grid = [whole[0], *([row[0], *(_cut(text, longest) for text in row[1:])] for row in whole[1:])]
        lines += _grid_lines(grid, left_aligned(table), width)
        if grid != whole:
            notes = [*notes, CUT_NOTE]
    for note in notes:
        lines += textwrap.wrap(note, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    text = "\n".join(lines) + "\n"
    return text + "".join("\n" + to_terminal(block, width) for block in table.shown_blocks)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def _grid_lines(grid: Sequence[Sequence[str]], left: Sequence[bool], width: int) -> list[str]:
    """Aligned lines. Long headers and labels take several."""
    cells = [_broken_column(column, is_label=not i, width=width) for i, column in enumerate(zip(*grid, strict=True))]
    widths = [max(len(line) for cell in column for line in cell) for column in cells]
    lines: list[str] = []
    for columns_shown in _parts(widths, width):
        if lines:
            lines.append("")
        for row in range(len(grid)):
            height = max(len(cells[i][row]) for i in columns_shown)
            for line in range(height):
                texts = (_line_of(cells[i][row], line, height, from_bottom=row == 0) for i in columns_shown)
                aligned = (
                    f"{text:{'<' if left[i] else '>'}{widths[i]}}" for text, i in zip(texts, columns_shown, strict=True)
                )
                lines.append((" " * GAP).join(aligned).rstrip())
            if row == 0:
                lines.append((" " * GAP).join("-" * widths[i] for i in columns_shown))
    return lines


def _broken_column(column: Sequence[str], is_label: bool, width: int) -> list[list[str]]:
    """The lines of the header and of every cell."""
    title, *texts = column
    if is_label:
        widest = max(HEADER_WIDTH, int(LABEL_SHARE * width))
        labels = (
            [text] if len(text) <= widest else textwrap.wrap(text, widest, subsequent_indent=GAP * " ")
            for text in texts
        )
        return [[title], *labels]
    body = max((len(text) for text in texts), default=0)
    wrapped = textwrap.wrap(title, max(HEADER_WIDTH, body), break_long_words=False, break_on_hyphens=False)
    return [wrapped or [""], *([text] for text in texts)]


def _line_of(cell: Sequence[str], line: int, height: int, from_bottom: bool) -> str:
    """A line of a cell that is `height` lines high in its row: headers are aligned at the bottom, cells at the top."""
    index = line - (height - len(cell)) if from_bottom else line
    return cell[index] if 0 <= index < len(cell) else ""


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Columns that fit side by side within the width, the first (labels) in every part; parts about equally wide."""
    fewest = len(_filled(widths, width))
    return next(parts for limit in range(width + 1) if len(parts := _filled(widths, limit)) == fewest)


def _filled(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Each part filled with columns up to `limit`; at least one column beside the labels, however wide."""
    parts, used = [[0]], widths[0]
    for i, width in enumerate(widths[1:], start=1):
        if used + GAP + width > limit and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(i)
        used += GAP + width
    return parts
