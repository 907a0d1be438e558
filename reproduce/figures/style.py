"""Colours, markers and layout that all figures share, and how figures become files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.experiments.families import LABELS, family, in_order
from reproduce.files import write_whole
from reproduce.keys import hash_key
from reproduce.records.measured_runs import ScalingRun
from reproduce.records.runs import Run
from reproduce.records.store import to_line

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's blue and orange: distinct in every common colour blindness, and by lightness in grey.
COLOURS = {"ast": "#0072B2", "mast": "#E69F00"}
MARKERS = {"ast": "o", "mast": "s"}
# For models of neither family: the others of Okabe & Ito, and four of Paul Tol's muted ones.
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288", "#882255", "#999933", "#44AA99")
OTHER_MARKERS = ("D", "^", "v", "P", "X")
# Beside colour and mark, the dashes tell the models apart: in grey and for every kind of colour vision.
DASHES: dict[str, Any] = {"ast": "-", "mast": (0, (5, 1.5))}
OTHER_DASHES = ":"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "legend.frameon": False,
    "svg.hashsalt": "mast-vs-ast",  # otherwise ids depend on the clock: the same records must give the same bytes
    "svg.fonttype": "path",
}
METADATA: Any = {"png": {"Software": None}, "svg": {"Date": None}}  # left out, for the same reason
DPI = 160
SHORT_LABEL = 24  # characters of a label, two of which fit below a panel
LEGEND_BELOW: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "fontsize": 9, "ncols": 2}


def label_of(model: str) -> str:
    """ "MAST (tiny)" of "mast_tiny"; the name itself of a model of neither family."""
    name, _, size = model.partition("_")
    if name not in LABELS:
        return model
    return f"{LABELS[name]} ({size})" if size else LABELS[name]


@contextmanager
def figure_style(**changes: Any) -> Iterator[None]:
    """Matplotlib's defaults with STYLE and these changes, whatever the user's own settings are."""
    import matplotlib

    settings: Any = {**matplotlib.rcParamsDefault, **STYLE, "backend": "Agg", **changes}
    with matplotlib.rc_context(settings):
        yield


def save_figure(draw: Callable[[], Figure], out: Path, name: str, shown: Sequence[Run]) -> list[Path]:
    """Write `out/NAME.png` and `out/NAME.svg`, each completely or not at all, unless both show these runs already.

    The files carry a hash of the runs and of the code that draws: drawing takes a second, comparing none.

    Args:
        draw: makes the figure.
        out: folder, created if absent.
        name: of the files.
        shown: the runs in it.

    Returns:
        The two paths.

    Raises:
        InputError: a file cannot be written.
    """
    mark = _mark(shown)
    paths = [out / f"{name}.{suffix}" for suffix in METADATA]
    if all(path.is_file() and mark.encode() in path.read_bytes() for path in paths):
        return paths
    figure = draw()
    with figure_style():
        for path, (suffix, plain) in zip(paths, METADATA.items(), strict=True):
            metadata = {**plain, "Description": mark}
            write_whole(
                path,
                lambda file, suffix=suffix, metadata=metadata: figure.savefig(  # type: ignore[misc]
                    file, format=suffix, dpi=DPI, metadata=metadata
                ),
                "cannot be written",
                "choose another folder",
            )
    return paths


def _mark(shown: Sequence[Run]) -> str:
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    return f"mast-vs-ast {hash_key([code.hexdigest(), version('matplotlib'), *(to_line(run.record) for run in shown)])}"


def colour_of(model: str) -> str:
    """The model's colour, the same in every figure."""
    return COLOURS.get(family(model)) or OTHER_COLOURS[_number(model) % len(OTHER_COLOURS)]


def marker_of(model: str) -> str:
    """The model's mark, the same in every figure."""
    return MARKERS.get(family(model)) or OTHER_MARKERS[_number(model) // len(OTHER_COLOURS) % len(OTHER_MARKERS)]


def dashes_of(model: str) -> Any:
    """The dashes of the model's lines, the same in every figure."""
    return DASHES.get(family(model), OTHER_DASHES)


def _number(model: str) -> int:
    """A number from 0 to 255 that depends on the name alone."""
    return hashlib.sha256(model.encode()).digest()[0]


def score_line(
    axes: Axes,
    model: str,
    places: Sequence[float],
    scores: Sequence[float],
    bounds: Sequence[tuple[float, float]],
) -> None:
    """Draw a model's scores in per cent with their intervals, in its colour, mark and dashes."""
    axes.errorbar(
        places,
        scores,
        yerr=[
            [max(score - low, 0.0) for score, (low, _) in zip(scores, bounds, strict=True)],
            [max(high - score, 0.0) for score, (_, high) in zip(scores, bounds, strict=True)],
        ],
        color=colour_of(model),
        linestyle=dashes_of(model),
        marker=marker_of(model),
        markersize=5,
        capsize=2,
        linewidth=1.3,
        label=label_of(model),
    )


def legend_below(axes: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend below a panel, in one column where the labels are long."""
    columns = 2 if max(map(len, labels), default=0) <= SHORT_LABEL else 1
    axes.legend(list(handles), list(labels), **{**LEGEND_BELOW, "ncols": columns})


def by_model(runs: Sequence[ScalingRun]) -> dict[str, list[ScalingRun]]:
    """Runs of every model, each by clip length; ours first."""
    models = in_order({run.model for run in runs})
    return {m: sorted((r for r in runs if r.model == m), key=lambda r: r.seconds) for m in models}
