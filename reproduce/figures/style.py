"""Colours, markers and layout that all figures share, and how figures become files."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.experiments.families import LABELS, family
from reproduce.files import write_whole
from reproduce.keys import hash_key
from reproduce.records.runs import Run, ScalingRun
from reproduce.records.store import to_line

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.figure import Figure

# Okabe & Ito's blue and orange: distinct in every common colour blindness, and by lightness in grey.
COLOURS = {"ast": "#0072B2", "mast": "#E69F00"}
MARKERS = {"ast": "o", "mast": "s"}
# Beside colour and mark, the dashes tell the models apart: in grey and for every kind of colour vision.
DASHES: dict[str, Any] = {"ast": "-", "mast": (0, (5, 1.5))}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # of Okabe & Ito, for models of neither family
OTHER_MARKER, OTHER_DASHES = "D", ":"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "legend.frameon": False,
    "svg.hashsalt": "mast-vs-ast",  # otherwise ids depend on the clock: the same records must give the same bytes
    "svg.fonttype": "path",
}
METADATA: Any = {"png": {"Software": None}, "svg": {"Date": None}}  # left out, for the same reason
DPI = 160
LEGEND_BELOW: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "fontsize": 9, "ncols": 2}


def label_of(model: str) -> str:
    """ "MAST (tiny)" of "mast_tiny"; the name itself of a model of neither family."""
    name, _, size = model.partition("_")
    if name not in LABELS:
        return model
    return f"{LABELS[name]} ({size})" if size else LABELS[name]


def colour_of(model: str) -> str:
    """The model's colour, the same in every figure."""
    known = COLOURS.get(family(model))
    return known or OTHER_COLOURS[zlib.crc32(model.encode()) % len(OTHER_COLOURS)]


def marker_of(model: str) -> str:
    """The model's mark, the same in every figure."""
    return MARKERS.get(family(model), OTHER_MARKER)


def dashes_of(model: str) -> Any:
    """The dashes of the model's lines, the same in every figure."""
    return DASHES.get(family(model), OTHER_DASHES)


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


def by_family(runs: Sequence[ScalingRun]) -> dict[str, list[ScalingRun]]:
    """Runs of "ast" and of "mast", each by clip length."""
    families: dict[str, list[ScalingRun]] = {}
    for run in sorted(runs, key=lambda r: (r.model, r.seconds)):
        families.setdefault(run.family, []).append(run)
    return families
