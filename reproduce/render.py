"""Tables as text: terminal, Markdown, CSV and JSON. The numbers are the table's; only their layout is decided here."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from reproduce.tables import MEASURED, NOT_RUN, Cell, Column, Table

FORMATS = ("terminal", "markdown", "csv", "json")
BLANK = "–"
NOTE_WIDTH = 120


def render(table: Table, format: str) -> str:
    """Text of `table` and its blocks in one of FORMATS, ending in a newline."""
    renderers = {"terminal": to_terminal, "markdown": to_markdown, "csv": to_csv, "json": to_json}
    return renderers[format](table)


def cell_text(cell: Cell | None, column: Column) -> str:
    """ "25.6 → 25.6 G": the paper's number, an arrow, ours. One alone where there is but one; a blank where neither."""
    if cell is None:
        return BLANK
    paper = None if cell.paper is None else f"{cell.paper:,.{_paper_decimals(cell, column)}f}"
    if cell.status == MEASURED and cell.measured is not None:
        decimals = 2 if cell.unit == "x" else column.decimals
        ours = f"{cell.measured:,.{decimals}f}" + ("x" if cell.unit == "x" else "")
        if cell.ci is not None:
            ours += f" [{cell.ci[0]:.1f}, {cell.ci[1]:.1f}]"
    elif cell.status == NOT_RUN:
        ours = NOT_RUN
    else:
        return f"{paper} (quoted)"
    return ours if paper is None else f"{paper} → {ours}"


def _paper_decimals(cell: Cell, column: Column) -> int:
    return 2 if cell.unit == "x" else min(column.decimals, 3)


def _header(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit and column.unit != "x" else column.title


def _grid(table: Table) -> list[list[str]]:
    """Header and rows as text. Columns that hold nothing are left out."""
    columns = [c for c in table.columns if any(c.key in row.cells for row in table.rows)]
    header = ["", *(_header(column) for column in columns)]
    return [header, *([row.label, *(cell_text(row.cells.get(c.key), c) for c in columns)] for row in table.rows)]


def _legend(table: Table) -> str | None:
    cells = [cell for row in table.rows for cell in row.cells.values()]
    if any(cell.paper is not None and cell.status != "paper only" for cell in cells):
        return "Cells read: paper → measured here."
    return None


def reasons(table: Table) -> list[str]:
    """Why cells were not run, each reason once, in order."""
    cells = (cell for row in table.rows for cell in row.cells.values())
    return list(dict.fromkeys(cell.conditions for cell in cells if cell.status == NOT_RUN))


def _footer(table: Table) -> list[str]:
    legend = _legend(table)
    return [*([legend] if legend else []), *table.notes, *reasons(table)]


def to_terminal(table: Table) -> str:
    lines = [table.title]
    if table.rows:
        grid = _grid(table)
        widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
        for number, row in enumerate(grid):
            cells = [
                row[0].ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  ".join(cells).rstrip())
            if number == 0:
                lines.append("  ".join("-" * width for width in widths))
    for note in _footer(table):
        lines += textwrap.wrap(note, NOTE_WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    text = "\n".join(lines) + "\n"
    return text + "".join("\n" + to_terminal(block) for block in table.blocks)


def to_markdown(table: Table, level: int = 2) -> str:
    parts = [f"{'#' * level} {table.title}\n"]
    if table.rows:
        grid = [[text.replace("|", "\\|") for text in row] for row in _grid(table)]
        rule = [":--", *("--:" for _ in grid[0][1:])]
        parts.append("".join(f"| {' | '.join(row)} |\n" for row in (grid[0], rule, *grid[1:])))
    if footer := _footer(table):
        parts.append("".join(f"- {note}\n" for note in footer))
    return "\n".join([*parts, *(to_markdown(block, level + 1) for block in table.blocks)])


def _long_rows(table: Table) -> Iterator[dict[str, Any]]:
    """Every cell of the table itself, blocks not included, as one flat dict."""
    for row in table.rows:
        for column in table.columns:
            cell = row.cells.get(column.key)
            if cell is not None:
                yield {
                    "row": row.key,
                    "column": column.key,
                    "paper": cell.paper,
                    "measured": cell.measured,
                    "unit": cell.unit,
                    "status": cell.status,
                    "conditions": cell.conditions,
                    "n": cell.n,
                    "ci": None if cell.ci is None else list(cell.ci),
                }


def _as_dict(table: Table) -> dict[str, Any]:
    return {
        "table": table.name,
        "title": table.title,
        "rows": list(_long_rows(table)),
        "notes": list(table.notes),
        "blocks": [_as_dict(block) for block in table.blocks],
    }


def to_json(table: Table) -> str:
    return json.dumps(_as_dict(table), indent=2, ensure_ascii=False) + "\n"


CSV_COLUMNS = ("table", "row", "column", "paper", "measured", "unit", "status", "n", "ci_low", "ci_high", "conditions")


def to_csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in (table, *_descendants(table.blocks)):
        for row in _long_rows(part):
            low, high = row.pop("ci") or (None, None)
            writer.writerow({"table": part.name, **row, "ci_low": low, "ci_high": high})
    return out.getvalue()


def _descendants(tables: Sequence[Table]) -> Iterator[Table]:
    for table in tables:
        yield table
        yield from _descendants(table.blocks)
