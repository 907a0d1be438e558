"""Formats of a table: widths of terminals, and what other programs read."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pandas
import pytest

from reproduce.tables import Cell, Column, Row, Table, measured, not_run, quoted, text_cell
from reproduce.tables.data_formats import to_parquet
from reproduce.tables.render import FORMATS, render, terminal_width

COLUMNS = (Column("top1", "Top-1", "%"), Column("what", "What_is & more"))
CELLS = {
    "top1": replace(measured(30.25, "%", "somewhere", paper=31.4), n=10, ci=(20.0, 40.5), seeds=(0, 1), sd=0.2),
    "what": text_cell("50 % | <b>", "a tag"),
}
ROWS = (Row("first", "the first", CELLS), Row("second", "the second", {"top1": not_run("%", "not run: no data")}))
TABLE = Table("small", "A small table", COLUMNS, ROWS, notes=("A note.",), blocks=(Table("block", "A block"),))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (CELLS["top1"], "31.4 → 30.2 ± 0.2 [20.0, 40.5]"),
        (not_run("%", "why", paper=31.4), "31.4 → not run"),
        (quoted(31.4, "%", "there"), "31.4 (quoted)"),
        (measured(2.0, "x", ""), "2.00x"),
        (measured(1.0, "points", ""), "+1.0"),
        (Cell(paper=1585, measured=4, unit="clips", listed=15446), "1,585.0 → 4 of 15,446"),
        (None, "–"),
    ],
)
def test_a_cell_reads_paper_then_measured(cell: Cell | None, text: str) -> None:
    cells = {} if cell is None else {"c": cell}
    table = Table("t", "T", (Column("c", "c"), Column("d", "d")), (Row("r", "r", {**cells, "d": measured(0, "", "")}),))
    (row,) = (line for line in render(table, "markdown").splitlines() if line.startswith("| r |"))
    assert (text in row) == (cell is not None)


def wide_table() -> Table:
    columns = tuple(Column(f"c{i}", f"column {i}") for i in range(20))
    cells = {column.key: measured(float(i), "", "") for i, column in enumerate(columns)}
    label = "a row with a label that is a whole sentence of many words and is longer than its column may be"
    return Table("wide", "Wide", columns, (Row("r", label, cells),), notes=("word " * 60,))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_column_is_lost(width: int) -> None:
    text = render(wide_table(), "terminal", width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"column {i}" in " ".join(text.split()) and f" {i}.0" in text for i in range(20))


def test_columns_that_do_not_fit_follow_below_with_the_label_again() -> None:
    starts = [line.startswith("a row with") for line in render(wide_table(), "terminal", 120).splitlines()]
    assert sum(starts) == 3


def test_a_cut_cell_names_the_formats_that_show_the_whole() -> None:
    long = Table("long", "Long", COLUMNS[1:], (Row("r", "r", {"what": text_cell("word " * 40, "tag")}),))
    assert "--format markdown" in render(long, "terminal", 80)
    assert "word " * 39 in render(long, "markdown")
    assert "--format" not in render(TABLE, "terminal", 80)


def test_columns_decides_the_width_down_to_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_width() == 120  # the output of a test is no terminal
    for given, width in (("100", 100), ("40", 80), ("300", 300)):
        monkeypatch.setenv("COLUMNS", given)
        assert terminal_width() == width


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_ends_in_a_newline_and_shows_notes_or_every_digit(format: str) -> None:
    text = render(TABLE, format)
    assert text.endswith("\n")
    assert ("30.25" if format in ("csv", "json") else "A note.") in text


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(KeyError):
        render(TABLE, "docx")


def test_a_frame_has_a_row_per_cell_with_typed_columns() -> None:
    frame = TABLE.to_frame()
    assert list(zip(frame.row, frame.column, strict=True)) == [
        ("first", "top1"),
        ("first", "what"),
        ("second", "top1"),
    ]
    assert (frame.measured[0], frame.paper[0], frame.ci_high[0], frame.n[0], frame.sd[0]) == (
        30.25,
        31.4,
        40.5,
        10,
        0.2,
    )
    assert frame.measured.isna().tolist() == [False, True, True]
    assert frame.status.tolist() == ["measured", "a tag", "not run"]
    assert (str(frame.measured.dtype), str(frame.n.dtype)) == ("Float64", "Int64")


def test_csv_and_parquet_hold_the_frame() -> None:
    pytest.importorskip("pyarrow")
    frame = TABLE.to_frame()
    pandas.testing.assert_frame_equal(pandas.read_parquet(io.BytesIO(to_parquet(TABLE))), frame)
    back = pandas.read_csv(io.StringIO(render(TABLE, "csv")))
    assert back.columns.tolist() == frame.columns.tolist() and back.measured[0] == 30.25


def test_json_holds_blocks_and_null_for_what_is_absent() -> None:
    stored = json.loads(render(TABLE, "json"))
    assert [block["table"] for block in stored["blocks"]] == ["block"]
    assert (stored["rows"][2]["measured"], stored["rows"][0]["seeds"]) == (None, [0, 1])


class Cells(HTMLParser):
    """Texts of the cells of the tables in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_escapes_cells_and_names_columns_and_rows() -> None:
    page = Cells(render(TABLE, "html"))
    assert "50 % | <b>" in page.texts and "b" not in page.tags
    assert (page.tags.count("table"), page.tags.count("caption"), page.tags.count("th")) == (1, 1, 5)


def test_latex_escapes_what_latex_reads() -> None:
    text = render(TABLE, "latex")
    assert r"What\_is \& more" in text and r"50 \%" in text and r"31.4 $\rightarrow$ 30.2 $\pm$ 0.2" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 1
