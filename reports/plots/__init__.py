"""The figures of the report, one file per family. Where records are missing, the command that makes them is named."""

from reports.plots.architecture import draw_architecture
from reports.plots.base import Drawn, Plot, use_style
from reports.plots.beyond import draw_calibration, draw_data_efficiency, draw_robustness, draw_transfer
from reports.plots.budget import draw_accuracy_cost, draw_longer_training
from reports.plots.classes import draw_class_differences, draw_confusion
from reports.plots.components import draw_components
from reports.plots.curves import draw_curves
from reports.plots.embeddings import draw_figure2, draw_figure2_real
from reports.plots.inspections import draw_log_mel, draw_relative_positions
from reports.plots.scaling import draw_scaling
from reports.plots.speed import COMMAND, draw_speed
from reports.plots.variants import draw_ablations, draw_pooling

_COSTS = {"needs": "costs of both models", "command": "python -m reproduce costs"}
_EMBEDDED = {
    "needs": "coordinates of both models' test clips at the paper's scale",
    "command": "python -m reproduce figure2 --data vggsound=DIR",
}
_INSPECTED = {
    "needs": "a sound through a trained MAST",
    "command": "python -m reproduce inspect SOUND --model runs/KEY.safetensors",
}
_RUNS = {"needs": "runs of both models", "command": "python -m reproduce esc50 --data esc50=DIR"}
_CLUSTERED = {"needs": "coordinates of real recordings", "command": "python -m reproduce figure2"}

PLOTS: dict[str, Plot] = {
    plot.name: plot
    for plot in (
        Plot(name="accuracy_cost", draw=draw_accuracy_cost, **_RUNS),
        Plot(
            name="longer_training",
            draw=draw_longer_training,
            needs="runs of both models at equal epochs and at equal MACs",
            command="python -m reproduce equal_macs --data esc50=DIR",
        ),
        Plot(name="training_curves", draw=draw_curves, **_RUNS),
        Plot(
            name="pooling_cost",
            draw=draw_pooling,
            needs="runs of the pooling variants",
            command="python -m reproduce pooling --data esc50=DIR",
        ),
        Plot(
            name="components",
            draw=draw_components,
            needs="runs of the models between AST and MAST",
            command="python -m reproduce components --data esc50=DIR",
        ),
        Plot(
            name="calibration",
            draw=draw_calibration,
            needs="stored predictions of both models",
            command="python -m reproduce esc50 --data esc50=DIR",
        ),
        Plot(
            name="robustness",
            draw=draw_robustness,
            needs="trained models under noise, low-pass and shift",
            command="python -m reproduce robustness --data esc50=DIR",
        ),
        Plot(
            name="transfer",
            draw=draw_transfer,
            needs="trained models on clips of other lengths",
            command="python -m reproduce transfer --data esc50=DIR",
        ),
        Plot(
            name="data_efficiency",
            draw=draw_data_efficiency,
            needs="runs of both models on parts of the training clips",
            command="python -m reproduce data_efficiency --data esc50=DIR",
        ),
        Plot(name="class_differences", draw=draw_class_differences, **_RUNS),
        Plot(name="confusion", draw=draw_confusion, **_RUNS),
        Plot(name="architecture", draw=draw_architecture, **_COSTS),
        Plot(name="speed", draw=draw_speed, needs="timings of both models", command=COMMAND),
        Plot(
            name="scaling",
            draw=draw_scaling,
            needs="timings of both models by clip length",
            command="python -m reproduce scaling",
        ),
        Plot(
            name="ablations",
            draw=draw_ablations,
            needs="costs of the pooling variants",
            command="python -m reproduce ablations",
        ),
        Plot(name="figure2", draw=draw_figure2, **_EMBEDDED),
        Plot(name="figure2_real", draw=draw_figure2_real, **_CLUSTERED),
        Plot(name="log_mel", draw=draw_log_mel, **_INSPECTED),
        Plot(name="relative_positions", draw=draw_relative_positions, **_INSPECTED),
    )
}

__all__ = ["PLOTS", "Drawn", "Plot", "use_style"]
