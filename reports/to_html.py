"""The report as one web page that needs no other file: style, script, figures and sounds are inside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from markupsafe import Markup

from reports.document import Figure, Report, Span, Words
from reports.templates import FOLDER, rendered

_DECLARATION = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)  # links to vocabularies, which no reader follows
_ID = re.compile(r'(\bid="|href="#|url\(#)')
_SIZE = re.compile(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"')
_TAGS = {"strong": "strong", "emphasis": "em", "code": "code"}


def to_html(report: Report, sounds: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        report: numbered.
        sounds: path of a sound in the report -> its FLAC file.
    """
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return rendered(
        "report.html.j2",
        {"words": html_of, "drawing": _drawing},
        autoescape=True,
        report=report,
        style=Markup(style),
        script=Markup(script),
        sources={path: f"data:audio/flac;base64,{base64.b64encode(flac).decode()}" for path, flac in sounds.items()},
    )


def html_of(text: Words) -> Markup:
    """The words as HTML."""
    return Markup("").join(map(_span, text))


def _span(span: Span) -> Markup:
    tag = _TAGS.get(span.style)
    shown = Markup("<{0}>{1}</{0}>").format(Markup(tag), span.text) if tag else Markup.escape(span.text)
    return Markup('<a href="{}">{}</a>').format(span.href, shown) if span.href else shown


def _drawing(figure: Figure) -> Markup:
    """The SVG as part of the page: its parts are named uniquely, and its alternative text is its label."""
    text = _METADATA.sub("", _DECLARATION.sub("", figure.svg.decode(), count=1))
    text = _ID.sub(rf"\g<1>{figure.key}-", text)
    text = _SIZE.sub(r"\1", text, count=1)
    label = Markup('<svg role="img" aria-label="{}" ').format(figure.alt)
    # matplotlib writes the drawing and escapes the text in it.
    return Markup(text.replace("<svg ", label, 1))
