"""Labelled tables under a table of the paper: other selections, other paper-scale runs, and demo-scale runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.experiments.families import PAPER_MODELS, family
from reproduce.metrics.bootstrap import mean_and_sd
from reproduce.records.runs import TrainedRun, canonical_config
from reproduce.records.selection import by_seed, demo_groups, other_paper_scale_runs
from reproduce.tables.base import (
    GIGA,
    MEASURED,
    MEGA,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    measured,
    ratio_row,
    run_conditions,
)
from reproduce.tables.notes import class_notes, problem_notes, protocol_notes, run_title
from reproduce.tables.scores import Runs, RunScores, clips_cell, difference_row, interval_notes

CLIPS_COLUMN = Column("clips", "Test clips", "clips", 0)
RUN_COST_COLUMNS = (
    Column("params", "#Params", "M", 2),
    Column("macs", "MACs, module-only", "G", 3),
    Column("macs_full", "MACs, full", "G", 3),
)


LAST, AVERAGED, BEST = "last", "averaged", "best"


@dataclass(frozen=True)
class Target:
    """What a table of the paper needs to find its runs.

    Args:
        name: of the table. dataset: registered name.
        columns: column -> metric of the records ("verb" -> "verb_top1").
    """

    name: str
    dataset: str
    columns: Mapping[Column, str]

    def fill_with(self) -> str:
        """The command that trains what is missing at paper scale."""
        return f"python -m reproduce {self.name} --data {self.dataset}=DIR"

    def not_run(self, inputs: TableInputs, model: str, variant: str, recipe_name: str) -> str:
        """Reason of an empty cell, with the remedy."""
        where = f"{self.dataset} ({variant})" if variant else self.dataset
        return (
            f'not run: no paper-scale record of {model} on {where} by recipe "{recipe_name}" under '
            f"{inputs.records_dir}: {self.fill_with()}"
        )


def selection_block(target: Target, rows: Sequence[tuple[str, Runs]], name: str) -> Table | None:
    """The average of weights and the best epoch beside the last one, of runs that report them; None if none does."""
    lines = []
    for label, runs in rows:
        if not runs:
            continue
        others = [(key, _other_selection(runs, key)) for key in (LAST, AVERAGED, BEST)]
        reported = [(key, *found) for key, found in others if found is not None]
        if reported:
            own = primary_weights(runs[0])
            what = "last epoch (primary)" if own == LAST else f"weights averaged, {_averaged_epochs(runs[0])} (primary)"
            primary = (own, what, [run.metrics for run in runs])
            lines += [_selection_row(target, label, runs, *selection) for selection in (primary, *reported)]
    if not lines:
        return None
    notes = (
        "The primary weights alone stand above: the last epoch's, or by AST's own recipe the average that its authors "
        "report. An average of weights looks at no test clip; the best epoch was chosen on the test clips themselves, "
        "so that its score is too high to be compared.",
    )
    return Table(f"{name} selections", "Other weights of the same runs", tuple(target.columns), tuple(lines), notes)


def _other_selection(runs: Runs, key: str) -> tuple[str, list[Mapping[str, Any]]] | None:
    """What the selection is, and its metrics, one a run; None unless every run reports it."""
    entries = [entry for run in runs if (entry := getattr(run, key)) is not None]
    if len(entries) != len(runs):
        return None
    if key == LAST:
        what = "last epoch"
    elif key == AVERAGED:
        what = f"weights averaged, {_averaged_epochs(runs[0])}"
    else:
        what = f"best epoch on the test clips ({', '.join(str(entry['epoch']) for entry in entries)})"
    return what, [entry["metrics"] for entry in entries]


def primary_weights(run: TrainedRun) -> str:
    """Whose scores are the run's result, see `Recipe.primary`."""
    return run.recipe.primary


def _averaged_epochs(run: TrainedRun) -> str:
    entry = run.averaged or {}
    first, last = entry.get("from_epoch", run.recipe.average_from), entry.get("to_epoch", run.epochs)
    return f"epochs {first}-{last}"


