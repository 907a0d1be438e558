"""Markdown to Typst markup, from markdown-it's syntax tree. Needs no typst: it writes text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

TEMPLATE = Path(__file__).with_name("page.typ")
HEADER_WIDTH = 11  # characters after which a column's title goes on in a second line
LABEL_WIDTH = 42  # of the first column, before it wraps
# Characters, cells' padding included, of a row that can still be read at the smallest type on an upright page.
UPRIGHT_WIDTH = 190
WHOLE_ROWS = 14  # a table of no more rows is kept on one page


def parser() -> MarkdownIt:
    """CommonMark with tables; HTML in the text stays text."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def to_typst(markdown: str) -> str:
    """A whole document: `page.typ`, then the text. ValueError for Markdown that the report does not use."""
    return TEMPLATE.read_text(encoding="utf-8") + "\n" + _blocks(SyntaxTreeNode(parser().parse(markdown)).children)


def _blocks(nodes: Iterable[SyntaxTreeNode]) -> str:
    """Blocks one after another. A table keeps its heading and the line under that with it, on a wide page as well.

    A list right under a table holds the table's notes and is set small.
    """
    nodes = list(nodes)
    types = [node.type for node in nodes]
    parts: list[str] = []
    lead = 0  # parts that belong to the table to come
    for place, node in enumerate(nodes):
        text = _node(node)
        if node.type == "bullet_list" and types[:place][-1:] == ["table"]:
            text = f"#notes[{text}]\n"
        if types[place - 1 : place + 2] == ["heading", "paragraph", "table"]:
            text, lead = f"#block(sticky: true)[{text}]\n", 2
        elif node.type == "heading":
            lead = 1
        elif node.type == "table":
            if text.startswith("#wide") and lead:
                text = text.replace("[", "[" + "".join(parts[-lead:]), 1)
                del parts[-lead:]
            lead = 0
        else:
            lead = 0
        parts.append(text)
    return "\n".join(parts)


def _node(node: SyntaxTreeNode) -> str:
    if node.type not in RENDERERS:
        raise ValueError(f"the report's Markdown holds {node.type!r}, which the PDF has no form for")
    return RENDERERS[node.type](node)


def _inside(node: SyntaxTreeNode) -> str:
    return "".join(map(_node, node.children))


def string(text: str) -> str:
    """A Typst string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _text(node: SyntaxTreeNode) -> str:
    # As a string, nothing in it is markup; the semicolon ends the expression before whatever comes next.
    return f"#{string(node.content)};"


def _call(name: str) -> Callable[[SyntaxTreeNode], str]:
    return lambda node: f"#{name}[{_inside(node)}];"


def _heading(node: SyntaxTreeNode) -> str:
    return f"#heading(level: {node.tag[1:]})[{_inside(node)}]\n"


def _paragraph(node: SyntaxTreeNode) -> str:
    inline = node.children[0].children
    if len(inline) == 1 and inline[0].type == "image":
        return _figure(inline[0])
    return f"{_inside(node)}\n"


def _figure(image: SyntaxTreeNode) -> str:
    """An image that stands alone; its description is the caption."""
    caption = string("".join(child.content for child in image.children))
    source = string("/" + str(image.attrs["src"]).removesuffix(".png") + ".svg")
    return f"#picture({source}, {caption})\n"


def _image(node: SyntaxTreeNode) -> str:
    raise ValueError(f"{node.attrs['src']}: an image needs a paragraph of its own")


def _fence(node: SyntaxTreeNode) -> str:
    language = f", lang: {string(node.info)}" if node.info else ""
    return f"#raw({string(node.content.rstrip())}, block: true{language})\n"


def _list(name: str) -> Callable[[SyntaxTreeNode], str]:
    return lambda node: f"#{name}({', '.join(f'[{_blocks(item.children)}]' for item in node.children)})\n"


def _link(node: SyntaxTreeNode) -> str:
    if "://" not in str(node.attrs["href"]):  # a file beside report.md, which a PDF that was sent on has not
        return _inside(node)
    return f"#link({string(str(node.attrs['href']))})[{_inside(node)}];"


def _table(node: SyntaxTreeNode) -> str:
    rows = [row for part in node.children for row in part.children]
    grid = [[cell.children[0].content for cell in row.children] for row in rows]
    header, *body = rows
    widths = [max(map(len, column)) for column in zip(*grid[1:], strict=True)] if body else [0] * len(header.children)
    titles = ", ".join(
        f"[{_header(cell.children[0], width)}]" for cell, width in zip(header.children, widths, strict=True)
    )
    cells = "".join(f"  {', '.join(f'[{_inside(cell)}]' for cell in row.children)},\n" for row in body)
    sides = ", ".join("right" if "right" in str(cell.attrs.get("style", "")) else "left" for cell in header.children)
    label = "18em" if widths[0] > LABEL_WIDTH and len(widths) > 3 else "auto"
    columns = ", ".join([label, *["auto"] * (len(widths) - 1)])
    text = f"#table(columns: ({columns},), align: ({sides},), table.header({titles}),\n{cells})"
    fitted = f"#fitted(whole: {'true' if len(body) <= WHOLE_ROWS else 'false'})[{text}]"
    return f"#wide[{fitted}]\n" if _characters(grid, widths) > UPRIGHT_WIDTH else f"{fitted}\n"


def _header(title: SyntaxTreeNode, width: int) -> str:
    """A column's title as plain text, broken into lines no wider than its cells need."""
    plain = "".join(child.content for child in title.children)
    lines = textwrap.wrap(plain, max(width, HEADER_WIDTH), break_long_words=False, break_on_hyphens=False)
    return "#linebreak();".join(f"#{string(line)};" for line in lines)


def _characters(grid: list[list[str]], widths: list[int]) -> int:
    """Width of the table's widest row in characters, titles broken, with three for each cell's padding."""
    words = [max((len(word) for word in title.split()), default=0) for title in grid[0]]
    capped = [min(widths[0], LABEL_WIDTH), *widths[1:]]
    return sum(max(pair) for pair in zip(capped, words, strict=True)) + 3 * len(widths)


RENDERERS: dict[str, Callable[[SyntaxTreeNode], str]] = {
    "inline": _inside,
    "text": _text,
    "softbreak": lambda node: " ",
    "hardbreak": lambda node: "#linebreak();",
    "strong": _call("strong"),
    "em": _call("emph"),
    "code_inline": lambda node: f"#raw({string(node.content)});",
    "link": _link,
    "image": _image,
    "heading": _heading,
    "paragraph": _paragraph,
    "fence": _fence,
    "code_block": _fence,
    "bullet_list": _list("list"),
    "ordered_list": _list("enum"),
    "blockquote": lambda node: f"#quote(block: true)[{_blocks(node.children)}]\n",
    "hr": lambda node: "#line(length: 100%, stroke: 0.5pt)\n",
    "table": _table,
}
