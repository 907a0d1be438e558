"""Both models trained on the same clips under one protocol, and the search for its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reproduce.datasets import dataset_spec
from reproduce.experiments.families import in_order, reference_of
from reproduce.metrics.headline import HEADLINES
from reproduce.metrics.intervals import wilson_interval
from reproduce.records.pooled import Pooled, alike_runs, pooled, runs_of_all, runs_side_by_side
from reproduce.records.runs import SearchRun, TrainedRun
from reproduce.records.selection import comparisons, search_groups
from reproduce.tables.base import (
    RATIO_KEY,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    measured,
    not_run,
    ratio_row,
    register_table,
)
from reproduce.tables.cells import counter_notes, run_cost_cells
from reproduce.tables.conditions import epochs_text, run_conditions
from reproduce.tables.glance import with_glance
from reproduce.tables.notes import (
    Rows,
    class_notes,
    pairing_notes,
    problem_notes,
    protocol_notes,
    run_title,
    search_notes,
    several_tests_notes,
    standin_notes,
)
from reproduce.tables.units import wilson_note

SCORE_COLUMNS = (
    Column("top1", "Top-1", "%", 1),
    Column("top5", "Top-5", "%", 1),
    Column("verb_top1", "Verb", "%", 1),
    Column("noun_top1", "Noun", "%", 1),
    Column("action_top1", "Action", "%", 1),
    Column("map", "mAP", "%", 1),
    Column("mauc", "mAUC", "%", 1),
    Column("d_prime", "d'", "", 2),
)
COST_COLUMNS = (
    Column("params", "#Params", "M", 2),
    Column("macs", "MACs, module-only", "G", 2),
    Column("macs_full", "MACs, full", "G", 2),
)
COST_AND_SPEED_COLUMNS = (
    *COST_COLUMNS,
    Column("train_clips_per_s", "Training", "clips/s", 1),
    Column("predict_clips_per_s", "Inference", "clips/s", 1),
)


@register_table("esc50", "cross-validate AST and MAST from scratch on a folder in ESC-50's layout")
def esc50(inputs: TableInputs) -> Table:
    """Both models on the same folds. The paper has no ESC-50 table: nothing here is quoted."""
    return comparison_table(inputs, "esc50")


def comparison_table(inputs: TableInputs, dataset: str) -> Table:
    """Both models trained on `dataset` under one protocol; a block each where several protocols were run."""
    groups = comparisons(inputs.records, dataset)
    blocks = [_comparison(inputs, group, f"{dataset} {number}") for number, group in enumerate(groups, start=1)]
    missing = f"not run: no record on {dataset} under {inputs.records_dir}"
    return one_or_blocks(dataset, f"{dataset_spec(dataset).title}: both models", blocks, missing)


def one_or_blocks(name: str, title: str, blocks: Sequence[Table], missing: str) -> Table:
    """The only block as the table `name` itself, or all blocks under a title; `missing` is the note without any."""
    if len(blocks) == 1:
        return replace(blocks[0], name=name)
    return Table(name, title, notes=() if blocks else (missing,), blocks=tuple(blocks))


@register_table("tune", "search the learning rate for both models alike, on validation folds")
def tune(inputs: TableInputs) -> Table:
    """Validation accuracy by learning rate and model."""
    return tune_table(inputs, "esc50")


def tune_table(inputs: TableInputs, dataset: str) -> Table:
    """The searches on any data set, a block for each that differs in more than model and rate."""
    groups = search_groups(inputs.records, dataset)
    title = "Validation top-1 by learning rate"
    blocks = [_search(group, f"tune {number}", title) for number, group in enumerate(groups, start=1)]
    return one_or_blocks("tune", title, blocks, f"not run: no search on {dataset} under {inputs.records_dir}")


def _search(group: Sequence[SearchRun], name: str, title: str) -> Table:
    rows: dict[float, dict[str, Cell]] = {}
    for run in group:
        clips, score = int(run.metric("clips")), run.headline
        where = f"{run_conditions(run)}, validation fold {run.test_splits[0]}"
        is_share = score.endswith("top1")  # of clips; a mean average precision is none
        ci = wilson_interval(int(run.metric(score.replace("top1", "correct"))), clips) if is_share else None
        cell = replace(measured(run.metric(score), "%", where), n=clips, ci=ci)
        rows.setdefault(run.lr, {})[run.model] = cell
    first = group[0]
    title = title.replace("top-1", HEADLINES[first.headline])
    return Table(
        name,
        f"{title}: fold {', '.join(first.test_splits)}, {epochs_text(first.recipe)}, "
        f"{first.front_end.mels} x {first.front_end.frames}",
        tuple(Column(model, model, "%", 1) for model in in_order({run.model for run in group})),
        tuple(Row(f"lr={rate:g}", f"lr {rate:g}", cells) for rate, cells in rows.items()),
        notes=(f"Trained on folds {', '.join(first.train_splits)}; no other fold was looked at.",),
        runs=tuple(group),
    )


def _comparison(inputs: TableInputs, group: Sequence[TrainedRun], name: str) -> Table:
    by_model: dict[str, list[TrainedRun]] = {}
    for run in group:
        by_model.setdefault(run.model, []).append(run)
    ordered = {model: by_model[model] for model in in_order(by_model)}
    table = compared(inputs, ordered, name, keep=runs_side_by_side)
    table = replace(table, notes=(*table.notes, *several_tests_notes(len(by_model) - 1)))
    return with_glance(table, inputs, [run for run in table.runs if isinstance(run, TrainedRun)])


def compared(
    inputs: TableInputs,
    by_row: Rows,
    name: str,
    reference: str = "",
    tests: bool = True,
    keep: Callable[[Rows], dict[str, list[TrainedRun]]] = runs_of_all,
) -> Table:
    """Runs that may be compared, a row per label, with the paired tests on the clips that rows share.

    Args:
        inputs: of the table.
        by_row: label -> its runs, over folds and seeds.
        name: of the table.
        reference: label of the row that all others are tested against; by default the first.
        tests: add a note per row with its test against the reference.
        keep: which runs are shown; by default those on folds and seeds that every row has.
    """
    every = sum(map(len, by_row.values()))
    shown = {label: runs for label, runs in keep(by_row).items() if runs}
    # Without a common fold each row has the folds of its own lowest seed.
    by_row = shown or {label: runs_of_all({label: runs})[label] for label, runs in by_row.items() if runs}
    group = [run for runs in by_row.values() for run in runs]
    scores = _score_columns(group[0])
    timed = alike_runs(by_row)
    rows = [_comparison_row(label, runs, scores, timed[label]) for label, runs in by_row.items()]
    rows += _ratio_rows(rows, {label: runs[0] for label, runs in timed.items()})
    notes = standin_notes(group) + protocol_notes(group, wilson_note(inputs, group))
    if left_out := every - len(group):
        notes.append(
            f"Left out, of folds or seeds that not every row has run yet: {left_out} run{'s' * (left_out > 1)}."
        )
    notes += _seed_notes(by_row)
    notes += pairing_notes(inputs, by_row, reference) if tests and not group[0].standin else []
    notes += search_notes(inputs, by_row, scores[0])
    notes += _speed_notes(by_row, timed)
    notes += counter_notes(group)
    notes += class_notes(group)
    notes += problem_notes(group)
    columns = (*scores, *COST_AND_SPEED_COLUMNS)
    return Table(name, run_title(group), columns, tuple(rows), notes=tuple(notes), runs=tuple(group))


def _seed_notes(by_row: Rows) -> list[str]:
    """Whose scores are means over which seeds, where rows differ in them."""
    seeds = {label: sorted({run.seed for run in runs}) for label, runs in by_row.items()}
    if len({tuple(own) for own in seeds.values()}) < 2:
        return []
    texts = [f"{label} {', '.join(map(str, own))}" for label, own in seeds.items()]
    return [f"Scores are means over seeds, of which rows have different ones: {'; '.join(texts)}."]


def _speed_notes(by_row: Rows, timed: Rows) -> list[str]:
    """Which runs the speeds are of, where not all count or rows differ in the settings."""
    notes = []
    if any(len(timed[label]) < len(runs) for label, runs in by_row.items()):
        counts = ", ".join(f"{label} {len(timed[label])} of {len(runs)}" for label, runs in by_row.items())
        notes.append(f"Speeds are those of the runs under equal settings: {counts}.")
    settings = {label: runs[0].environment.settings for label, runs in timed.items()}
    if len(set(settings.values())) > 1:
        notes.append(f"Speeds under unlike settings, without a ratio: {_by_settings(settings)}.")
    elif any(run.environment.compiled for runs in timed.values() for run in runs):
        notes.append("Speeds are those of compiled models (`--compile`).")
    return notes


def _by_settings(settings: Mapping[str, str]) -> str:
    """ "AMD EPYC 9654, 2 threads, float32, attention sdpa (ast_tiny, mast_tiny); ..."."""
    labels: dict[str, list[str]] = {}
    for label, own in settings.items():
        labels.setdefault(own, []).append(label)
    return "; ".join(f"{own} ({', '.join(names)})" for own, names in labels.items())


def _ratio_rows(rows: Sequence[Row], timed: Mapping[str, TrainedRun]) -> list[Row]:
    """Costs of two rows, or of any number of different models, divided by the reference's; speeds under its settings.

    Args:
        rows: of the models.
        timed: label -> a run behind its speeds.
    """
    models = {label: run.model for label, run in timed.items()}
    distinct = list(dict.fromkeys(models.values()))
    if len(rows) < 2 or (len(rows) > 2 and len(distinct) < len(rows)):
        return []
    reference = rows[-1]
    if len(distinct) == len(rows):
        reference = next(row for row in rows if models[row.label] == reference_of(distinct))
    others = [row for row in rows if row is not reference]
    ratios = []
    for number, row in enumerate(others):
        alike = timed[row.label].environment.settings == timed[reference.label].environment.settings
        columns = COST_AND_SPEED_COLUMNS if alike else COST_COLUMNS
        ratio = ratio_row(f"{row.label} : {reference.label}", row.cells, reference.cells, columns)
        ratios.append(ratio if number == 0 else replace(ratio, key=f"{RATIO_KEY} {row.key}"))
    return ratios


def _score_columns(run: TrainedRun) -> tuple[Column, ...]:
    """The scores of this kind of data: accuracies where clips have one label per head, mAP and the like otherwise."""
    wanted = ("map", "mauc", "d_prime") if run.multilabel else ("top1", "top5")
    return tuple(c for c in SCORE_COLUMNS if c.key in run.metrics and c.key.endswith(wanted))


def _comparison_row(
    label: str, runs: Sequence[TrainedRun], scores: Sequence[Column], timed: Sequence[TrainedRun]
) -> Row:
    """The row of one label, with the speeds of the runs `timed`."""
    first = runs[0]
    results = {column: _pooled_or_none(runs, column.key) for column in scores}
    folds, seeds = sorted({run.fold for run in runs}), sorted({run.seed for run in runs})
    machines = sorted({run.environment.settings for run in runs})
    where = (
        f"{first.described_model}, tested on {','.join(folds)}, seeds "
        f"{','.join(map(str, seeds))}, {sum(r.test_kept for r in runs)} of "
        f"{sum(r.test_listed for r in runs)} test clips, {'; '.join(machines)}, {first.day}"
    )
    speeds = {
        key: sum(run.metric(key) for run in timed) / len(timed) for key in ("train_clips_per_s", "predict_clips_per_s")
    }
    cells = {column.key: _score_cell(result, column, where) for column, result in results.items()}
    cells |= run_cost_cells(first, first.described_model)
    cells |= {
        "train_clips_per_s": measured(speeds["train_clips_per_s"], "clips/s", f"{where}, augmentation included"),
        "predict_clips_per_s": measured(speeds["predict_clips_per_s"], "clips/s", f"{where}, model alone, batch 32"),
    }
    return Row(label, label, cells)


def _pooled_or_none(runs: Sequence[TrainedRun], metric: str) -> Pooled | None:
    """The pooled score; None where a run's score was not a number, such as d-prime of an AUC of 1."""
    known = all(not math.isnan(run.metrics.get(metric, math.nan)) for run in runs)
    return pooled(runs, metric) if known else None


def _score_cell(result: Pooled | None, column: Column, where: str) -> Cell:
    if result is None:
        return not_run(column.unit, f"no {column.title}: it was not a number in one of the runs; {where}")
    sd = f", sd over folds {result.fold_sd:.1f}" if len(result.folds) > 1 else ""
    several = len(result.seeds) > 1
    return Cell(
        measured=result.value,
        unit=column.unit,
        conditions=where + sd,
        n=result.clips,
        ci=None if result.correct is None else wilson_interval(result.correct, result.clips),
        seeds=result.seeds if several else (),
        sd=result.seed_sd if several else None,
    )
