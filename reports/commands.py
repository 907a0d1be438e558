"""The command behind every table of the report, with the data that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from reproduce.experiments.paper_studies import studies_of
from reproduce.experiments.presets import DEMO, PRESETS
from reproduce.records.runs import Run, TrainedRun

COMPARISON = "esc50"
ON_ESC50 = (COMPARISON, "tune", "equal_macs", "pooling", "components", "robustness", "transfer", "data_efficiency")


def command_of(target: str, runs: Sequence[Run] = ()) -> str:
    """The command line that makes a table; DIR is the folder of its data.

    Args:
        target: the table's name.
        runs: behind it, whose preset the command names where it is not the default.
    """
    if target == "recipes":
        return "python -m reproduce list --recipes"
    if target == "speed":
        return "pytest bench/ --benchmark-only"
    names = ("esc50",) if target in ON_ESC50 else dict.fromkeys(study.dataset for study in studies_of(target))
    preset = f" --preset {name}" if target == COMPARISON and (name := _preset_of(runs)) else ""
    options = "".join(f" --data {name}=DIR" for name in names)
    return f"python -m reproduce {target}{preset}{options}"


def _preset_of(runs: Sequence[Run]) -> str:
    """Name of the preset that all runs follow; "" for the default, and where they follow none."""
    trained = [run for run in runs if isinstance(run, TrainedRun)]
    for name, preset in PRESETS.items():
        if trained and all(
            run.front_end == preset.front_end and run.recipe == preset.recipe_of(run.model) for run in trained
        ):
            return "" if preset is DEMO else name
    return ""
