"""Tables of the registry as tables of the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reports.conditions import conditions_of
from reports.document import Bullets, Grid, Words, key_of, strong, with_code, words
from reports.plots.base import label_of
from reproduce.experiments.families import PAPER_MODELS, SIZES
from reproduce.tables import CLIPS, MEASURED, NOT_RUN, Cell, Column, Row, Table
from reproduce.tables.text import cell_text, reasons

RATIO = "x"
UNITS_IN_CELLS = ("", RATIO, CLIPS)
_MODEL = re.compile(rf"\b({'|'.join(PAPER_MODELS)})_({'|'.join(SIZES)})\b")
_OF_THE_PAPER = re.compile(r"^(Table|Figure) (?=\d)")


def readable(text: str) -> str:
    """`text` with registered models by their names: "MAST (tiny)" instead of "mast_tiny"."""
    return _MODEL.sub(lambda match: label_of(match[0]), text)


def title_of(table: Table) -> str:
    """The table's title; a table of the paper is called the paper's, because the report numbers its own."""
    title = _OF_THE_PAPER.sub(r"The paper's \1 ", readable(table.title)).rstrip(".")
    return title[:1].upper() + title[1:]


def grid_of(
    table: Table,
    *,
    see: str = "",
    command: str = "",
    notes: bool = True,
) -> Grid:
    """The rows of a table, without its blocks.

    Args:
        table: with at least one row.
        see: what to see in it, a sentence that follows the title.
        command: makes the table; named under it, and instead of the reasons that name it too.
        notes: whether to show the table's notes; its conditions and what was not run are always shown.
    """
    shown = [c for c in table.columns if any(c.key in r.cells for r in table.rows)]
    words_at = [index for index, column in enumerate(shown, start=1) if _holds_words(table, column)]
    conditions = conditions_of(table.runs)
    return Grid(
        key=f"table-{key_of(table.name)}",
        caption=words(f"{title_of(table)}.{f' {see}' if see else ''}"),
        header=("", *(readable(_header(column)) for column in shown)),
        rows=tuple(
            (words(readable(row.label)), *(_cell(row.cells.get(c.key), c) for c in shown)) for row in table.rows
        ),
        left=frozenset({0, *words_at}),
        notes=(
            *((words(conditions),) if conditions else ()),
            *(notes_of(table) if notes else ()),
            *_not_run(table, shown, command),
        ),
        command=command,
    )


def notes_of(table: Table) -> tuple[Words, ...]:
    """The table's notes."""
    return tuple(with_code(readable(note)) for note in table.notes)


def with_blocks(table: Table) -> Iterator[Table]:
    """The table and, depth first, every block under it that people read."""
    yield table
    for block in table.shown_blocks:
        yield from with_blocks(block)


def blocks_of(table: Table) -> Iterator[Grid | Bullets]:
    """The table and all under it, with all notes: a grid each, or a list where a block has notes alone."""
    for part in with_blocks(table):
        if part.rows:
            yield grid_of(part)
        elif part.notes:
            yield Bullets(items=notes_of(part))


def _holds_words(table: Table, column: Column) -> bool:
    cells = (row.cells.get(column.key) for row in table.rows)
    return any(cell is not None and cell.text is not None for cell in cells)


def _header(column: Column) -> str:
    return column.title if column.unit in UNITS_IN_CELLS else f"{column.title} ({column.unit})"


def _cell(cell: Cell | None, column: Column) -> Words:
    """Bold where our number differs from the paper's as both are printed."""
    text = cell_text(cell, column)
    if cell is not None and cell.text is not None:
        return words(readable(text))
    paper, arrow, ours = text.partition(" → ")
    if cell is None or cell.status != MEASURED or ours.removesuffix(RATIO) in ("", paper):
        return words(text)
    return words(paper, arrow, strong(ours))


def _not_run(table: Table, columns: Sequence[Column], command: str) -> list[Words]:
    """Why cells were not run. Cells that the table's own command fills are counted, not named one by one."""
    keys = [column.key for column in columns]
    filled = [cell for cell in _cells(table.rows, keys) if command and command in str(cell.conditions)]
    count = sum(cell.status == NOT_RUN for cell in filled)
    others = [reason for reason in reasons(table) if not (command and command in reason)]
    counted = [with_code(f"Not run: {count} of the cells have no run at the paper's scale.")] if count else []
    return [*counted, *(with_code(readable(reason)) for reason in others)]


def _cells(rows: Sequence[Row], keys: Sequence[str]) -> list[Cell]:
    return [row.cells[key] for row in rows for key in keys if key in row.cells]
