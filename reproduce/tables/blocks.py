"""Labelled tables under a table of the paper: other weights of its runs, other paper-scale runs, demo-scale runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reproduce.experiments.families import PAPER_MODELS
from reproduce.metrics.bootstrap import mean_and_sd
from reproduce.records.runs import TrainedRun, canonical_config
from reproduce.records.selection import by_seed, demo_groups, other_paper_scale_runs
from reproduce.tables.base import Cell, Row, Table, ratio_row
from reproduce.tables.cells import RUN_COST_COLUMNS, run_cost_cells
from reproduce.tables.conditions import run_conditions
from reproduce.tables.notes import class_notes, problem_notes, protocol_notes, run_title, standin_notes
from reproduce.tables.score_cells import CLIPS_COLUMN, clips_cell, interval_notes
from reproduce.tables.scores import Runs
from reproduce.tables.target import Target

LAST, AVERAGED, BEST = "last", "averaged", "best"
SELECTION_NOTE = (
    "The table above holds the primary weights alone: the last epoch's, or by AST's own recipe the average that its "
    "authors report. An average of weights uses no test clip; the best epoch was chosen on the test clips themselves, "
    "so its score is optimistic."
)
OTHER_RUNS_NOTE = "Runs of other models, variants of the data, recipes or clips: they fill no cell of the paper."
SENSITIVITY_NOTE = (
    "Runs by a recipe of which fields were overridden (--set), named in the label: they show how the scores depend on "
    "a choice that the paper leaves open, and fill no cell of the paper."
)


def present(*blocks: Table | None) -> tuple[Table, ...]:
    """The blocks that there are."""
    return tuple(block for block in blocks if block is not None)


def selection_block(target: Target, rows: Sequence[tuple[str, Runs]], name: str) -> Table | None:
    """The averaged weights and the best epoch beside the last one, of runs that report them; None if none does."""
    lines = []
    for label, runs in rows:
        others = {key: scores for key in (LAST, AVERAGED, BEST) if runs and (scores := _reported(runs, key))}
        if not others:
            continue
        key = runs[0].recipe.primary
        primary = "last epoch (primary)" if key == LAST else f"weights averaged, {_averaged_epochs(runs[0])} (primary)"
        lines.append(_selection_row(target, (label, key, primary), runs, [run.metrics for run in runs]))
        for key, entries in others.items():
            what = _selection_text(key, runs[0], entries)
            lines.append(_selection_row(target, (label, key, what), runs, [entry["metrics"] for entry in entries]))
    if not lines:
        return None
    columns = tuple(target.columns)
    return Table(f"{name} selections", "Other weights of the same runs", columns, tuple(lines), notes=(SELECTION_NOTE,))


def _reported(runs: Runs, key: str) -> list[Mapping[str, Any]]:
    """What every run reports of a selection; empty unless all do."""
    entries = [entry for run in runs if (entry := getattr(run, key)) is not None]
    return entries if len(entries) == len(runs) else []


def _selection_text(key: str, run: TrainedRun, entries: Sequence[Mapping[str, Any]]) -> str:
    if key == LAST:
        return "last epoch"
    if key == AVERAGED:
        return f"weights averaged, {_averaged_epochs(run)}"
    return f"best epoch on the test clips ({', '.join(str(entry['epoch']) for entry in entries)})"


def _averaged_epochs(run: TrainedRun) -> str:
    entry = run.averaged or {}
    return f"epochs {entry.get('from_epoch', run.recipe.average_from)}-{entry.get('to_epoch', run.epochs)}"


def _selection_row(
    target: Target, texts: tuple[str, str, str], runs: Runs, metrics: Sequence[Mapping[str, Any]]
) -> Row:
    """A row of `texts`: the label, the selection's key and what it is."""
    label, key, what = texts
    cells, seeds = {}, tuple(run.seed for run in runs)
    for column, metric in target.columns.items():
        values = [entry.get(metric) for entry in metrics]
        known = [float(value) for value in values if value is not None and not math.isnan(value)]
        if len(known) == len(runs):
            mean, sd = mean_and_sd(known)
            where = f"{what}; {run_conditions(*runs)}"
            cells[column.key] = Cell(measured=mean, unit=column.unit, conditions=where, seeds=seeds, sd=sd)
    return Row(f"{label} {key}", f"{label}, {what}", cells)


