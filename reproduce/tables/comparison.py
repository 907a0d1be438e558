"""Both models trained on the same folds: the esc50 comparison, and the search for its learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reproduce.intervals import mcnemar, wilson_interval
from reproduce.metrics import top_k_correct
from reproduce.predictions import load_predictions
from reproduce.records import RunRecord, number
from reproduce.selection import common_runs, comparisons, cross_validated, runs_of_all, searches
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
    register_table,
    run_conditions,
)

PROBLEMS_NAMED = 10
COMPARISON_COLUMNS = (
    Column("top1", "Top-1", "%", 1),
    Column("top5", "Top-5", "%", 1),
    Column("params", "#Params", "M", 2),
    Column("macs", "MACs, module-only", "G", 2),
    Column("macs_full", "MACs, full", "G", 2),
    Column("train_clips_per_s", "Training", "clips/s", 1),
    Column("predict_clips_per_s", "Inference", "clips/s", 1),
)


@register_table("esc50", "cross-validate AST and MAST from scratch on a folder in ESC-50's layout")
def esc50(inputs: TableInputs) -> Table:
    """Both models on the same folds, one block a protocol. The paper has no ESC-50 table: nothing here is quoted."""
    groups = comparisons(inputs.records, "esc50")
    blocks = tuple(_comparison(inputs, group, f"esc50 {number}") for number, group in enumerate(groups, start=1))
    if len(blocks) == 1:
        return _renamed(blocks[0], "esc50")
    notes = () if blocks else (f"not run: no record on esc50 under {inputs.records_dir}",)
    return Table("esc50", "ESC-50 layout: AST and MAST from scratch", (), (), notes=notes, blocks=blocks)


@register_table("tune", "search the learning rate for both models alike, on validation folds")
def tune(inputs: TableInputs) -> Table:
    """Validation accuracy by learning rate and model; the test fold is neither trained on nor looked at."""
    runs = searches(inputs.records, "esc50")
    models = list(dict.fromkeys(run.experiment["model"] for run in sorted(runs, key=lambda r: r.experiment["model"])))
    rows: dict[float, dict[str, Cell]] = {}
    for run in runs:
        correct, clips = int(number(run.metrics["correct"])), int(number(run.metrics["clips"]))
        where = f"{run_conditions(run)}, validation fold {run.experiment['test_splits'][0]}"
        cell = Cell(None, number(run.metrics["top1"]), "%", MEASURED, where, clips, wilson_interval(correct, clips))
        rows.setdefault(run.experiment["recipe"]["lr"], {})[run.experiment["model"]] = cell
    return Table(
        "tune",
        "Validation top-1 by learning rate",
        tuple(Column(model, model, "%", 1) for model in models),
        tuple(Row(f"lr={rate:g}", f"lr {rate:g}", cells) for rate, cells in rows.items()),
        notes=() if runs else (f"not run: no search on esc50 under {inputs.records_dir}",),
    )


def _renamed(table: Table, name: str) -> Table:
    return Table(name, table.title, table.columns, table.rows, table.notes, table.blocks)


def _comparison(inputs: TableInputs, group: Sequence[RunRecord], name: str) -> Table:
    first = group[0]
    by_model: dict[str, list[RunRecord]] = {}
    for record in sorted(group, key=lambda r: r.experiment["model"]):
        by_model.setdefault(record.experiment["model"], []).append(record)
    by_model = {model: runs for model, runs in runs_of_all(by_model).items() if runs}
    left_out = len(group) - sum(map(len, by_model.values()))
    rows = [_comparison_row(model, records) for model, records in by_model.items()]
    if len(rows) == 2:
        rows.append(
            ratio_row(f"{rows[0].label} : {rows[1].label}", rows[0].cells, rows[1].cells, COMPARISON_COLUMNS[2:])
        )
    classes = len(next(iter(first.dataset["classes"].values())))
    folds = sorted({r.experiment["test_splits"][0] for r in group})
    everything = first.experiment["train_splits"] + first.experiment["test_splits"]
    recipe, front_end = first.experiment["recipe"], first.experiment["front_end"]
    epochs = f"{recipe['epochs']} epoch{'s' if recipe['epochs'] > 1 else ''}"
    notes = [
        f"Test folds run: {', '.join(folds)} of {', '.join(sorted(everything))}; chance is {100 / classes:.1f} %. "
        "Intervals are 95 % Wilson intervals over test clips; they know nothing of the spread over training runs.",
        f"Every model: {epochs}, batch {recipe['batch_size']}, AdamW lr {recipe['lr']:g} with "
        f"{recipe['warmup_steps']} warm-up steps and a cosine, mixup {recipe['mixup']:g}, SpecAugment "
        f"{recipe['freq_mask']}/{recipe['time_mask']}, input 1 x {front_end['mels']} x {front_end['frames']} at a "
        f"{front_end['frame_shift_ms']:g} ms hop, from {first.experiment['weights']}; "
        f"weight decay {recipe['weight_decay']:g} (none on biases, norms and AST's position embedding), gradients "
        f"clipped at {recipe['clip_norm']:g}, drop path {recipe['drop_path_rate']:g}; weights of the last epoch.",
    ]
    if left_out:
        notes.append(f"Left out: {left_out} runs of folds or seeds that not every model has run yet.")
    notes += _pairing_notes(inputs, by_model)
    notes += _problem_notes(group)
    title = f"{first.scale} scale: {classes} classes in ESC-50's layout, {len(folds)}-fold test"
    return Table(name, title, COMPARISON_COLUMNS, tuple(rows), notes=tuple(notes))


def _comparison_row(model: str, records: Sequence[RunRecord]) -> Row:
    result = cross_validated(records)
    first = records[0]
    machines = sorted({_machine(record) for record in records})
    coverage = f"{sum(r.dataset['test_kept'] for r in records)} of {sum(r.dataset['test_listed'] for r in records)}"
    where = (
        f"{model}, folds {','.join(result.folds)}, seeds {','.join(map(str, result.seeds))}, {coverage} test clips, "
        f"{'; '.join(machines)}, {first.created[:10]}"
    )
    sd = f", sd over folds {result.fold_sd:.1f}" if len(result.folds) > 1 else ""
    ci = wilson_interval(result.correct, result.clips)
    metrics = first.metrics
    # Speeds of unlike machines do not average: those of the first record's alone count.
    alike = [r for r in records if _machine(r) == _machine(first)]
    speeds = {
        key: sum(number(r.metrics[key]) for r in alike) / len(alike)
        for key in ("train_clips_per_s", "predict_clips_per_s")
    }
    cells = {
        "top1": Cell(None, result.top1, "%", MEASURED, where + sd, n=result.clips, ci=ci),
        "top5": Cell(None, result.top5, "%", MEASURED, where, n=result.clips),
        "params": measured(number(metrics["parameters"]) / MEGA, "M", f"{model}, exact"),
        "macs": measured(number(metrics["macs_module_only"]) / GIGA, "G", f"{model}, module-only rule"),
        "macs_full": measured(number(metrics["macs_full"]) / GIGA, "G", f"{model}, full rule"),
        "train_clips_per_s": measured(speeds["train_clips_per_s"], "clips/s", f"{where}, augmentation included"),
        "predict_clips_per_s": measured(speeds["predict_clips_per_s"], "clips/s", f"{where}, model alone"),
    }
    return Row(model, model, cells)


def _machine(record: RunRecord) -> str:
    environment = record.environment
    return (
        f"{environment['device']}, {environment['torch_threads']} threads, {environment['precision']}, "
        f"attention {environment.get('attention', 'unknown')}"
    )


def _pairing_notes(inputs: TableInputs, by_model: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """The paired test of two models, each clip once: further seeds repeat the same clips and are left out of it."""
    if len(by_model) != 2:
        return []
    (name_a, runs_a), (name_b, runs_b) = by_model.items()
    shared_a, shared_b = common_runs(runs_a, runs_b)
    seed = min((record.seed or 0 for record in shared_a), default=0)
    only_a = only_b = clips = 0
    for a, b in zip(shared_a, shared_b, strict=True):
        if (a.seed or 0) != seed:
            continue
        right_a, right_b = _right_clips(inputs, a), _right_clips(inputs, b)
        if right_a is None or right_b is None:
            return [f"Paired test not run: the stored predictions of {a.key} or {b.key} are absent."]
        both = sorted(right_a.keys() & right_b.keys())
        clips += len(both)
        only_a += sum(right_a[c] and not right_b[c] for c in both)
        only_b += sum(right_b[c] and not right_a[c] for c in both)
    if not clips:
        return []
    return [
        f"Paired on the same {clips} test clips (seed {seed}): only {name_a} is right on {only_a}, "
        f"only {name_b} on {only_b}; exact McNemar p = {mcnemar(only_a, only_b):.3g}."
    ]


def _right_clips(inputs: TableInputs, record: RunRecord) -> dict[str, bool] | None:
    """Clip id -> whether the stored prediction is right; None where the file is absent."""
    stored = load_predictions(inputs.records_dir, record)
    if stored is None:
        return None
    right = top_k_correct(stored.logits["label"], stored.targets["label"].argmax(axis=1))
    return dict(zip(map(str, stored.clip_ids), map(bool, right), strict=True))


def _problem_notes(group: Sequence[RunRecord]) -> list[str]:
    """Clips and rows that could not be used, or were used with a warning, over all runs of the group."""
    problems = {tuple(problem) for record in group for problem in record.dataset["problems"]}
    notes = []
    for what, wanted in (("Not used", True), ("Used with a warning", False)):
        these = (problem for problem in problems if problem[2] is wanted)
        named = sorted(f"{clip} ({reason})" if clip else message for clip, reason, _, message in these)
        if named:
            more = f" and {len(named) - PROBLEMS_NAMED} more, see the record" if len(named) > PROBLEMS_NAMED else ""
            notes.append(f"{what}, clips or rows: {len(named)}: {', '.join(named[:PROBLEMS_NAMED])}{more}.")
    return notes
