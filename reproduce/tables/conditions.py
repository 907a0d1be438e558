"""What a number was measured under, as one line for cells and notes."""

from __future__ import annotations

from reproduce.audio.spec import BATCHED, AudioSpec
from reproduce.experiments.recipe import Recipe
from reproduce.records.measured_runs import CostRun
from reproduce.records.runs import Run, TrainedRun


def run_conditions(*runs: TrainedRun) -> str:
    """The conditions of one trained run, or of several that differ in the seed alone."""
    run = runs[0]
    recipe = f'recipe "{run.recipe_name}", ' if run.recipe_name else ""
    seeds = ", ".join(str(r.seed) for r in runs)
    return (
        f"{run.described_model}, {input_text(run.front_end)}, from {run.weights}, {recipe}"
        f"{epochs_text(run.recipe)}, seed{'s' if len(runs) > 1 else ''} {seeds}, "
        f"{run.test_kept:,} of {run.test_listed:,} test clips, {run.environment.device}, "
        f"{run.environment.precision}, {max(r.day for r in runs)}"
    )


def input_text(front_end: AudioSpec) -> str:
    """ "128 x 1024", and whose log-mels it holds where they are not this project's."""
    other = "" if front_end.implementation == BATCHED else f" by {front_end.implementation}"
    return f"{front_end.mels} x {front_end.frames}{other}"


def cost_conditions(run: CostRun) -> str:
    """The conditions of a cost: model, input size and classes."""
    mels, frames = run.input_size
    return f"{run.described_model}, 1 x {mels} x {frames}, {run.num_classes} classes, {run.macs_by}"


def attention_text(run: Run) -> str:
    """The attention implementation as it ends a list of conditions: ", attention sdpa"; "" where there was none."""
    return f", attention {run.environment.attention}" if run.environment.attention else ""


def epochs_text(recipe: Recipe) -> str:
    """ "1 epoch", "20 epochs"."""
    return counted(recipe.epochs, "epoch")


def counted(count: int, noun: str) -> str:
    """ "1 run", "2,000 runs", "2 classes"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"
