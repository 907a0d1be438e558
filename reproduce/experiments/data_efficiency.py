"""List the runs of both models on parts of the training clips. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reproduce.experiments.experiment import Experiment

DATA_EFFICIENCY = "data efficiency"  # recipe name of the runs
FRACTIONS = (0.1, 0.25, 0.5, 1.0)


def on_parts(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Return an experiment per fraction for each run of a comparison, all of about equally many optimiser steps.

    With as many epochs a tenth of the clips would mean a tenth of the training: epochs grow as the clips shrink.
    """
    return [
        replace(
            experiment,
            train_fraction=fraction,
            recipe=replace(experiment.recipe, epochs=round(experiment.recipe.epochs / fraction)),
            recipe_name=DATA_EFFICIENCY,
        )
        for experiment in experiments
        for fraction in FRACTIONS
    ]
