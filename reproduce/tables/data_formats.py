"""Tables for other programs: JSON, CSV and Parquet with one row per cell, LaTeX and HTML as they are read."""

from __future__ import annotations

import io
import json
from html import escape
from typing import Any

from reproduce.errors import InputError
from reproduce.tables.base import Table
from reproduce.tables.text import footer, grid_of, left_aligned

LATEX = {"→": "$\\rightarrow$", "±": "$\\pm$", "×": "$\\times$", "–": "--", "…": "\\ldots{}"}


def to_json(table: Table) -> str:
    """The table with its notes and blocks as JSON."""
    return json.dumps(_as_dict(table), indent=2, ensure_ascii=False) + "\n"


def _as_dict(table: Table) -> dict[str, Any]:
    return {
        "table": table.name,
        "title": table.title,
        "rows": list(table.cell_dicts()),
        "notes": list(table.notes),
        "blocks": [_as_dict(block) for block in table.blocks],
    }


def to_csv(table: Table) -> str:
    """One line per cell, of the table and its blocks."""
    return table.to_frame().to_csv(index=False, lineterminator="\n")


def to_parquet(table: Table) -> bytes:
    """`Table.to_frame` as a Parquet file; InputError where pyarrow is not installed."""
    out = io.BytesIO()
    try:
        table.to_frame().to_parquet(out, index=False)
    except ImportError:
        raise InputError("--format parquet needs pyarrow: pip install 'mast-vs-ast[parquet]'") from None
    return out.getvalue()


def to_latex(table: Table) -> str:
    """A booktabs tabular per table that has rows, its title and notes as comments above it."""
    import pandas

    parts = []
    for part in table.with_blocks():
        if part.for_programs:
            continue
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
    for part in table.with_blocks():
        if part.for_programs:
            continue
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
