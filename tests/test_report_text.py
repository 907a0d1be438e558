"""Text of the report: whatever a name holds is shown exactly, in Markdown, on the page and in the PDF."""

from __future__ import annotations

import html
import io
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_records import make_cost_record, make_record
from markdown_it import MarkdownIt

from reports.commands import command_of
from reports.conditions import conditions_of, days
from reports.document import (
    Bullets,
    Grid,
    Paragraph,
    Report,
    Section,
    Span,
    code,
    numbered,
    plain_text,
    reference,
    with_code,
    words,
)
from reports.grids import grid_of
from reports.pdf import to_pdf
from reports.plots.base import data_title
from reports.to_html import to_html
from reports.to_markdown import to_markdown
from reports.to_typst import to_typst
from reproduce.experiments.presets import PRESETS
from reproduce.records.records import Records
from reproduce.records.runs import Run
from reproduce.tables import Cell, Column, Row, Table, measured
from reproduce.tables.notes import data_name

HOSTILE = (
    "a*b*_c_|<script>alert(1)</script>&amp;[x](http://y)![z](w)",
    "`code` ``two`` #heading $math$ ~gone~ {brace} \\slash\\ {{ jinja }} {% raw %}",
    '#let x = 1; @ref <label> "quoted" // comment /* too */ https://example.org',
    "1. list",
    "- item",
    "+ 3 // no",
    "# title",
    "0 #",
    "###",
    "--- === ***",
    "| a | b |",
    ":-- --:",
)
CONTROL = "red\x1b[31m\x00 back\u202ewards\x07"


def report_of(*texts: str) -> Report:
    """A report that shows every text in a line, in a list, as a title and in a table's cell and note."""
    grid = Grid(
        key="grid",
        caption=words(texts[0]),
        header=("", texts[0]),
        rows=tuple((words(text), words("1")) for text in texts),
        notes=tuple(map(words, texts)),
    )
    blocks = (*(Paragraph(text=words(text)) for text in texts), Bullets(items=tuple(map(words, texts))), grid)
    section = Section(key="section", title=texts[0], blocks=blocks)
    return numbered(Report(title="Title", facts=(words(texts[0]),), summary=(), body=(section,)))


def shown(markdown: str) -> list[str]:
    """The text of every line, list item and cell that a Markdown reader shows."""
    page = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    texts = re.findall(r"<(?:p|li|td|h2)[^>]*>(.*?)</(?:p|li|td|h2)>", page)
    return [html.unescape(re.sub(r"<[^>]*>", "", text)) for text in texts]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_hostile_text_in_lines_lists_and_cells(text: str) -> None:
    found = shown(to_markdown(report_of(text)))
    assert found.count(text) == 7  # fact, contents, title, paragraph, list, cell and note; a caption follows its number


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40).filter(str.strip))
def test_markdown_shows_any_printable_text(text: str) -> None:
    assert shown(to_markdown(report_of(text))).count(" ".join(text.split())) >= 7


def test_hostile_text_is_text_on_the_page() -> None:
    page = to_html(report_of(*HOSTILE), {})
    assert page.count("<script>") == 1  # the page's script
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_hostile_text_is_text_in_the_pdf(tmp_path: Path) -> None:
    pytest.importorskip("typst")
    pypdf = pytest.importorskip("pypdf")
    pdf = to_pdf(to_typst(report_of(*HOSTILE)), tmp_path, datetime(2026, 1, 1, tzinfo=UTC))
    text = re.sub(r"\s", "", "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages))
    for name in HOSTILE:
        assert text.count(re.sub(r"\s", "", name)) >= 3, name


def test_control_characters_reach_no_format() -> None:
    report = report_of(CONTROL)
    for text in (to_markdown(report), to_html(report, {}), to_typst(report)):
        assert not set(text) & set("\x00\x07\x1b\u202e")
        assert "red\ufffd" in text


def test_commands_in_notes_are_code() -> None:
    note = "not run: no record of a_*b* under x: python -m reproduce table2 --data kinetics_sounds=DIR"
    assert code("python -m reproduce table2 --data kinetics_sounds=DIR") in with_code(note)
    assert plain_text(with_code(note)) == note
    assert with_code("see `--format json` <b>") == words("see ", code("--format json"), " <b>")


def test_markdown_code_may_hold_backticks() -> None:
    assert "a `b` c" in shown(to_markdown(report_with(words(code("a `b` c")))))


def test_links_and_styles_survive_in_every_format() -> None:
    report = report_with(words("see ", Span("site", href="https://example.org"), Span(" bold ", "strong")))
    assert "[site](https://example.org)" in to_markdown(report) and "**bold**" in to_markdown(report)
    assert '<a href="https://example.org">site</a><strong> bold </strong>' in to_html(report, {})
    assert '#link("https://example.org")' in to_typst(report)


# --- numbers and references -----------------------------------------------------------------------------------------


def report_with(text: object, *keys: str) -> Report:
    grids = tuple(Grid(key=key, caption=(), header=("",), rows=()) for key in keys)
    section = Section(key="section", title="Section", blocks=(Paragraph(text=text), *grids))  # type: ignore[arg-type]
    return numbered(Report(title="T", facts=(), summary=(), body=(section,)))


def test_references_show_the_number_and_link_to_it() -> None:
    report = report_with(words(reference("second")), "first", "second")
    assert report.body[0].blocks[0].text == (Span("Table R2", href="#second"),)  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "keys"), [("absent", ("first",)), ("first", ("first", "first"))])
