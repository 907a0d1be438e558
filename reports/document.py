"""The report as data: sections of paragraphs, lists, tables and figures, which `rendering.py` turns into files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import ClassVar, Literal

Style = Literal["plain", "strong", "emphasis", "code", "reference"]

_CODE = re.compile(r"`([^`\n]+)`|(python -m re(?:produce(?: data)? [a-z0-9_]+|ports)(?: --[a-z]+ [\w=,./-]+)*)")
REPLACEMENT = "\ufffd"
BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
UNPRINTABLE = frozenset({"Cc", "Cs", "Cn"})  # Unicode categories: control, surrogate, unassigned


def visible(text: str) -> str:
    """`text` on one line; characters that a file format cannot carry or that reorder others become U+FFFD."""
    return "".join(map(_visible_character, " ".join(text.split())))


def _visible_character(character: str) -> str:
    hidden = character in BIDIRECTIONAL or unicodedata.category(character) in UNPRINTABLE
    return REPLACEMENT if hidden else character


@dataclass(frozen=True)
class Span:
    """A run of text in one style.

    Args:
        text: what is shown; of a reference, the key of a table or figure until `numbered` writes its number.
        style: see `Style`.
        href: where the text links to, "" for no link.
    """

    text: str
    style: Style = "plain"
    href: str = ""


Words = tuple[Span, ...]


def words(*parts: str | Span | Words) -> Words:
    """Text of several parts; a plain string is shown exactly as it is."""
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, str):
            spans.append(Span(_visible_inside(part)))
        else:
            spans += [part] if isinstance(part, Span) else part
    return tuple(span for span in spans if span.text)


def _visible_inside(text: str) -> str:
    """`visible`, but blanks at the ends stay: they separate this part from its neighbours."""
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{' ' * bool(start)}{visible(text)}{' ' * bool(end)}" if text.strip() else " " * bool(text)


def strong(text: str) -> Span:
    """Bold text."""
    return Span(visible(text), "strong")


def emphasis(text: str) -> Span:
    """Italic text."""
    return Span(visible(text), "emphasis")


def code(text: str) -> Span:
    """A command or another piece of code."""
    return Span(visible(text), "code")


def reference(key: str) -> Span:
    """The number of the table or figure `key`, as a link to it."""
    return Span(key, "reference")


def with_code(text: str) -> Words:
    """A note of a table: text in backticks and commands of this suite are code, everything else is plain."""
    parts: list[str | Span] = []
    start = 0
    for match in _CODE.finditer(text):
        parts += [text[start : match.start()], code(match[1] or match[2])]
        start = match.end()
    return words(*parts, text[start:])


def plain_text(text: Words) -> str:
    """The words without their styles."""
    return "".join(span.text for span in text)


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph."""

    kind: ClassVar[str] = "paragraph"

    text: Words


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A list."""

    kind: ClassVar[str] = "bullets"

    items: tuple[Words, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table.

    Args:
        key: unique name, which references use.
        caption: what the table shows and what to see in it.
        header: a title per column, "" above the rows' labels.
        rows: cells per row, as many as titles; the first is the row's label.
        left: places of the columns that hold words; the others are aligned right.
        notes: what to know about the cells, under the table.
        command: command line that makes the table, "" for none.
        number: "Table R3"; set by `numbered`.
    """

    kind: ClassVar[str] = "grid"

    key: str
    caption: Words
    header: tuple[str, ...]
    rows: tuple[tuple[Words, ...], ...]
    left: frozenset[int] = frozenset({0})
    notes: tuple[Words, ...] = ()
    command: str = ""
    number: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawn figure.

    Args:
        key: unique name, which references use and files bear.
        caption: what the figure shows and what to see in it.
        alt: one sentence for readers who do not see it.
        svg: the drawing; marks may be groups of the class "tip" with a title.
        number: "Figure R2"; set by `numbered`.
    """

    kind: ClassVar[str] = "figure"

    key: str
    caption: Words
    alt: str
    svg: bytes
    number: str = ""


@dataclass(frozen=True, kw_only=True)
class Sounds:
    """Sounds to be played.

    Args:
        sounds: (label, path beside the report) of each.
    """

    kind: ClassVar[str] = "sounds"

    sounds: tuple[tuple[str, str], ...]


Block = Paragraph | Bullets | Grid | Figure | Sounds


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with the blocks under it.

    Args:
        key: anchor of the heading.
        title: plain text.
        blocks: in reading order.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report.

    Args:
        title: of the document.
        facts: one line each under the title: date, commit and the like.
        summary: page 1.
        body: sections after the contents.
        appendices: sections after the body.
    """

    title: str
    facts: tuple[Words, ...]
    summary: tuple[Block, ...]
    body: tuple[Section, ...]
    appendices: tuple[Section, ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block, in reading order."""
        return self.summary + tuple(block for section in self.body + self.appendices for block in section.blocks)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in reading order."""
        return tuple(block for block in self.blocks if isinstance(block, Figure))

    @property
    def sounds(self) -> tuple[tuple[str, str], ...]:
        """Label and path of every sound."""
        return tuple(sound for block in self.blocks if isinstance(block, Sounds) for sound in block.sounds)


def numbered(report: Report) -> Report:
    """The report with tables, figures and appendices numbered in reading order, and references that show numbers.

    Titles become `visible`, as all other text is from the start. The prefix R keeps tables and figures apart from the
    paper's.

    Raises:
        ValueError: two tables, figures or sections have one key, or a reference names none.
    """
    numbers: dict[str, str] = {}
    counts = {Grid: 0, Figure: 0}
    for block in report.blocks:
        if isinstance(block, (Grid, Figure)):
            counts[type(block)] += 1
            _name(numbers, block.key, f"{'Table' if isinstance(block, Grid) else 'Figure'} R{counts[type(block)]}")
    for section in report.body:
        _name(numbers, section.key, f"section “{section.title}”")
    for letter, section in zip(ascii_uppercase, report.appendices, strict=False):
        _name(numbers, section.key, f"Appendix {letter}")
    return replace(
        report,
        title=visible(report.title),
        facts=tuple(_resolved(fact, numbers) for fact in report.facts),
        summary=tuple(_with_numbers(block, numbers) for block in report.summary),
        body=tuple(_section_with_numbers(section, numbers) for section in report.body),
        appendices=tuple(
            replace(_section_with_numbers(section, numbers), title=f"{numbers[section.key]}: {section.title}")
            for section in report.appendices
        ),
    )


def _name(numbers: dict[str, str], key: str, number: str) -> None:
    if key in numbers:
        raise ValueError(f"two parts of the report have the key {key!r}")
    numbers[key] = number


def _section_with_numbers(section: Section, numbers: Mapping[str, str]) -> Section:
    blocks = tuple(_with_numbers(block, numbers) for block in section.blocks)
    return replace(section, title=visible(section.title), blocks=blocks)


def _with_numbers(block: Block, numbers: Mapping[str, str]) -> Block:
    if isinstance(block, Paragraph):
        return replace(block, text=_resolved(block.text, numbers))
    if isinstance(block, Bullets):
        return replace(block, items=_all_resolved(block.items, numbers))
    if isinstance(block, Grid):
        return replace(
            block,
            number=numbers[block.key],
            caption=_resolved(block.caption, numbers),
            header=tuple(map(visible, block.header)),
            rows=tuple(_all_resolved(row, numbers) for row in block.rows),
            notes=_all_resolved(block.notes, numbers),
        )
    if isinstance(block, Figure):
        caption = _resolved(block.caption, numbers)
        return replace(block, number=numbers[block.key], caption=caption, alt=visible(block.alt))
    return replace(block, sounds=tuple((visible(label), path) for label, path in block.sounds))


def _all_resolved(items: Iterable[Words], numbers: Mapping[str, str]) -> tuple[Words, ...]:
    return tuple(_resolved(item, numbers) for item in items)


def _resolved(text: Words, numbers: Mapping[str, str]) -> Words:
    return tuple(_resolved_span(span, numbers) if span.style == "reference" else span for span in text)


def _resolved_span(span: Span, numbers: Mapping[str, str]) -> Span:
    if span.text not in numbers:
        raise ValueError(f"a reference names {span.text!r}, which is no table, figure or section of the report")
    return Span(numbers[span.text], href=f"#{span.text}")


def key_of(title: str, taken: Sequence[str] = ()) -> str:
    """An anchor for `title` that is not in `taken`: small letters, digits and hyphens."""
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    key, repeat = base, 2
    while key in taken:
        key, repeat = f"{base}-{repeat}", repeat + 1
    return key
