"""Both models trained on the same clips under one protocol, and the search for its learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reproduce.datasets import dataset_spec
from reproduce.metrics.intervals import wilson_interval
from reproduce.records.pooled import Pooled, pooled, runs_of_all
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons, search_groups
from reproduce.tables.base import (
    GIGA,
    MEASURED,
    MEGA,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    epochs_text,
    measured,
    ratio_row,
    register_table,
    run_conditions,
)
from reproduce.tables.notes import (
    SCORE_COLUMNS,
    WILSON_NOTE,
    class_notes,
    pairing_notes,
    problem_notes,
    protocol_notes,
    run_title,
    search_notes,
)

COST_AND_SPEED_COLUMNS = (
    Column("params", "#Params", "M", 2),
    Column("macs", "MACs, module-only", "G", 2),
    Column("macs_full", "MACs, full", "G", 2),
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
    blocks = tuple(_comparison(inputs, group, f"{dataset} {number}") for number, group in enumerate(groups, start=1))
    if len(blocks) == 1:
        return replace(blocks[0], name=dataset)
    notes = () if blocks else (f"not run: no record on {dataset} under {inputs.records_dir}",)
    return Table(dataset, f"{dataset_spec(dataset).title}: both models", (), (), notes=notes, blocks=blocks)


@register_table("tune", "search the learning rate for both models alike, on validation folds")
def tune(inputs: TableInputs) -> Table:
    """Validation accuracy by learning rate and model; the test fold is neither trained on nor looked at."""
    groups = search_groups(inputs.records, "esc50")
    title = "Validation top-1 by learning rate"
    blocks = tuple(_search(group, f"tune {number}", title) for number, group in enumerate(groups, start=1))
    if len(blocks) == 1:
        return replace(blocks[0], name="tune")
    notes = () if blocks else (f"not run: no search on esc50 under {inputs.records_dir}",)
    return Table("tune", title, (), (), notes=notes, blocks=blocks)


def _search(group: Sequence[TrainedRun], name: str, title: str) -> Table:
    rows: dict[float, dict[str, Cell]] = {}
    for run in group:
        correct, clips = int(run.metric("correct")), int(run.metric("clips"))
        where = f"{run_conditions(run)}, validation fold {run.test_splits[0]}"
        cell = Cell(None, run.metric("top1"), "%", MEASURED, where, clips, wilson_interval(correct, clips))
        rows.setdefault(run.recipe.lr, {})[run.model] = cell
    models = sorted({run.model for run in group})
    return Table(
        name,
        f"{title}: fold {', '.join(group[0].test_splits)}, {epochs_text(group[0].recipe)}, "
        f"{group[0].front_end.mels} x {group[0].front_end.frames}",
        tuple(Column(model, model, "%", 1) for model in models),
        tuple(Row(f"lr={rate:g}", f"lr {rate:g}", cells) for rate, cells in rows.items()),
        notes=(f"Trained on folds {', '.join(group[0].train_splits)}; no other fold was looked at.",),
    )


def _comparison(inputs: TableInputs, group: Sequence[TrainedRun], name: str) -> Table:
    by_model: dict[str, list[TrainedRun]] = {}
    for record in sorted(group, key=lambda r: r.model):
        by_model.setdefault(record.model, []).append(record)
    return compared(inputs, by_model, name)


def compared(inputs: TableInputs, by_row: Mapping[str, Sequence[TrainedRun]], name: str, reference: str = "") -> Table:
    """Runs that may stand side by side, a row for every label, with the paired tests on the clips that rows share.

    Args:
        by_row: label -> its runs, over folds and seeds; only folds and seeds that every row has are shown.
        reference: label of the row that all others are tested against; by default the first.
    """
    given = sum(map(len, by_row.values()))
    shown = {label: runs for label, runs in runs_of_all(by_row).items() if runs}
    by_row = shown or {label: runs for label, runs in by_row.items() if runs}  # no fold in common: each as it is
    group = [record for runs in by_row.values() for record in runs]
    scores = _score_columns(group[0])
    rows = [_comparison_row(label, records, scores) for label, records in by_row.items()]
    if len(rows) == 2:
        label = f"{rows[0].label} : {rows[1].label}"
        rows.append(ratio_row(label, rows[0].cells, rows[1].cells, COST_AND_SPEED_COLUMNS))
    left_out = given - len(group)
    notes = protocol_notes(group, WILSON_NOTE)
    if left_out:
        notes.append(
            f"Left out, of folds or seeds that not every row has run yet: {left_out} run{'s' * (left_out > 1)}."
        )
    notes += pairing_notes(inputs, by_row, reference)
    notes += search_notes(inputs, by_row, scores[0])
    notes += class_notes(group)
    notes += problem_notes(group)
    return Table(name, run_title(group), (*scores, *COST_AND_SPEED_COLUMNS), tuple(rows), notes=tuple(notes))


def _score_columns(record: TrainedRun) -> tuple[Column, ...]:
    """The scores of this kind of data: accuracies where clips have one label a head, mAP and the like otherwise."""
    wanted = ("map", "mauc", "d_prime") if record.multilabel else ("top1", "top5")
    return tuple(c for c in SCORE_COLUMNS if c.key in record.metrics and c.key.endswith(wanted))


def _comparison_row(label: str, records: Sequence[TrainedRun], scores: Sequence[Column]) -> Row:
    first = records[0]
    model = first.described_model
    result = pooled(records, scores[0].key)
    machines = sorted({_machine(record) for record in records})
    coverage = f"{sum(r.test_kept for r in records)} of {sum(r.test_listed for r in records)}"
    where = (
        f"{model}, tested on {','.join(result.folds)}, seeds {','.join(map(str, result.seeds))}, "
        f"{coverage} test clips, {'; '.join(machines)}, {first.created[:10]}"
    )
    # Speeds of unlike machines do not average: those of the first record's alone count.
    alike = [r for r in records if _machine(r) == _machine(first)]
    speeds = {
        key: sum(r.metric(key) for r in alike) / len(alike) for key in ("train_clips_per_s", "predict_clips_per_s")
    }
    cells = {column.key: _score_cell(pooled(records, column.key), column, where) for column in scores}
    cells |= {
        "params": measured(first.metric("parameters") / MEGA, "M", f"{model}, exact"),
        "macs": measured(first.metric("macs_module_only") / GIGA, "G", f"{model}, module-only rule"),
        "macs_full": measured(first.metric("macs_full") / GIGA, "G", f"{model}, full rule"),
        "train_clips_per_s": measured(speeds["train_clips_per_s"], "clips/s", f"{where}, augmentation included"),
        "predict_clips_per_s": measured(speeds["predict_clips_per_s"], "clips/s", f"{where}, model alone, batch 32"),
    }
    return Row(label, label, cells)


def _score_cell(result: Pooled, column: Column, where: str) -> Cell:
    sd = f", sd over folds {result.fold_sd:.1f}" if len(result.folds) > 1 else ""
    interval = None if result.correct is None else wilson_interval(result.correct, result.clips)
    several = len(result.seeds) > 1
    return Cell(
        None,
        result.value,
        column.unit,
        MEASURED,
        where + sd,
        n=result.clips,
        ci=interval,
        seeds=result.seeds if several else (),
        sd=result.seed_sd if several else None,
    )


def _machine(record: TrainedRun) -> str:
    environment = record.environment
    return (
        f"{environment.device}, {environment.torch_threads} threads, {environment.precision}, "
        f"attention {environment.attention or 'unknown'}"
    )
