"""The report as Markdown. What comes from data is shown exactly as it is written."""

from __future__ import annotations

import re
from dataclasses import replace

from reports.document import Report, Span, Words
from reports.templates import Filters, rendered

FIGURES, SOUNDS = "figures", "sounds"  # folders beside report.md
_SPECIAL = re.compile(r"[\\`*\[\]<>|&~$!{}]|(?<![^\W_])_|_(?![^\W_])|#(?=#*\s*$)")
_STARTS_A_BLOCK = re.compile(r"^(?:#{1,6}|[+-]|\d+[.)])(?=\s|$)|^[=-]{2,}")
_MARKS = {"plain": "", "strong": "**", "emphasis": "*"}


def to_markdown(report: Report) -> str:
    """The report as CommonMark with pipe tables; figures and sounds are files beside it."""
    filters: Filters = {"md": markdown_of, "escape": escape, "rule": _rule, "slug": _slug}
    return rendered("report.md.j2", filters, report=report, figures=FIGURES)


def markdown_of(text: Words) -> str:
    """The words as Markdown on one line."""
    first = next((i for i, span in enumerate(text) if span.text.strip()), len(text))
    start, *others = text[first:] or (Span(""),)
    return "".join(
        (_span(replace(start, text=start.text.lstrip()), first=True), *(_span(s, first=False) for s in others))
    )


def _span(span: Span, first: bool) -> str:
    if span.style == "code":
        return _code(span.text)
    mark = _MARKS[span.style]
    inner = span.text.strip() if mark else span.text
    shown = f"{mark}{escape(inner) if first else _escape_inside(inner)}{mark}"
    # Numbers of tables and figures are no links here: Markdown has no anchors of its own.
    return f"[{shown}]({span.href})" if span.href and not span.href.startswith("#") else shown


def escape(text: str) -> str:
    """`text` as Markdown that shows exactly this text, also at the start of a line and inside a table's cell."""
    start = _STARTS_A_BLOCK.match(text)
    escaped = _escape_inside(text)
    if start:  # "1. x" would become a list, and "# x" a heading
        at = start.end() - 1 if text[0].isdigit() else 0
        escaped = escaped if escaped[at] == "\\" else f"{escaped[:at]}\\{escaped[at:]}"
    return escaped


def _escape_inside(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _code(text: str) -> str:
    """Inline code that may hold backticks."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _rule(left: bool) -> str:
    """The line under a column's title: how its cells are aligned."""
    return ":--" if left else "--:"


def _slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
