"""What every figure of the report shares: its style, the record behind each mark, and the runs it may show."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from reproduce.experiments.families import LABELS, family
from reproduce.figures import scaling as figures
from reproduce.figures.style import COLOURS, DPI
from reproduce.records.pooled import runs_of_all
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons
from reproduce.tables import TableInputs

GREY = "0.35"
# With the marks, what tells the models apart without colour.
DASHES = {"ast": "-", "mast": (0, (5, 1.5))}
STYLE: Any = {
    **figures.STYLE,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
}
_TIP = re.compile(r"""<g id=(["'])tip: (.*?)\1>""")


@dataclass(frozen=True)
class Drawn:
    """A figure's files and what to say under it. The caption is plain text and names the records' conditions."""

    svg: bytes
    png: bytes
    caption: str


@dataclass(frozen=True)
class Plot:
    """One figure of the report.

    Args:
        name: of its files, `figures/NAME.svg` and `.png`.
        draw: gives None where the records hold nothing to draw.
        needs: what it is drawn from. command: makes these records.
    """

    name: str
    draw: Callable[[TableInputs], Drawn | None]
    needs: str
    command: str


def label_of(model: str) -> str:
    """ "MAST (tiny)" of "mast_tiny"."""
    name, _, size = model.partition("_")
    return f"{LABELS.get(name, name)} ({size})" if size else LABELS.get(name, name)


def colour_of(model: str) -> str:
    return COLOURS[family(model)]


def tip(artist: Artist, *parts: object) -> None:
    """What the web page says when the pointer rests on this mark."""
    artist.set_gid("tip: " + " · ".join(map(str, parts)))


def finish(figure: Figure, caption: str) -> Drawn:
    """The figure's files; it is closed then."""
    from matplotlib import pyplot

    drawn = Drawn(to_svg(figure), to_png(figure), caption)
    pyplot.close(figure)
    return drawn


def to_svg(figure: Figure) -> bytes:
    """The figure as SVG; marks with a tip become groups with a title. Same figure, same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = _TIP.sub(r'<g class="tip" tabindex="0"><title>\2</title>', out.getvalue().decode())
    return text.encode()


def to_png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def use_style() -> None:
    """Draw without a screen, in the report's style, and let no clock into the files."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)


def grid_of(count: int, width: float, height: float, columns: int = 3) -> tuple[Figure, list[Any]]:
    """A figure with `count` axes, each `width` x `height` inches, row by row."""
    from matplotlib import pyplot

    across = min(count, columns)
    down = -(-count // across)
    figure, axes = pyplot.subplots(down, across, figsize=(width * across, height * down), layout="constrained")
    flat = [axes] if count == 1 else list(axes.flat)
    for unused in flat[count:]:
        unused.set_axis_off()
    return figure, flat[:count]


def groups_of(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Every group of training runs that may stand side by side, data set by data set, in the records' order."""
    trained = records.of_kind(TrainedRun)
    names = dict.fromkeys(str(record.dataset) for record in trained)
    return [group for name in names for group in comparisons(trained, name)]


def by_model(group: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The group's runs by model, AST first; only folds and seeds that every model has."""
    runs: dict[str, list[RunRecord]] = {}
    for record in sorted(group, key=lambda r: (r.model, r.seed, r.test_splits)):
        runs.setdefault(record.model, []).append(record)
    return {model: kept for model, kept in runs_of_all(runs).items() if kept}


def group_title(group: Sequence[RunRecord]) -> str:
    """ "esc50, 10 classes, demo scale, 20 epochs", with what sets the group apart from its data set's others."""
    data, experiment = group[0].dataset, group[0].experiment
    name = data["name"] + (f" ({data['protocol']})" if data.get("protocol") else "")
    if data.get("standin"):
        name += " STAND-IN"
    classes = " and ".join(
        f"{len(names)} classes" if head == "label" else f"{len(names)} {head}s"
        for head, names in data["classes"].items()
    )
    config = "".join(f", {key} {value}" for key, value in experiment["model_config"].items())
    return f"{name}, {classes}, {experiment['scale']} scale, {experiment['recipe']['epochs']} epochs{config}"


def runs_text(runs: Sequence[RunRecord]) -> str:
    """ "2 folds x 1 seed" of one model's runs."""
    folds = len({tuple(record.test_splits) for record in runs})
    seeds = len({record.seed for record in runs})
    return f"{folds} fold{'s' * (folds > 1)} × {seeds} seed{'s' * (seeds > 1)}"
