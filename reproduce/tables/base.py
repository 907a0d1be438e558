"""What a table is, and the registry that the command line and the report read. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reproduce.experiments.recipe import Recipe
from reproduce.paper import Paper
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun

MEASURED, NOT_RUN, PAPER_ONLY = "measured", "not run", "paper only"
POINTS, CLIPS = "points", "clips"  # units: of a difference of percentages; of a number of test clips
GIGA, MEGA = 1e9, 1e6


@dataclass(frozen=True)
class Column:
    """One quantity; `decimals` is how many the rendered cell shows (JSON and CSV keep them all)."""

    key: str
    title: str
    unit: str = ""
    decimals: int = 1


@dataclass(frozen=True)
class Cell:
    """The paper's number beside ours.

    Args:
        paper: as printed, None where the paper has none.
        measured: ours, None unless status is "measured".
        unit: of both.
        status: "measured", "not run" or "paper only" (a quoted result that is not ours to measure).
        conditions: what ours was measured under, or why it was not run.
        n: clips behind it. ci: 95 % interval.
        listed: clips that the data set lists for the test, of which n could be used.
        seeds, sd: runs behind it (`measured` is their mean) and their standard deviation, None for a single run.
    """

    paper: float | None
    measured: float | None
    unit: str
    status: str
    conditions: str = ""
    n: int | None = None
    ci: tuple[float, float] | None = None
    listed: int | None = None
    seeds: tuple[int, ...] = ()
    sd: float | None = None


@dataclass(frozen=True)
class Row:
    """Cells by column key; a column without an entry is blank."""

    key: str
    label: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """What a target prints. `blocks` are labelled tables under it, such as demo-scale or itemised ones."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    blocks: tuple[Table, ...] = ()


@dataclass(frozen=True)
class CostRequest:
    """A cost that the table wants measured live before it is built."""

    model: str
    model_config: Mapping[str, Any] = field(default_factory=dict)
    with_libraries: bool = False


@dataclass(frozen=True)
class TableInputs:
    """All that a table may depend on."""

    paper: Paper
    records: Records
    records_dir: Path


@dataclass(frozen=True)
class TableSpec:
    """One target: its name, the help line, what to measure first, and how to build it."""

    name: str
    help: str
    build: Callable[[TableInputs], Table]
    costs: tuple[CostRequest, ...] = ()


_TABLES: dict[str, TableSpec] = {}


def register_table(
    name: str, help: str, costs: tuple[CostRequest, ...] = ()
) -> Callable[[Callable[[TableInputs], Table]], Callable[[TableInputs], Table]]:
    """Register a builder as target `name`. A repeated name is an error."""

    def register(build: Callable[[TableInputs], Table]) -> Callable[[TableInputs], Table]:
        if name in _TABLES:
            raise ValueError(f"table {name!r} is registered twice")
        _TABLES[name] = TableSpec(name, help, build, costs)
        return build

    return register


def table_specs() -> dict[str, TableSpec]:
    """Targets by name, in the order of registration."""
    return dict(_TABLES)


def measured(value: float, unit: str, conditions: str, paper: float | None = None) -> Cell:
    return Cell(paper, value, unit, MEASURED, conditions)


def ratio_row(label: str, first: Mapping[str, Cell], second: Mapping[str, Cell], columns: Sequence[Column]) -> Row:
    """first / second of every measured column, beside the paper's own ratio."""
    cells = {}
    for column in columns:
        a, b = first.get(column.key), second.get(column.key)
        if a and b and a.measured is not None and b.measured is not None:
            quoted = a.paper / b.paper if a.paper is not None and b.paper is not None else None
            cells[column.key] = measured(a.measured / b.measured, "x", "ratio of the two rows", quoted)
    return Row("ratio", label, cells)


def run_conditions(*runs: TrainedRun) -> str:
    """What a trained cell was measured under, in one line; of several runs that differ in the seed alone."""
    run = runs[0]
    recipe = f'recipe "{run.recipe_name}", ' if run.recipe_name else ""
    seeds = ", ".join(str(r.seed) for r in runs)
    return (
        f"{run.described_model}, {run.front_end.mels} x {run.front_end.frames}, from {run.weights}, {recipe}"
        f"{epochs_text(run.recipe)}, seed{'s' if len(runs) > 1 else ''} {seeds}, "
        f"{run.test_kept:,} of {run.test_listed:,} test clips, {run.environment.device}, "
        f"{run.environment.precision}, {max(r.day for r in runs)}"
    )


def epochs_text(recipe: Recipe) -> str:
    return f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
