"""A table of the registry as Markdown for the report: numbers in the cells, everything longer in notes below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.markdown import bullets, code, escape, escape_note, table
from reproduce.tables import CLIPS, MEASURED, POINTS, Cell, Column, Table
from reproduce.tables.text import BLANK, cell_text, reasons

MOST_CONDITIONS = 8  # of one table; of more, what they share is told
ROWS_NAMED = 4  # of a condition; more are told by the first and the last
SAME_START = 3  # parts that conditions must share to be told together
RATIO = "x"
UNITS_IN_CELLS = ("", RATIO, CLIPS)


def table_text(table: Table, level: int = 3, command: str = "") -> str:
    """Heading, the command that makes the table, grid, notes, and the same of the blocks under it."""
    parts = [f"{'#' * level} {escape(table.title)}\n"]
    if command:
        parts.append(f"Made by {code(command)}\n")
    if table.rows:
        parts.append(_grid(table))
    if notes := [*_conditions(table), *table.notes, *reasons(table)]:
        parts.append(bullets(map(escape_note, notes)))
    return "\n".join([*parts, *(table_text(block, min(level + 1, 6)) for block in table.blocks)])


def _grid(shown: Table) -> str:
    columns = [c for c in shown.columns if any(c.key in row.cells for row in shown.rows)]
    header = ["", *(escape(_header(column)) for column in columns)]
    rows = [
        [escape(row.label), *(_cell(row.cells.get(column.key), column) for column in columns)] for row in shown.rows
    ]
    words = [place for place, column in enumerate(columns, start=1) if _holds_words(shown, column)]
    return table(header, rows, left=(0, *words))


def _holds_words(shown: Table, column: Column) -> bool:
    return any(isinstance(row.cells.get(column.key), TextCell) for row in shown.rows)


def _header(column: Column) -> str:
    return column.title if column.unit in UNITS_IN_CELLS else f"{column.title} ({column.unit})"


def _cell(cell: Cell | None, column: Column) -> str:
    """Bold where ours differs from the paper's number as both are printed."""
    if isinstance(cell, TextCell):
        return escape(cell.text)
    paper, arrow, ours = escape(cell_text(cell, column)).partition(" → ")
    if cell is None or cell.status != MEASURED or ours.removesuffix("x") in ("", paper):
        return paper + arrow + ours
    return f"{paper}{arrow}**{ours}**"


def _conditions(shown: Table) -> list[str]:
    """What the measured cells were measured under, each text once, after the rows that it holds for.

    Left out: differences and ratios, which the columns or rows they are of explain, and what the table's notes say.
    """
    rows_of: dict[str, list[str]] = {}
    for row in shown.rows:
        cells = [c for c in row.cells.values() if c.status == MEASURED and c.unit not in (POINTS, RATIO)]
        told = dict.fromkeys(c.conditions for c in cells if _is_news(c.conditions, shown.notes))
        for conditions in _merged(list(told)):
            rows_of.setdefault(conditions, []).append(row.label)
    if len(rows_of) > MOST_CONDITIONS:
        return _common(list(rows_of))
    return [f"{_rows(rows, shown)}{conditions}." for conditions, rows in rows_of.items()]


def _common(conditions: Sequence[str]) -> list[str]:
    """What many conditions share, in one note: what they differ in mostly stands in the rows' labels."""
    split = [text.split(", ") for text in conditions]
    shared = [part for part in split[0] if all(part in parts for parts in split)]
    told = f"Common to all measured cells: {', '.join(shared)}. " if shared else ""
    return [f"{told}`--format json` gives the conditions of every cell."]


def _is_news(conditions: str, notes: Sequence[str]) -> bool:
    """Whether conditions say more than "ast_tiny, exact" does beside its row and column, and more than the notes."""
    return conditions.count(", ") + 1 >= SAME_START and not any(conditions in note for note in notes)


def _rows(labels: Sequence[str], shown: Table) -> str:
    if len(labels) == len(shown.rows) or len(shown.rows) == 1:
        return ""
    named = "; ".join(labels) if len(labels) <= ROWS_NAMED else f"{labels[0]} … {labels[-1]} ({len(labels)} rows)"
    return f"{named}: "


def _merged(conditions: Sequence[str]) -> list[str]:
    """Conditions that start alike as one: "ast_base, closed form (module-only rule; full rule)"."""
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for text in conditions:
        parts = text.split(", ")
        alike.setdefault(tuple(parts[:SAME_START]), []).append(parts)
    merged = []
    for group in alike.values():
        start = [part for part, *others in zip(*group, strict=False) if set(others) <= {part}]
        rests = [", ".join(parts[len(start) :]) for parts in group if len(parts) > len(start)]
        merged.append(
            ", ".join(start) + (f" ({'; '.join(rests)})" if len(group) > 1 else f", {rests[0]}" if rests else "")
        )
    return merged


def count_cells(tables: Iterable[Table], status: str) -> int:
    """Cells with a paper's number in these tables, blocks not included, of one status."""
    return sum(
        cell.status == status and cell.paper is not None
        for shown in tables
        for row in shown.rows
        for cell in row.cells.values()
    )


__all__ = ["BLANK", "count_cells", "table_text"]
