"""Colours, markers and layout that all figures share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.errors import InputError
from reproduce.records.runs import ScalingRun

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.figure import Figure

# Okabe & Ito's blue and orange: told apart in every common colour blindness, and by lightness in grey.
COLOURS = {"ast": "#0072B2", "mast": "#E69F00"}
MARKERS = {"ast": "o", "mast": "s"}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "legend.frameon": False,
    "svg.hashsalt": "mast-vs-ast",  # ids drawn from a clock otherwise: the same records should give the same bytes
    "svg.fonttype": "path",
}


DPI = 160
LEGEND_BELOW: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "fontsize": 9, "ncols": 2}


def save_figure(figure: Figure, out: Path, name: str) -> list[Path]:
    """`out/NAME.png` and `out/NAME.svg`, each whole or not at all. InputError where they cannot be written."""
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        path = out / f"{name}.{suffix}"
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            out.mkdir(parents=True, exist_ok=True)
            figure.savefig(part, format=suffix, dpi=DPI, metadata=metadata)
            os.replace(part, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}): choose another folder") from None
        finally:
            part.unlink(missing_ok=True)
        paths.append(path)
    return paths


def by_family(records: Sequence[ScalingRun]) -> dict[str, list[ScalingRun]]:
    """Records of "ast" and of "mast", each by clip length."""
    families: dict[str, list[ScalingRun]] = {}
    for record in sorted(records, key=lambda r: (r.model, seconds_of(r))):
        families.setdefault(record.model.partition("_")[0], []).append(record)
    return families


def seconds_of(record: ScalingRun) -> float:
    return float(record.seconds)