def _selection_row(
    target: Target, label: str, runs: Runs, key: str, what: str, metrics: Sequence[Mapping[str, Any]]
) -> Row:
    cells, seeds = {}, tuple(run.seed for run in runs)
    for column, metric in target.columns.items():
        values = [float(found[metric]) for found in metrics if not _is_missing(found.get(metric))]
        if len(values) == len(runs):
            mean, sd = mean_and_sd(values)
            where = f"{what}; {run_conditions(*runs)}"
            cells[column.key] = Cell(None, mean, column.unit, MEASURED, where, seeds=seeds, sd=sd)
    return Row(f"{label} {key}", f"{label}, {what}", cells)


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def other_runs_block(
    target: Target,
    inputs: TableInputs,
    used: Sequence[TrainedRun],
    scores: RunScores,
    wanted: Callable[[TrainedRun], bool] = lambda record: True,
) -> Table | None:
    """Paper-scale runs on this data set that fill no cell above, each labelled by what it is; None where none is."""
    rows = []
    for position, runs in enumerate(other_paper_scale_runs(inputs.records, target.dataset, used)):
        if wanted(runs[0]):
            cells = {column.key: scores.cell(runs, column, metric) for column, metric in target.columns.items()}
            cells[CLIPS_COLUMN.key] = clips_cell(runs)
            rows.append(Row(f"other {position}", _what_differs(runs[0]), cells))
    if not rows:
        return None
    notes = (
        "Of other models, variants of the data, recipes, overridden fields or clips: none fills a cell of the paper.",
        *interval_notes(rows, target.columns),
    )
    columns = (*target.columns, CLIPS_COLUMN)
    return Table(f"{target.name} other runs", "Other paper-scale runs", columns, tuple(rows), notes)


def _what_differs(record: TrainedRun) -> str:
    recipe_name = record.recipe_name
    parts = [
        record.described_model,
        record.variant,
        f'recipe "{recipe_name}"' if recipe_name else "no named recipe",
        f"earlier, of {record.created[:10]}" if recipe_name in PAPER_MODELS else "",
        "synthetic STAND-IN" if record.standin else "",
    ]
    return ", ".join(part for part in parts if part)


def demo_blocks(target: Target, inputs: TableInputs, scores: RunScores) -> tuple[Table, ...]:
    """Both models at demo scale; a block each for a stand-in, for real data and for every other condition."""
    blocks: list[Table] = []
    for group in demo_groups(inputs.records, target.dataset):
        by_family = {model: runs for model, runs in demo_runs(group).items() if model in ("ast", "mast")}
        if by_family:
            blocks.append(_demo_block(target, by_family, f"{target.name} demo {len(blocks) + 1}", scores))
    return tuple(blocks)


def demo_note(target: Target) -> str:
    """How to fill the demo-scale block that is not there."""
    return (
        f"Demo scale: no record; python -m reproduce {target.name} --preset demo trains both models on the synthetic "
        "stand-in and puts them in a block of their own."
    )


def demo_runs(group: Sequence[TrainedRun], variant: Mapping[str, Any] | None = None) -> dict[str, list[TrainedRun]]:
    """Of a demo group the runs of one variant (the model itself by default), by family, "ast" first, each by seed."""
    found: dict[str, list[TrainedRun]] = {}
    for runs in by_seed(sorted(group, key=lambda record: record.model)):
        model = runs[0].model
        if canonical_config(model, runs[0].model_config) == canonical_config(model, variant or {}):
            found[family(model)] = runs
    return found


def _demo_block(target: Target, by_family: Mapping[str, Runs], name: str, scores: RunScores) -> Table:
    group = [record for runs in by_family.values() for record in runs]
    rows = [_demo_row(target, runs, scores) for runs in by_family.values()]
    selections = selection_block(target, [(runs[0].model, runs) for runs in by_family.values()], name)
    notes: list[str] = []
    if len(by_family) == 2:
        ratio = ratio_row("AST : MAST", rows[0].cells, rows[1].cells, RUN_COST_COLUMNS)
        difference, notes = difference_row(
            "difference", "MAST - AST", by_family["mast"], by_family["ast"], target.columns, scores, ""
        )
        rows += [difference, ratio]
    return Table(
        name,
        run_title(group),
        (*target.columns, CLIPS_COLUMN, *RUN_COST_COLUMNS),
        tuple(rows),
        notes=(
            *notes,
            *protocol_notes(group),
            *interval_notes(rows, target.columns),
            *class_notes(group),
            *problem_notes(group),
        ),
        blocks=() if selections is None else (selections,),
    )


def _demo_row(target: Target, runs: Runs, scores: RunScores) -> Row:
    model = runs[0].model
    cells = {column.key: scores.cell(runs, column, metric) for column, metric in target.columns.items()}
    return Row(model, model, {**cells, CLIPS_COLUMN.key: clips_cell(runs), **run_cost_cells(runs[0])})


def run_cost_cells(record: TrainedRun) -> dict[str, Cell]:
    """Cells of RUN_COST_COLUMNS: what the trained model itself costs, from its own record."""
    where = f"{record.model}, 1 x {record.front_end.mels} x {record.front_end.frames}, closed form"
    return {
        "params": measured(record.metric("parameters") / MEGA, "M", f"{where}, exact"),
        "macs": measured(record.metric("macs_module_only") / GIGA, "G", f"{where}, module-only rule"),
        "macs_full": measured(record.metric("macs_full") / GIGA, "G", f"{where}, full rule"),
    }
