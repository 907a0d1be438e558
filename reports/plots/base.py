"""What every figure of the report shares: style, legend, the record behind each mark, and the runs it may show."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from reports.document import visible
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.figures import style
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons
from reproduce.tables import TableInputs
from reproduce.tables.notes import data_name

PAGE_WIDTH = 6.7  # inches of text on the printed page: figures are drawn at the size at which they are printed
GREY = "0.35"
LEGEND_WIDTH, HANDLE_WIDTH = 100, 8  # of the page and of a mark with its space, in characters of a legend's label
label_of, colour_of, marker_of, dashes_of = style.label_of, style.colour_of, style.marker_of, style.dashes_of
STYLE: Any = {
    **style.STYLE,
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
}
_TIP = re.compile(r"""<g id=(["'])tip: (.*?)\1>""")


Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure and its words.

    Args:
        svg: the drawing.
        caption: what the figure shows and what to see in it; plain text.
        alt: one sentence for readers who do not see it.
    """

    svg: bytes
    caption: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure of the report.

    Args:
        name: of its file, `figures/NAME.svg`.
        draw: returns None where the records hold nothing to draw.
        needs: what it is drawn from.
        command: makes these records.
    """

    name: str
    draw: Callable[[TableInputs], Drawn | None]
    needs: str
    command: str


def plain(text: str) -> str:
    """`text` as matplotlib shows it exactly: two dollar signs would be mathematics."""
    return visible(text).replace("\\", "\\\\").replace("$", r"\$") if "$" in text else visible(text)


def tip(artist: Artist, *parts: object) -> None:
    """What the web page shows when the pointer rests on this mark."""
    artist.set_gid("tip: " + visible(" · ".join(map(str, parts))))


def label_beside(axes: Any, text: str, point: tuple[float, float], offset: tuple[float, float] = (8, 5)) -> None:
    """A mark's label at an offset in points, with a white edge where it crosses a line."""
    from matplotlib.patheffects import withStroke

    label = axes.annotate(plain(text), point, offset, textcoords="offset points", fontsize=7.5)
    label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
    """The one legend of the report's figures: a line above the panels, or several where the labels are long."""
    widths = [len(str(handle.get_label())) + HANDLE_WIDTH for handle in handles]
    room = int(LEGEND_WIDTH * figure.get_figwidth() / PAGE_WIDTH)
    columns = len(widths) if sum(widths) <= room else max(1, room // max(widths))
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns, handlelength=2.6)


def line_handles(models: Iterable[str], marks: bool = False) -> list[Artist]:
    """A line, with its mark if asked, per model for `legend_above`."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            color=colour_of(model),
            linestyle=dashes_of(model),
            linewidth=1.8,
            marker=marker_of(model) if marks else None,
            label=label_of(model),
        )
        for model in models
    ]


def mark_handles(models: Iterable[str]) -> list[Artist]:
    """A mark per model for `legend_above`."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="", color=colour_of(model), marker=marker_of(model), label=label_of(model))
        for model in models
    ]


def area_handles(models: Iterable[str]) -> list[Artist]:
    """A filled area per model for `legend_above`."""
    from matplotlib.patches import Patch

    return [Patch(color=colour_of(model), label=label_of(model)) for model in models]


def finish(figure: Figure, caption: str, alt: str) -> Drawn:
    """The figure and its words; the figure is closed then."""
    from matplotlib import pyplot

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if not axis.get_label_text():
            axis.set_label_coords(0.5, 0.0)  # or the layout measures all tick labels to place an empty label
    drawn = Drawn(svg=to_svg(figure), caption=caption, alt=alt)
    pyplot.close(figure)
    return drawn


def to_svg(figure: Figure) -> bytes:
    """The figure as SVG; marks with a tip become groups with a title. The same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = _TIP.sub(r'<g class="tip" tabindex="0"><title>\2</title>', out.getvalue().decode())
    return text.encode()


def use_style() -> None:
    """Draw without a screen, in the report's style, and keep clocks out of the files."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)


def grid_of(count: int, height: float, columns: int = 3) -> tuple[Figure, list[Any]]:
    """A figure with `count` axes of `height` inches, at most `columns` side by side on the width of a page."""
    from matplotlib import pyplot

    across = min(count, columns)
    down = -(-count // across)
    width = PAGE_WIDTH if across > 1 else 0.6 * PAGE_WIDTH
    figure, axes = pyplot.subplots(down, across, figsize=(width, height * down + 0.3), layout="constrained")
    flat = [axes] if count == 1 else list(axes.flat)
    for unused in flat[count:]:
        unused.set_axis_off()
    return figure, flat[:count]


def log_ticks(axes: Any) -> None:
    """A logarithmic x axis with 1, 2 and 5 of every decade, written out."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


@lru_cache(maxsize=4)
def groups_of(records: Records) -> tuple[tuple[TrainedRun, ...], ...]:
    """Every group of training runs that may stand side by side, data set by data set, in the records' order."""
    names = dict.fromkeys(run.dataset for run in records.of_kind(TrainedRun))
    return tuple(tuple(group) for name in names for group in comparisons(records, name))


def first_of_corpora(items: Iterable[Item], corpus_of: Callable[[Item], Hashable]) -> tuple[list[Item], list[Item]]:
    """The first item of every corpus, and all others; items without a corpus, None, are among the others."""
    first: dict[Hashable, Item] = {}
    others = []
    for item in items:
        corpus = corpus_of(item)
        if corpus is None or corpus in first:
            others.append(item)
        else:
            first[corpus] = item
    return list(first.values()), others


def by_model(group: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """The group's runs by model, AST first; only folds that every model has, see `runs_side_by_side`."""
    runs: dict[str, list[TrainedRun]] = {}
    for run in sorted(group, key=lambda r: (r.model, r.seed, r.test_splits)):
        runs.setdefault(run.model, []).append(run)
    return {model: kept for model, kept in runs_side_by_side(runs).items() if kept}


def data_title(run: TrainedRun) -> str:
    """ "Kinetics-Sounds (ks32) STAND-IN, 32 classes": the clips that the run was scored on."""
    standin = " STAND-IN" if run.standin else ""
    classes = " and ".join(
        f"{len(names)} classes" if head == DEFAULT_HEAD else f"{len(names)} {head}s"
        for head, names in run.classes.items()
    )
    name = data_name(run)
    return f"{name[:1].upper()}{name[1:]}{standin}, {classes}"


def group_title(group: Sequence[TrainedRun]) -> str:
    """ "ESC-50 layout, 10 classes, 20 epochs": data and length of runs that stand side by side."""
    return f"{data_title(group[0])}, {plural(group[0].epochs, 'epoch')}"


def runs_text(runs: Sequence[TrainedRun]) -> str:
    """ "5 folds × 2 seeds" of one model's runs; "2 seeds" on a split of the data set's own."""
    folds, seeds = len({run.test_splits for run in runs}), plural(len({run.seed for run in runs}), "seed")
    return f"{plural(folds, 'fold')} × {seeds}" if runs[0].is_cross_validation else seeds


def plural(count: int, noun: str) -> str:
    """ "1 fold", "2 folds"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
