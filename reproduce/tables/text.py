"""Cells, headers and footers as text, which terminal, Markdown and report share; and the Markdown format itself."""

from __future__ import annotations

from reproduce.tables.base import CLIPS, MEASURED, NOT_RUN, PAPER_ONLY, POINTS, RATIO, Cell, Column, Table

BLANK = "–"


def cell_text(cell: Cell | None, column: Column) -> str:
    """ "25.6 → 25.6": the paper's number, an arrow, ours. One alone where there is but one; a blank where neither.

    Ours may be followed by its deviation over seeds and its interval: "31.4 → 30.3 ± 0.2 [29.5, 31.0]".
    """
    if cell is None:
        return BLANK
    if cell.text is not None:
        return cell.text
    paper = None if cell.paper is None else f"{cell.paper:,.{_paper_decimals(cell, column)}f}"
    if cell.status == MEASURED and cell.measured is not None:
        ours = _measured_text(cell, cell.measured, column)
    elif cell.status == NOT_RUN:
        ours = NOT_RUN
    else:
        return f"{paper} (quoted)"
    return ours if paper is None else f"{paper} → {ours}"


def _measured_text(cell: Cell, value: float, column: Column) -> str:
    if cell.unit == CLIPS:
        return f"{value:,.0f}" + (f" of {cell.listed:,}" if cell.listed is not None else "")
    sign, decimals = "+" if cell.unit == POINTS else "", 2 if cell.unit == RATIO else column.decimals
    text = f"{value:{sign},.{decimals}f}" + (RATIO if cell.unit == RATIO else "")
    if cell.sd is not None:
        text += f" ± {cell.sd:.{decimals}f}"
    if cell.ci is not None:
        shown = 1 if column.unit in ("%", POINTS) else decimals  # intervals of percentages never need more
        text += f" [{cell.ci[0]:{sign}.{shown}f}, {cell.ci[1]:{sign}.{shown}f}]"
    return text


def _paper_decimals(cell: Cell, column: Column) -> int:
    return 2 if cell.unit == RATIO else min(column.decimals, 3)


def header_text(column: Column) -> str:
    """ "Time (ms)"; units that the cells show themselves are left out."""
    return f"{column.title} ({column.unit})" if column.unit not in ("", RATIO, CLIPS) else column.title


def shown_columns(table: Table) -> list[Column]:
    """The columns that hold a cell."""
    return [c for c in table.columns if any(c.key in row.cells for row in table.rows)]


def holds_words(table: Table, column: Column) -> bool:
    """Whether a column holds words, which are aligned left; numbers are aligned right."""
    cells = (row.cells.get(column.key) for row in table.rows)
    return any(cell is not None and cell.text is not None for cell in cells)


def grid_of(table: Table) -> list[list[str]]:
    """Header and rows as text; the first column holds the rows' labels."""
    columns = shown_columns(table)
    header = ["", *(header_text(column) for column in columns)]
    return [header, *([row.label, *(cell_text(row.cells.get(c.key), c) for c in columns)] for row in table.rows)]


def left_aligned(table: Table) -> list[bool]:
    """Of the labels and of every shown column: whether it is aligned left."""
    return [True, *(holds_words(table, column) for column in shown_columns(table))]


def reasons(table: Table) -> list[str]:
    """Why cells were not run, each reason once, in order."""
    cells = (cell for row in table.rows for cell in row.cells.values())
    return list(dict.fromkeys(cell.conditions for cell in cells if cell.status == NOT_RUN))


def footer(table: Table) -> list[str]:
    """The lines under a table: how to read its cells, its notes, and why cells were not run."""
    legend = _legend(table)
    return [*([legend] if legend else []), *table.notes, *reasons(table)]


def _legend(table: Table) -> str | None:
    """How to read a cell that shows more than one number."""
    cells = [cell for row in table.rows for cell in row.cells.values()]
    parts = ["paper → measured here"] if any(c.paper is not None and c.status != PAPER_ONLY for c in cells) else []
    if any(cell.sd is not None for cell in cells):
        parts = [*(parts or ["measured"]), "± sd over seeds"]
    if parts and any(cell.ci is not None for cell in cells):
        parts.append("[95 % interval]")
    return f"Cells read: {' '.join(parts)}." if parts else None


def to_markdown(table: Table, level: int = 2) -> str:
    """The table as a Markdown section of this heading level, its blocks one level lower."""
    parts = [f"{'#' * level} {table.title}\n"]
    if table.rows:
        grid = [[text.replace("|", "\\|") for text in row] for row in grid_of(table)]
        rule = [":--" if left else "--:" for left in left_aligned(table)]
        parts.append("".join(f"| {' | '.join(row)} |\n" for row in (grid[0], rule, *grid[1:])))
    if lines := footer(table):
        parts.append("".join(f"- {line}\n" for line in lines))
    return "\n".join([*parts, *(to_markdown(block, level + 1) for block in table.shown_blocks)])
