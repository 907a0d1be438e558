"""Costs of the models as they are today: the recorded ones of the very same code, or else measured and recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from reproduce.cli.progress import log
from reproduce.efficiency.cost_identity import recorded_cost
from reproduce.records.measured_runs import CostRun
from reproduce.records.records import Records
from reproduce.records.store import append_record, as_stored


class CostBook:
    """The costs that a command uses.

    Args:
        stored: all recorded measurements.
    """

    def __init__(self, stored: Records) -> None:
        self._known = list(stored.of_kind(CostRun))
        self._measured: dict[str, CostRun] = {}
        self.used: dict[str, CostRun] = {}

    def cost(self, experiment: Mapping[str, Any], with_libraries: bool = False) -> CostRun:
        """Return the cost of `experiment`, see `cost_experiment`; without a record of these models it is measured.

        Args:
            with_libraries: with the counts of the counting libraries.
        """
        run = recorded_cost(Records(tuple(self._known)), experiment, with_libraries)
        if run is None:
            from reproduce.efficiency.costs import measure_cost  # late: it imports torch

            model, config = experiment["model"], experiment["model_config"]
            size, classes = tuple(experiment["input_size"]), experiment["num_classes"]
            record = measure_cost(model, config, size, classes, with_libraries)
            (run,) = Records.of([as_stored(record)]).of_kind(CostRun)
            self._measured[run.key] = run
            self._known.append(run)
        self.used[run.key] = run
        return run

    def record(self, folder: Path, keys: Collection[str]) -> None:
        """Append those of `keys` that were measured to the records in `folder`.

        Raises:
            InputError: the folder cannot be written.
        """
        for key, run in self._measured.items():
            if key in keys:
                append_record(folder, run.record)

    def log(self) -> None:
        """Log how many costs are recorded and how many were measured."""
        recorded = [run for key, run in self.used.items() if key not in self._measured]
        if recorded:
            log(f"costs: {len(recorded)} recorded by these very models, {max(run.day for run in recorded)}")
        if self._measured:
            what = f"costs: {len(self._measured)} measured live, no record is of these very models"
            log(f"{what} (`costs`, `ablations` and `equal_macs` record theirs)")