def other_runs_blocks(
    target: Target, used: Sequence[TrainedRun], wanted: Callable[[TrainedRun], bool] = lambda run: True
) -> tuple[Table, ...]:
    """Paper-scale runs on this data set that fill no cell above, each labelled by what it is.

    Args:
        target: of the table above.
        used: runs that fill its cells.
        wanted: whether a run belongs here.

    Returns:
        A block of runs whose recipe was overridden and one of all others, as far as there are any.
    """
    groups = [g for g in other_paper_scale_runs(target.inputs.records, target.dataset, used) if wanted(g[0])]
    overridden = [runs for runs in groups if ", " in runs[0].recipe_name and not runs[0].standin]
    others = [runs for runs in groups if runs not in overridden]
    return present(
        _runs_block(target, overridden, "sensitivity", "Sensitivity: recipes with overridden fields", SENSITIVITY_NOTE),
        _runs_block(target, others, "other", "Other paper-scale runs", OTHER_RUNS_NOTE),
    )


def _runs_block(target: Target, groups: Sequence[Runs], key: str, title: str, note: str) -> Table | None:
    rows = [
        Row(f"{key} {position}", _what_differs(runs[0]), target.cells(runs) | {CLIPS_COLUMN.key: clips_cell(runs)})
        for position, runs in enumerate(groups)
    ]
    if not rows:
        return None
    behind = [run for runs in groups for run in runs]
    notes = (note, *interval_notes(rows, target.columns, behind))
    return Table(f"{target.name} {key} runs", title, (*target.columns, CLIPS_COLUMN), tuple(rows), notes=notes)


def _what_differs(run: TrainedRun) -> str:
    parts = [
        run.described_model,
        run.variant,
        f'recipe "{run.recipe_name}"' if run.recipe_name else "no named recipe",
        f"earlier, of {run.day}" if run.recipe_name in PAPER_MODELS else "",
        "synthetic STAND-IN" if run.standin else "",
    ]
    return ", ".join(part for part in parts if part)


def demo_blocks(target: Target) -> tuple[Table, ...]:
    """Both models at demo scale: a block each for a stand-in, for real data and for every other condition."""
    blocks: list[Table] = []
    for group in demo_groups(target.inputs.records, target.dataset):
        by_family = {family: runs for family, runs in demo_runs(group).items() if family in PAPER_MODELS}
        if by_family:
            blocks.append(_demo_block(target, by_family, f"{target.name} demo {len(blocks) + 1}"))
    return tuple(blocks)


def demo_note(target: Target, what: str = "both models") -> str:
    """How to fill the demo-scale block that is absent."""
    return (
        f"Demo scale: no record; python -m reproduce {target.name} --preset demo trains {what} on the synthetic "
        "stand-in and adds a block for them."
    )


def demo_runs(group: Sequence[TrainedRun], variant: Mapping[str, Any] | None = None) -> dict[str, list[TrainedRun]]:
    """The runs of a demo group of one variant (the model itself by default), by family, "ast" first, each by seed."""
    by_family: dict[str, list[TrainedRun]] = {}
    for runs in by_seed(sorted(group, key=lambda run: run.model)):
        run = runs[0]
        if canonical_config(run.model, run.model_config) == canonical_config(run.model, variant or {}):
            by_family[run.family] = runs
    return by_family


def _demo_block(target: Target, by_family: Mapping[str, Runs], name: str) -> Table:
    group = [run for runs in by_family.values() for run in runs]
    rows = [Row(runs[0].model, runs[0].model, demo_cells(target, runs)) for runs in by_family.values()]
    tests: list[str] = []
    if len(by_family) == 2:
        ratio = ratio_row("AST : MAST", rows[0].cells, rows[1].cells, RUN_COST_COLUMNS)
        if not group[0].standin:
            difference, tests = target.difference("difference", "MAST - AST", by_family["mast"], by_family["ast"])
            rows.append(difference)
        rows.append(ratio)
    notes = (
        *standin_notes(group),
        *tests,
        *protocol_notes(group),
        *interval_notes(rows, target.columns, group),
        *class_notes(group),
        *problem_notes(group),
    )
    selections = selection_block(target, [(runs[0].model, runs) for runs in by_family.values()], name)
    columns = (*target.columns, CLIPS_COLUMN, *RUN_COST_COLUMNS)
    blocks, runs = present(selections), tuple(group)
    return Table(name, run_title(group), columns, tuple(rows), notes=notes, blocks=blocks, runs=runs)


def demo_cells(target: Target, runs: Runs) -> dict[str, Cell]:
    """Scores, coverage and costs of runs at demo scale."""
    return {**target.cells(runs), CLIPS_COLUMN.key: clips_cell(runs), **run_cost_cells(runs[0])}
