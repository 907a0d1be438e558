"""Text of the report: whatever a name holds is shown as it is, in Markdown, on the page and in the PDF."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.markdown import bullets, code, escape, escape_note, table
from reports.tables_text import table_text
from reports.to_html import to_html
from reports.to_typst import parser, string, to_typst
from reproduce.tables import Cell, Column, Row, Table, measured

HOSTILE = (
    "a*b*_c_|<script>alert(1)</script>&amp;[x](http://y)![z](w)",
    "`code` ``two`` #heading $math$ ~gone~ {brace} \\slash\\",
    '#let x = 1; @ref <label> "quoted" // comment /* too */ https://example.org',
    "1. list",
    "- item",
    "+ 3 // no",
    "# title",
    "--- === ***",
    "=== x",
    "| a | b |",
    ":-- --:",
)


def shown(markdown: str) -> str:
    """The text that a browser shows of it."""
    return html.unescape(re.sub(r"<[^>]*>", "", parser().render(markdown))).strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is_in_lines_lists_and_cells(text: str) -> None:
    assert shown(escape(text)) == text
    assert shown(bullets([escape(text)])) == text
    cells = re.findall(r"<td[^>]*>(.*?)</td>", parser().render(table(["", "n"], [[escape(text), "1"]])))
    assert [html.unescape(cell) for cell in cells] == [text, "1"]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40).filter(str.strip))
def test_any_printable_text_survives_escaping(text: str) -> None:
    line = " ".join(text.split())
    assert shown(escape(text)) == line
    cells = re.findall(r"<td[^>]*>(.*?)</td>", parser().render(table(["", "n"], [[escape(text), "1"]])))
    assert [html.unescape(cell) for cell in cells] == [line, "1"]


def test_commands_in_notes_are_code_and_the_rest_is_escaped() -> None:
    note = "not run: no record of a_*b* under x: python -m reproduce table2 --data kinetics_sounds=DIR"
    assert "<code>python -m reproduce table2 --data kinetics_sounds=DIR</code>" in parser().render(escape_note(note))
    assert shown(escape_note(note)) == note
    assert shown(escape_note("see `--format json` <b>")) == "see --format json <b>"
    assert escape_note("`python -m reports` again") == "`python -m reports` again"


def test_code_may_hold_backticks() -> None:
    assert "<code>a `b` c</code>" in parser().render(code("a `b` c"))
    assert "<code>`b`</code>" in parser().render(code("`b`"))


def test_hostile_text_is_text_on_the_page() -> None:
    page = to_html("# T\n\n" + "\n".join(escape(text) + "\n" for text in HOSTILE), {}, {})
    assert page.count("<script>") == 1  # our own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_hostile_text_is_text_in_the_pdf() -> None:
    typst = pytest.importorskip("typst")
    pypdf = pytest.importorskip("pypdf")
    import io

    rows = [[escape(text), "1"] for text in HOSTILE]
    markdown = "# T\n\n" + table(["name", "n"], rows) + "\n" + bullets(map(escape, HOSTILE))
    pdf = typst.compile(to_typst(markdown).encode(), format="pdf", ignore_system_fonts=True, timestamp=0)
    text = re.sub(r"\s", "", "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages))
    for name in HOSTILE:
        assert text.count(re.sub(r"\s", "", name)) >= 2, name


def test_typst_gets_strings_and_no_markup() -> None:
    assert string('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'
    assert '#"#let x";' in to_typst("#let x".replace("#", r"\#"))


def test_markdown_that_the_pdf_has_no_form_for_is_an_error_not_a_gap() -> None:
    with pytest.raises(ValueError, match="paragraph of its own"):
        to_typst("text ![an image](figures/x.png) in a line")


# --- tables ---------------------------------------------------------------------------------------------------------

COLUMNS = (Column("top1", "Top-1", "%", 1), Column("empty", "Nothing", "", 0))


def one_row(cell: Cell, **changes: object) -> str:
    return table_text(Table("t", "A title", COLUMNS, (Row("r", "a|b", {"top1": cell}),), **changes))  # type: ignore[arg-type]


def test_a_measured_number_is_bold_only_where_it_differs_from_the_paper_as_printed() -> None:
    assert r"| a\|b | 50.0 → **51.2** |" in one_row(measured(51.2, "%", "", paper=50.0))
    assert r"| a\|b | 50.0 → 50.0 |" in one_row(measured(50.04, "%", "", paper=50.0))
    assert r"| a\|b | 51.2 |" in one_row(measured(51.2, "%", ""))


def test_columns_without_a_cell_are_left_out() -> None:
    assert "Nothing" not in one_row(measured(1.0, "%", ""))


def test_conditions_stand_below_the_table_once_and_not_where_a_note_says_them() -> None:
    conditions = "mast_base, from scratch, 3 epochs"
    assert one_row(measured(1.0, "%", conditions)).count(conditions) == 1
    assert one_row(measured(1.0, "%", conditions), notes=(f"a|b: {conditions}.",)).count(conditions) == 1


def test_conditions_that_start_alike_are_told_together() -> None:
    cells = {key: measured(1.0, "%", f"ast_base, 1 x 8, closed form, {key}") for key in ("top1", "empty")}
    text = table_text(Table("t", "T", COLUMNS, (Row("r", "r", cells), Row("s", "s", {}))))
    assert "- r: ast_base, 1 x 8, closed form (top1; empty)." in text


def test_wide_tables_go_on_a_page_of_their_own_with_their_heading() -> None:
    header = ["row", *(f"column{i}" for i in range(20))]
    rows = [["x", *["123.4 → 567.8"] * 20]]
    wide = to_typst("### Heading\n\n" + table(header, rows))
    narrow = to_typst("### Heading\n\n" + table(header[:3], [rows[0][:3]]))
    assert "#wide[#heading(level: 3)" in wide
    assert "#wide[" not in narrow.partition("#heading")[2]


def test_of_many_conditions_only_what_they_share_is_told() -> None:
    rows = tuple(
        Row(f"r{i}", f"r{i}", {"top1": measured(1.0, "%", f"row {i}, invented CPU, seed 0")}) for i in range(20)
    )
    text = table_text(Table("t", "T", COLUMNS, rows))
    assert "- Common to all measured cells: invented CPU, seed 0. `--format json`" in text
    assert "row 7" not in text
