"""Tables as data: JSON, CSV, a DataFrame with one row per cell, and the formats that pandas writes from a grid."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from reproduce.errors import InputError
from reproduce.tables.base import Table
from reproduce.tables.text import footer, grid_of, left_aligned

if TYPE_CHECKING:
    import pandas

LATEX = {"→": "$\\rightarrow$", "±": "$\\pm$", "×": "$\\times$", "–": "--", "…": "\\ldots{}"}
CSV_COLUMNS = (
    *("table", "row", "column", "paper", "measured", "unit", "status"),
    *("n", "listed", "ci_low", "ci_high", "seeds", "sd", "text", "conditions"),
)


def cell_dicts(table: Table) -> Iterator[dict[str, Any]]:
    """Every cell of the table itself, blocks not included, as one flat dict."""
    for row in table.rows:
        for column in table.columns:
            cell = row.cells.get(column.key)
            if cell is not None:
                fields = {
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
                if cell.text is not None:
                    fields["text"] = cell.text
                if cell.listed is not None:
                    fields["listed"] = cell.listed
                if cell.seeds:
                    fields |= {"seeds": list(cell.seeds), "sd": cell.sd}
                yield fields


def to_json(table: Table) -> str:
    """The table with its notes and blocks as JSON."""
    return json.dumps(_as_dict(table), indent=2, ensure_ascii=False) + "\n"


def _as_dict(table: Table) -> dict[str, Any]:
    return {
        "table": table.name,
        "title": table.title,
        "rows": list(cell_dicts(table)),
        "notes": list(table.notes),
        "blocks": [_as_dict(block) for block in table.blocks],
    }


def to_csv(table: Table) -> str:
    """One line per cell, of the table and its blocks."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat_rows(table))
    return out.getvalue()


def _flat_rows(table: Table) -> Iterator[dict[str, Any]]:
    for part in with_blocks(table):
        for row in cell_dicts(part):
            low, high = row.pop("ci") or (None, None)
            seeds = " ".join(map(str, row.pop("seeds", [])))
            yield {"table": part.name, **row, "ci_low": low, "ci_high": high, "seeds": seeds}


def with_blocks(table: Table) -> Iterator[Table]:
    """The table, then its blocks and theirs."""
    yield table
    for block in table.blocks:
        yield from with_blocks(block)


def to_frame(table: Table) -> pandas.DataFrame:
    """One row per cell, of the table and its blocks, with the columns of the CSV format."""
    import pandas

    frame = pandas.DataFrame(list(_flat_rows(table)), columns=list(CSV_COLUMNS))
    numbers = ("paper", "measured", "ci_low", "ci_high", "sd")
    counts = ("n", "listed")
    types = dict.fromkeys(numbers, "Float64") | dict.fromkeys(counts, "Int64")
    return frame.astype({name: types.get(name, "string") for name in CSV_COLUMNS})


def to_parquet(table: Table) -> bytes:
    """`to_frame` as a Parquet file; InputError where pyarrow is not installed."""
    out = io.BytesIO()
    try:
        to_frame(table).to_parquet(out, index=False)
    except ImportError:
        raise InputError("--format parquet needs pyarrow: pip install 'mast-vs-ast[parquet]'") from None
    return out.getvalue()


def to_latex(table: Table) -> str:
    """A booktabs tabular per table that has rows, its title and notes as comments above it."""
    import pandas

    parts = []
    for part in with_blocks(table):
        lines = "".join(f"% {line}\n" for line in (part.title, *footer(part)))
        if part.rows:
            head, *rows = grid_of(part)
            alignment = "".join("l" if left else "r" for left in left_aligned(part))
            tabular = pandas.DataFrame(rows, columns=head).to_latex(index=False, escape=True, column_format=alignment)
            for character, command in LATEX.items():
                tabular = tabular.replace(character, command)
            lines += tabular
        parts.append(lines)
    return "\n".join(parts)


def to_html(table: Table) -> str:
    """A `<table>` with a caption and a list of notes per table; a fragment to put into a page."""
    parts = []
    for part in with_blocks(table):
        if part.rows:
            left = left_aligned(part)
            head, *rows = grid_of(part)
            parts.append(f"<table>\n<caption>{escape(part.title)}</caption>")
            titles = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
            parts.append(f"<thead><tr>{titles}</tr></thead>\n<tbody>")
            for label, *texts in rows:
                cells = (
                    f'<td style="text-align: {"left" if is_left else "right"}">{escape(text)}</td>'
                    for text, is_left in zip(texts, left[1:], strict=True)
                )
                parts.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>')
            parts.append("</tbody>\n</table>")
        else:
            parts.append(f"<p>{escape(part.title)}</p>")
        if lines := footer(part):
            parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]
    return "\n".join(parts) + "\n"