def test_an_unknown_or_repeated_key_is_an_error(name: str, keys: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"first|absent"):
        report_with(words(reference(name)), *keys)


# --- tables ---------------------------------------------------------------------------------------------------------

COLUMNS = (Column("top1", "Top-1", "%", 1), Column("empty", "Nothing", "", 0))


def table_of(**cells: Cell) -> Table:
    return Table("t", "Table 2: T", COLUMNS, tuple(Row(name, name, {"top1": cell}) for name, cell in cells.items()))


def test_a_measured_number_that_differs_as_printed_is_bold() -> None:
    same, other = measured(74.84, "%", "", 74.8), measured(75.0, "%", "", 74.8)
    rows = grid_of(table_of(same=same, other=other)).rows
    assert [[span.style for span in row[1]] for row in rows] == [["plain"], ["plain", "plain", "strong"]]


def test_columns_without_cells_are_left_out_and_models_have_their_names() -> None:
    grid = grid_of(table_of(mast_tiny=measured(1.0, "%", "")))
    assert grid.header == ("", "Top-1 (%)")
    assert plain_text(grid.rows[0][0]) == "MAST (tiny)"
    assert plain_text(grid.caption) == "The paper's Table 2: T."


def test_cells_that_the_command_fills_are_counted_and_other_reasons_are_told() -> None:
    command = "python -m reproduce table2"
    reasons = (f"not run: no record: {command}", f"not run: nothing: {command}", "not run: out of memory")
    cells = {
        str(place): Cell(paper=1.0, unit="%", status="not run", conditions=why) for place, why in enumerate(reasons)
    }
    notes = [plain_text(note) for note in grid_of(table_of(**cells), command=command).notes]
    assert notes == ["Not run: 2 of the cells have no run at the paper's scale.", "not run: out of memory"]


def test_conditions_are_one_sentence_from_the_runs() -> None:
    seeds = [make_record(seed=seed, created=f"2026-01-0{seed + 1}T00:00:00+00:00") for seed in (0, 1)]
    text = conditions_of(Records.of(seeds).runs)
    assert text == "Measured on invented CPU, float32, seeds 0 and 1, 1 to 2 January 2026."
    assert conditions_of(()) == ""
    cost = conditions_of(Records.of([make_cost_record("ast_base")]).runs)
    assert cost == "Counted for one clip of 1 × 128 × 1024."


def test_the_command_of_a_comparison_names_the_preset_of_its_runs() -> None:
    def runs_of(name: str) -> tuple[Run, ...]:
        preset = PRESETS[name]
        recipe = preset.recipe_of("ast_tiny")
        experiment = {"front_end": asdict(preset.front_end), "recipe": asdict(recipe)}
        return Records.of([make_record("ast_tiny", experiment=experiment)]).runs

    assert command_of("esc50", runs_of("long")) == "python -m reproduce esc50 --preset long --data esc50=DIR"
    assert command_of("esc50", runs_of("demo")) == command_of("esc50") == "python -m reproduce esc50 --data esc50=DIR"
    assert command_of("components", runs_of("long")) == "python -m reproduce components --data esc50=DIR"


def test_own_clips_are_called_by_their_name() -> None:
    own = make_record(dataset={"name": "folder", "corpus": "my_birds"})
    assert [data_name(run) for run in Records.of([own]).runs] == ["my birds (own folder)"]
    assert data_title(Records.of([own]).runs[0]).startswith("My birds (own folder), ")


def test_days_that_are_no_dates_are_left_out() -> None:
    assert days(["2026-01-31T10:00", "2026-02-01", "someday", ""]) == "31 January 2026 to 1 February 2026"
    assert days([""]) == ""
