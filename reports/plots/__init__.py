"""The figures of the report, one file a family. Where records are missing, the command that makes them is named."""

from reports.plots.accuracy_cost import draw_ablations, draw_accuracy_cost
from reports.plots.architecture import draw_architecture, draw_macs_by_kind
from reports.plots.base import Drawn, Plot, use_style
from reports.plots.classes import draw_class_differences, draw_confusion
from reports.plots.curves import draw_curves
from reports.plots.embeddings import draw_figure2, draw_figure2_demo
from reports.plots.inspections import draw_log_mel, draw_relative_positions
from reports.plots.scaling import draw_scaling
from reports.plots.speed import COMMAND, draw_speed

_COSTS = ("cost records of both models", "python -m reproduce costs")
_EMBEDDED = (
    "coordinates of both models' test clips at the paper's scale",
    "python -m reproduce figure2 --data vggsound=DIR",
)
_INSPECTED = ("a sound through a trained MAST", "python -m reproduce inspect SOUND --model runs/KEY.safetensors")
_RUNS = ("a recorded run of both models", "python -m reproduce esc50 --data esc50=DIR")

PLOTS: dict[str, Plot] = {
    plot.name: plot
    for plot in (
        Plot("architecture", draw_architecture, *_COSTS),
        Plot("macs_by_kind", draw_macs_by_kind, *_COSTS),
        Plot("ablations", draw_ablations, "cost records of the pooling variants", "python -m reproduce ablations"),
        Plot("speed", draw_speed, "timings of both models", COMMAND),
        Plot("scaling", draw_scaling, "timings of both models by clip length", "python -m reproduce scaling"),
        Plot("figure2", draw_figure2, *_EMBEDDED),
        Plot("figure2_demo", draw_figure2_demo, "the same at demo scale", "python -m reproduce figure2 --preset demo"),
        Plot("training_curves", draw_curves, *_RUNS),
        Plot("accuracy_cost", draw_accuracy_cost, *_RUNS),
        Plot("confusion", draw_confusion, *_RUNS),
        Plot("class_differences", draw_class_differences, *_RUNS),
        Plot("log_mel", draw_log_mel, *_INSPECTED),
        Plot("relative_positions", draw_relative_positions, *_INSPECTED),
    )
}

__all__ = ["PLOTS", "Drawn", "Plot", "use_style"]
