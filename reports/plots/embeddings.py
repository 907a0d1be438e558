"""Figure 2 as the target `figure2` draws it from stored coordinates."""

from __future__ import annotations

from reports.plots.base import Drawn, finish
from reproduce.figures import figure2
from reproduce.records.clusterings import REAL
from reproduce.tables import TableInputs


def draw_figure2(inputs: TableInputs) -> Drawn | None:
    """At the paper's scale."""
    return _drawn(inputs, "paper", "The paper's Figure 2, measured at its scale")


def draw_figure2_real(inputs: TableInputs) -> Drawn | None:
    """On real recordings, by the models that were trained on them."""
    return _drawn(inputs, REAL, "Figure 2 on real recordings, which is not the paper's experiment")


def _drawn(inputs: TableInputs, which: str, what: str) -> Drawn | None:
    figure = figure2.draw_figure2(inputs.records, inputs.records_dir, which)
    if figure is None:
        return None
    return finish(
        figure,
        f"{what}: test clips in UMAP's plane, AST left, MAST right. The number of a class is at its central clip, the "
        "one nearest to its others. The axes have neither unit nor direction, and silhouettes in the plane are too "
        "favourable: those of the features are given beside them.",
        "Two scatter plots of embedded test clips by class.",
    )
