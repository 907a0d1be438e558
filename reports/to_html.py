"""The report as one web page that needs no other file: style, script and figures are inside it."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from markdown_it.token import Token

from reports.to_typst import parser

HERE = Path(__file__).parent
_DECLARATION = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)  # links to vocabularies, which no reader follows
_ID = re.compile(r'(\bid="|href="#|url\(#)')
_SOUND = re.compile(r'<a href="(sounds/[^"]+)">(.*?)</a>')
_SIZE = re.compile(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"')


def to_html(markdown: str, figures: Mapping[str, bytes], sounds: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        markdown: of the report.
        figures: path of an image in the text, without its suffix -> its SVG.
        sounds: path of a linked sound -> its FLAC; the link becomes a button that plays it.
    """
    md = parser()
    tokens = md.parse(markdown)
    contents = _name_headings(tokens)
    body = md.renderer.render(_with_figures(tokens, figures), md.options, {})
    body = _SOUND.sub(lambda link: _player(link[2], sounds[link[1]]), body)
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    title = html.escape(tokens[1].content)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<nav aria-label="Contents"><ul>\n{contents}</ul></nav>\n<main>\n{body}</main>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _name_headings(tokens: list[Token]) -> str:
    """Give every heading an id; returns the list of contents, of the second level's."""
    contents, seen = [], set()
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            plain = "".join(child.content for child in inline.children or ())
            base = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "section"
            slug, repeat = base, 2
            while slug in seen:
                slug, repeat = f"{base}-{repeat}", repeat + 1
            seen.add(slug)
            token.attrSet("id", slug)
            if token.tag == "h2":
                contents.append(f'<li><a href="#{slug}">{html.escape(plain)}</a></li>\n')
    return "".join(contents)


def _with_figures(tokens: list[Token], figures: Mapping[str, bytes]) -> list[Token]:
    """The tokens with every paragraph that is an image as a figure with its SVG inside."""
    found: list[Token] = []
    skip = 0
    for place, token in enumerate(tokens):
        if skip:
            skip -= 1
            continue
        children = tokens[place + 1].children if token.type == "paragraph_open" else None
        if children and len(children) == 1 and children[0].type == "image":
            image = children[0]
            source = str(image.attrs["src"]).removesuffix(".png")
            figure = Token("html_block", "", 0)
            figure.content = _figure(source, "".join(child.content for child in image.children or ()), figures[source])
            found.append(figure)
            skip = 2
        else:
            found.append(token)
    return found


def _player(label: str, flac: bytes) -> str:
    source = f"data:audio/flac;base64,{base64.b64encode(flac).decode()}"
    return f'<button class="sound" type="button">{label}<audio preload="none" src="{source}"></audio></button>'


def _figure(source: str, caption: str, svg: bytes) -> str:
    name = Path(source).name
    text = _METADATA.sub("", _DECLARATION.sub("", svg.decode(), count=1))
    # Every figure numbers its parts alike: on one page the names must differ.
    text = _ID.sub(rf"\g<1>{name}-", text)
    text = _SIZE.sub(r"\1", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name.replace("_", " "), quote=True)}" ', 1)
    return f'<figure id="figure-{name}">{text}<figcaption>{html.escape(caption)}</figcaption></figure>\n'
