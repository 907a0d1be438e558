"""Both models on 10, 25, 50 and 100 % of the training clips of esc50, for equally many optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reproduce.datasets import dataset_spec
from reproduce.metrics.intervals import wilson_interval
from reproduce.records.pooled import Pooled, pooled, runs_of_all
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import data_efficiency_groups
from reproduce.tables.base import POINTS, Cell, Column, Row, Table, TableInputs, measured, register_table
from reproduce.tables.comparison import one_or_blocks
from reproduce.tables.notes import (
    MeanDifference,
    beyond_runs_notes,
    difference_cell,
    mean_difference,
    problem_notes,
    protocol_notes,
    run_title,
)
from reproduce.tables.units import wilson_note

DATASET = "esc50"
NAME, TITLE = "data_efficiency", "top-1 by training clips"
NOTE = (
    "Parts of the training clips are drawn class by class, by the seed; the smaller part is within the larger one, and "
    "both models train on the same clips. The epochs above are those on all clips: they grow as the clips shrink, so "
    "that every row has about equally many optimiser steps. Test clips are the same in every row."
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Both models on one part of the training clips.

    Args:
        fraction: of the training clips.
        clips: training clips of one run, the mean over runs.
        epochs: of every run.
        scores: model -> its score over folds and seeds.
        runs: model -> the runs, over the folds and seeds that all models have.
    """

    fraction: float
    clips: float
    epochs: int
    scores: Mapping[str, Pooled]
    runs: Mapping[str, Sequence[TrainedRun]]


@register_table(NAME, "both models on 10, 25, 50 and 100 % of the training clips of esc50")
def data_efficiency(inputs: TableInputs) -> Table:
    """A row per part of the training clips: both models, and their paired difference."""
    groups = data_efficiency_groups(inputs.records, DATASET)
    blocks = [_block(inputs, group, f"{NAME} {number}") for number, group in enumerate(groups, start=1)]
    missing = f"not run: no such record on {DATASET} under {inputs.records_dir}"
    return one_or_blocks(NAME, f"{dataset_spec(DATASET).title}: {TITLE}", blocks, missing)


def parts_of(group: Sequence[TrainedRun]) -> list[Part]:
    """The parts that were run, smallest first; without those that no fold and seed of all models has."""
    parts = []
    for fraction in sorted({run.train_fraction for run in group}):
        by_model: dict[str, list[TrainedRun]] = {}
        for run in sorted(group, key=lambda r: (r.model, r.seed, r.test_splits)):
            if run.train_fraction == fraction:
                by_model.setdefault(run.model, []).append(run)
        shared = runs_of_all(by_model)
        every = [run for runs in shared.values() for run in runs]
        if every:
            parts.append(
                Part(
                    fraction=fraction,
                    clips=sum(run.train_kept for run in every) / len(every),
                    epochs=every[0].epochs,
                    scores={model: pooled(runs) for model, runs in shared.items()},
                    runs=shared,
                )
            )
    return parts


def _block(inputs: TableInputs, group: Sequence[TrainedRun], name: str) -> Table:
    parts = parts_of(group)
    models = list(dict.fromkeys(model for part in parts for model in part.scores))
    columns = [Column("clips", "Training clips", "", 0), Column("epochs", "Epochs", "", 0)]
    columns += [Column(model, model, "%", 1) for model in models]
    columns += [Column(f"{model} - {models[0]}", f"{model} - {models[0]}", POINTS, 1) for model in models[1:]]
    compared = [(part, _differences(inputs, part, models[0])) for part in parts]
    rows = tuple(
        Row(f"{part.fraction:g}", _label(part), _cells(part, models[0], differences)) for part, differences in compared
    )
    labelled = {
        f"{_label(part)}{f', {model}' if len(differences) > 1 else ''}": difference
        for part, differences in compared
        for model, difference in differences.items()
    }
    whole = [run for run in group if run.train_fraction == parts[-1].fraction] if parts else list(group)
    notes = (
        *protocol_notes(whole, wilson_note(inputs, whole)),
        NOTE,
        *beyond_runs_notes(labelled, "differences", "the models differ"),
        *problem_notes(group),
    )
    return Table(name, f"{run_title(group)}: {TITLE}", tuple(columns), rows, notes=notes, runs=tuple(group))


def _label(part: Part) -> str:
    return f"{100 * part.fraction:g} %"


def _differences(inputs: TableInputs, part: Part, first: str) -> dict[str, MeanDifference | None]:
    """Model -> its paired difference to the first on this part; empty where the first has no run on it."""
    if first not in part.runs:
        return {}
    return {model: mean_difference(inputs, part.runs[first], part.runs[model]) for model in part.runs if model != first}


def _cells(part: Part, first: str, differences: Mapping[str, MeanDifference | None]) -> dict[str, Cell]:
    cells = {
        "clips": measured(part.clips, "", "mean over runs"),
        "epochs": measured(part.epochs, "", "recipe"),
    }
    for model, score in part.scores.items():
        several = len(score.seeds) > 1
        cells[model] = Cell(
            measured=score.value,
            unit="%",
            conditions=f"{model}, tested on {','.join(score.folds)}, seeds {','.join(map(str, score.seeds))}",
            n=score.clips,
            ci=None if score.correct is None else wilson_interval(score.correct, score.clips),
            seeds=score.seeds if several else (),
            sd=score.seed_sd if several else None,
        )
    return cells | {f"{model} - {first}": difference_cell(mean) for model, mean in differences.items()}
