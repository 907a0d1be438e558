"""A table of the paper that training runs fill: where its runs are, its cells, and the command that fills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reproduce.experiments.families import PAPER_MODELS
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import paper_runs
from reproduce.tables.base import POINTS, Cell, Column, Row, TableInputs, not_run
from reproduce.tables.score_cells import difference_cell, score_cell
from reproduce.tables.scores import Runs


@dataclass(frozen=True, kw_only=True)
class Target:
    """A table of the paper, or a part of one, with what it is built from.

    Args:
        name: of the table.
        dataset: registered name.
        columns: column -> metric of the runs ("verb" -> "verb_top1").
        inputs: of the table.
    """

    name: str
    dataset: str
    columns: Mapping[Column, str]
    inputs: TableInputs

    def runs(self, model: str, variant: str, recipe_name: str) -> list[TrainedRun]:
        """The paper-scale runs that may fill a cell, by seed; `model`: "ast", "mast" or a registered name."""
        preset = PAPER_MODELS.get(model, model)
        return paper_runs(self.inputs.records, preset, self.dataset, variant=variant, recipe_name=recipe_name)

    def fill_with(self) -> str:
        """The command that trains what is missing at paper scale."""
        return f"python -m reproduce {self.name} --data {self.dataset}=DIR"

    def not_run(self, model: str, variant: str, recipe_name: str) -> str:
        """Reason of an empty cell, with the remedy."""
        where = f"{self.dataset} ({variant})" if variant else self.dataset
        return (
            f'not run: no paper-scale record of {PAPER_MODELS.get(model, model)} on {where} by recipe "{recipe_name}" '
            f"under {self.inputs.records_dir}: {self.fill_with()}"
        )

    def cells(self, runs: Runs, paper: Mapping[str, float | None] | None = None, why: str = "") -> dict[str, Cell]:
        """A score per column; `why` is the reason of the cells where there are no runs."""
        return {
            column.key: score_cell(self.inputs.scores, runs, column, metric, (paper or {}).get(column.key), why)
            for column, metric in self.columns.items()
        }

    def difference(self, key: str, label: str, first: Runs, second: Runs, why: str = "") -> tuple[Row, list[str]]:
        """First minus second in every column, and a note per column with the tests.

        Args:
            key: of the row.
            label: of the row.
            first: runs of one model.
            second: runs of the other.
            why: reason of the cells where one of the two has no runs.
        """
        cells: dict[str, Cell] = {}
        notes: list[str] = []
        for column, metric in self.columns.items():
            if not first or not second:
                cells[column.key] = not_run(POINTS, why)
                continue
            cells[column.key], tests = difference_cell(self.inputs.scores, label, first, second, column, metric)
            notes += tests
        return Row(key, label, cells), notes
