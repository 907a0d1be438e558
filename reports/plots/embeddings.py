"""Figure 2 as the target `figure2` draws it from stored coordinates."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reports.plots.base import Drawn
from reproduce.figures.figure2 import write_figure2
from reproduce.tables import TableInputs

PAPER_SCALE, DEMO_SCALE = "figure2", "figure2_demo"


def draw_figure2(inputs: TableInputs) -> Drawn | None:
    return _drawn(inputs, PAPER_SCALE, "Figure 2 measured at the paper's scale")


def draw_figure2_demo(inputs: TableInputs) -> Drawn | None:
    return _drawn(inputs, DEMO_SCALE, "Figure 2 at demo scale, not the paper's experiment")


def _drawn(inputs: TableInputs, name: str, what: str) -> Drawn | None:
    with tempfile.TemporaryDirectory() as folder:
        write_figure2(inputs.records, inputs.records_dir, Path(folder))
        svg, png = (Path(folder) / f"{name}.{suffix}" for suffix in ("svg", "png"))
        if not svg.is_file():
            return None
        caption = (
            f"{what}: test clips in UMAP's plane, AST left, MAST right, numbered at the median of each class. The "
            "plane's axes have neither unit nor direction, and it flatters silhouettes: those of the features stand "
            "beside them."
        )
        return Drawn(svg.read_bytes(), png.read_bytes(), caption)
