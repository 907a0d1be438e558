"""Tables as text: terminal, Markdown, CSV and JSON. The numbers are the table's; only their layout is decided here."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from reproduce.tables import CLIPS, MEASURED, NOT_RUN, PAPER_ONLY, POINTS, Cell, Column, Table
from reproduce.tables.cells import TextCell

FORMATS = ("terminal", "markdown", "csv", "json")
BLANK = "–"
WIDTH = 120
HEADER_WIDTH = 12  # longer headers are broken, where the cells under them are no wider


def render(table: Table, format: str) -> str:
    """Text of `table` and its blocks in one of FORMATS, ending in a newline."""
    renderers = {"terminal": to_terminal, "markdown": to_markdown, "csv": to_csv, "json": to_json}
    return renderers[format](table)


def cell_text(cell: Cell | None, column: Column) -> str:
    """ "25.6 → 25.6": the paper's number, an arrow, ours. One alone where there is but one; a blank where neither.

    Ours may be followed by its deviation over seeds and its interval: "31.4 → 30.3 ± 0.2 [29.5, 31.0]".
    """
    if cell is None:
        return BLANK
    if isinstance(cell, TextCell):
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
    sign, decimals = "+" if cell.unit == POINTS else "", 2 if cell.unit == "x" else column.decimals
    text = f"{value:{sign},.{decimals}f}" + ("x" if cell.unit == "x" else "")
    if cell.sd is not None:
        text += f" ± {cell.sd:.{decimals}f}"
    if cell.ci is not None:
        text += f" [{cell.ci[0]:{sign}.1f}, {cell.ci[1]:{sign}.1f}]"
    return text


def _paper_decimals(cell: Cell, column: Column) -> int:
    return 2 if cell.unit == "x" else min(column.decimals, 3)


def _header(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit not in ("", "x", CLIPS) else column.title


def _shown_columns(table: Table) -> list[Column]:
    """Columns that hold nothing are left out."""
    return [c for c in table.columns if any(c.key in row.cells for row in table.rows)]


def _left_aligned(table: Table) -> list[bool]:
    """Of the row's label and of every shown column: words stand left, numbers right."""
    words = (any(isinstance(row.cells.get(c.key), TextCell) for row in table.rows) for c in _shown_columns(table))
    return [True, *words]


def _grid(table: Table) -> list[list[str]]:
    """Header and rows as text."""
    columns = _shown_columns(table)
    header = ["", *(_header(column) for column in columns)]
    return [header, *([row.label, *(cell_text(row.cells.get(c.key), c) for c in columns)] for row in table.rows)]


def _legend(table: Table) -> str | None:
    """How to read a cell that shows more than one number."""
    cells = [cell for row in table.rows for cell in row.cells.values()]
    parts = ["paper → measured here"] if any(c.paper is not None and c.status != PAPER_ONLY for c in cells) else []
    if any(cell.sd is not None for cell in cells):
        parts = [*(parts or ["measured"]), "± sd over seeds"]
    if parts and any(cell.ci is not None for cell in cells):
        parts.append("[95 % interval]")
    return f"Cells read: {' '.join(parts)}." if parts else None


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
        lines += _terminal_grid(_grid(table), _left_aligned(table))
    for note in _footer(table):
        lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    text = "\n".join(lines) + "\n"
    return text + "".join("\n" + to_terminal(block) for block in table.blocks)


def _terminal_grid(grid: list[list[str]], left: Sequence[bool]) -> list[str]:
    """Aligned lines. Long headers take several; columns beyond WIDTH follow below, with the rows' labels again."""
    headers, widths = [], []
    for title, *cells in zip(*grid, strict=True):
        body = max(len(cell) for cell in cells)
        wrapped = textwrap.wrap(title, max(HEADER_WIDTH, body), break_long_words=False, break_on_hyphens=False)
        headers.append(wrapped or [""])
        widths.append(max(body, *(len(line) for line in headers[-1])))
    lines: list[str] = []
    for places in _parts(widths):
        height = max(len(headers[i]) for i in places)
        head = [[*[""] * (height - len(headers[i])), *headers[i]] for i in places]
        rows = [*map(list, zip(*head, strict=True)), *([row[i] for i in places] for row in grid[1:])]
        if lines:
            lines.append("")
        for number, row in enumerate(rows):
            aligned = (f"{text:{'<' if left[i] else '>'}{widths[i]}}" for text, i in zip(row, places, strict=True))
            lines.append("  ".join(aligned).rstrip())
            if number == height - 1:
                lines.append("  ".join("-" * widths[i] for i in places))
    return lines


def _parts(widths: Sequence[int]) -> list[list[int]]:
    """Columns that stand side by side within WIDTH, the first (labels) in every part; parts about equally wide."""
    fewest = len(_filled(widths, WIDTH))
    return next(parts for limit in range(WIDTH + 1) if len(parts := _filled(widths, limit)) == fewest)


def _filled(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Each part filled with columns up to `limit`; at least one stands beside the labels, however wide."""
    parts, used = [[0]], widths[0]
    for i, width in enumerate(widths[1:], start=1):
        if used + 2 + width > limit and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(i)
        used += 2 + width
    return parts


def to_markdown(table: Table, level: int = 2) -> str:
    parts = [f"{'#' * level} {table.title}\n"]
    if table.rows:
        grid = [[text.replace("|", "\\|") for text in row] for row in _grid(table)]
        rule = [":--" if left else "--:" for left in _left_aligned(table)]
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
                    **_further_fields(cell),
                }


def _further_fields(cell: Cell) -> dict[str, Any]:
    """What only some cells have: words, how many test clips the data set lists, the runs it is the mean of."""
    fields: dict[str, Any] = {"text": cell.text} if isinstance(cell, TextCell) else {}
    if cell.listed is not None:
        fields["listed"] = cell.listed
    if cell.seeds:
        fields |= {"seeds": list(cell.seeds), "sd": cell.sd}
    return fields


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


CSV_COLUMNS = (
    *("table", "row", "column", "paper", "measured", "unit", "status"),
    *("n", "listed", "ci_low", "ci_high", "seeds", "sd", "text", "conditions"),
)


def to_csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in (table, *_descendants(table.blocks)):
        for row in _long_rows(part):
            low, high = row.pop("ci") or (None, None)
            seeds = " ".join(map(str, row.pop("seeds", [])))
            writer.writerow({"table": part.name, **row, "ci_low": low, "ci_high": high, "seeds": seeds})
    return out.getvalue()


def _descendants(tables: Sequence[Table]) -> Iterator[Table]:
    for table in tables:
        yield table
        yield from _descendants(table.blocks)
