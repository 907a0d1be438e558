"""Figures as blocks of the report."""

from __future__ import annotations

from reports.document import Block, Figure, Paragraph, code, words
from reports.plots import PLOTS
from reports.source import Source


def figure_blocks(source: Source, *names: str) -> tuple[Block, ...]:
    """Each figure, or one line that names what it needs where the records hold nothing to draw."""
    return tuple(_figure(source, name) for name in names)


def drawn_figures(source: Source, *names: str) -> tuple[Block, ...]:
    """The figures that can be drawn; nothing in place of the others."""
    return tuple(_figure(source, name) for name in names if source.drawn(name) is not None)


def _figure(source: Source, name: str) -> Block:
    drawn = source.drawn(name)
    if drawn is None:
        plot = PLOTS[name]
        return Paragraph(
            text=words(
                f"Not drawn, {name.replace('_', ' ')}: it needs {plot.needs}; ", code(plot.command), " makes them."
            )
        )
    return Figure(key=name, caption=words(drawn.caption), alt=drawn.alt, svg=drawn.svg)
