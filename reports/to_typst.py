"""The report as Typst markup, which `pdf.py` compiles. Needs no typst: it writes text."""

from __future__ import annotations

import re
import textwrap

from reports.document import Figure, Grid, Report, Span, Words, plain_text
from reports.templates import FOLDER, Filters, rendered

HEADER_WIDTH = 9  # characters after which a column's title continues on a second line
LABEL_WIDTH, LABEL_EMS = 30, 17  # characters of the first column before it wraps, and its width in ems then
WORDS_WIDTH = 34  # characters of another column of words before it shares the free width
PAGE_WIDTH = 482  # of the text on a page, in points
PADDING = 7  # of a cell, left and right, in points
CHARACTER, BOLD_CHARACTER = 0.46, 0.51  # width of a character in ems, at most
SIZES = (9.0, 8.5, 8.0, 7.5, 7.0, 6.5)  # of the type in tables, in points
WHOLE_ROWS = 16  # a table with no more rows is kept on one page
_SVG_WIDTH = re.compile(r'<svg [^>]*?width="([\d.]+)pt"')
_CALLS = {"strong": "strong", "emphasis": "emph"}


def to_typst(report: Report) -> str:
    """A whole document; images are SVG files in `figures/`."""
    style = (FOLDER / "page.typ").read_text(encoding="utf-8")
    filters: Filters = {"typ": typst_of, "string": string, "columns": _columns, "title": _title}
    filters |= {"size": _size, "width": _width}
    return rendered("report.typ.j2", filters, report=report, style=style, whole_rows=WHOLE_ROWS)


def typst_of(text: Words) -> str:
    """The words as markup in which only strings hold text, so that nothing in it is markup."""
    return "".join(map(_span, text))


def _span(span: Span) -> str:
    if span.style == "code":
        shown = f"#raw({string(span.text)});"
    elif call := _CALLS.get(span.style):
        shown = f"#{call}[#{string(span.text)};];"
    else:
        shown = f"#{string(span.text)};"
    if span.href.startswith("#"):
        return f"#link(label({string(span.href[1:])}))[{shown}];"
    return f"#link({string(span.href)})[{shown}];" if span.href else shown


def string(text: str) -> str:
    """A Typst string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _columns(grid: Grid) -> str:
    """Widths of the columns: numbers are as wide as they need, words wrap, a long label takes what is left."""
    widths = _widths(grid)
    columns = ["1fr" if width > WORDS_WIDTH else "auto" for width in widths]
    if widths[0] > LABEL_WIDTH:
        left = (PAGE_WIDTH - PADDING * len(widths)) / _size(grid) - sum(_ems(grid)[1:])
        columns[0] = f"{min(max(left, LABEL_EMS), CHARACTER * widths[0]):.1f}em"
    return ", ".join(columns)


def _size(grid: Grid) -> float:
    """The largest size of type at which no number has to wrap; the smallest where there is none."""
    fits = (PAGE_WIDTH - PADDING * len(grid.header)) / sum(_ems(grid))
    return next((size for size in SIZES if size <= fits), SIZES[-1])


def _ems(grid: Grid) -> list[float]:
    """Least width of every column in ems."""
    ems = []
    for index, width in enumerate(_widths(grid)):
        title = max(map(len, _title_lines(grid, index)), default=0)
        wraps = width > (WORDS_WIDTH if index else LABEL_WIDTH)
        ems.append(LABEL_EMS if wraps else max(CHARACTER * width, BOLD_CHARACTER * title))
    return ems


def _title(title: str, grid: Grid, index: int) -> str:
    """A column's title, broken into lines no wider than its cells need."""
    return "#linebreak();".join(f"#{string(line)};" for line in _title_lines(grid, index))


def _title_lines(grid: Grid, index: int) -> list[str]:
    width = max(_widths(grid)[index], HEADER_WIDTH)
    return textwrap.wrap(grid.header[index], width, break_long_words=False, break_on_hyphens=False)


def _widths(grid: Grid) -> list[int]:
    """Characters of the longest cell of every column, without the title."""
    columns = zip(*grid.rows, strict=True) if grid.rows else ((),) * len(grid.header)
    return [max((len(plain_text(cell)) for cell in column), default=0) for column in columns]


def _width(figure: Figure) -> float:
    """The width at which a figure is printed, in points: its own, or that of the page."""
    width = _SVG_WIDTH.search(figure.svg.decode())
    return min(float(width[1]) if width else PAGE_WIDTH, PAGE_WIDTH)
