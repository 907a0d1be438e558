"""Text to Markdown: escaping, tables and lists. What comes from data is always shown as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*\[\]<>|&~$!{}]|(?<![^\W_])_|_(?![^\W_])")
_STARTS_A_BLOCK = re.compile(r"^(?:#{1,6}|[+-]|\d+[.)])(?=\s|$)|^[=-]{2,}")
_CODE_SPAN = re.compile(r"`[^`\n]+`")
_COMMAND = re.compile(r"(?<!`)python -m re(?:produce(?: data)? [a-z0-9]+|ports)(?: --[a-z]+ [\w=,./-]+)*(?!`)")


def escape(text: str) -> str:
    """`text` as Markdown that shows exactly this text, on one line, also inside a table cell."""
    line = " ".join(text.split())
    start = _STARTS_A_BLOCK.match(line)
    escaped = _SPECIAL.sub(r"\\\g<0>", line)
    if start:  # "1. x" would become a list, and "# x" a heading
        place = start.end() - 1 if line[0].isdigit() else 0
        escaped = f"{escaped[:place]}\\{escaped[place:]}"
    return escaped


def escape_note(text: str) -> str:
    """Like `escape`, but commands, in backticks or not, are code. For notes of tables, not for cells."""
    text = _COMMAND.sub(r"`\g<0>`", text)
    parts, place = [], 0
    for span in _CODE_SPAN.finditer(text):
        parts += [_escape_inside(text[place : span.start()]), span.group()]
        place = span.end()
    return "".join([*parts, _escape_inside(text[place:])]).strip()


def _escape_inside(text: str) -> str:
    """`escape` for a piece of a line: spaces at its ends stay."""
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before and ' '}{escape(text)}{after and ' '}" if text.strip() else before and " "


def code(text: str) -> str:
    """Inline code that may itself hold backticks."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table of Markdown cells, escaped by the caller; the columns in `left` are set to the left, others right."""
    rule = [":--" if place in left else "--:" for place in range(len(header))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def bullets(items: Iterable[str]) -> str:
    """A list of Markdown items, one a line."""
    return "".join(f"- {item}\n" for item in items)
