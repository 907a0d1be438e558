"""What a comparison shows at a glance: balanced accuracy, the baseline, the majority class, recall per class.

Shown where the comparison has a recorded baseline; earlier comparisons keep their tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.experiments.recipe import baseline_settings
from reproduce.metrics.balanced import balanced_accuracy, balanced_interval, recalls
from reproduce.metrics.intervals import wilson_interval
from reproduce.records.predictions import load_predictions
from reproduce.records.records import Records
from reproduce.records.runs import BaselineRun, ScoredRun, TrainedRun
from reproduce.tables.base import Cell, Column, Row, Table, TableInputs, measured
from reproduce.tables.pairs import paired_text
from reproduce.tables.scores import correct_clips

BALANCED = Column("balanced", "Balanced", "%", 1)
BASELINE, BASELINE_LABEL, MAJORITY = "baseline", "logistic regression", "majority class"
TOP5_CLASSES = 10  # fewest classes for which a top-5 says something
WORST = 3  # classes that a note names
OWN_DATASETS = ("csv", "folder")
METRICS = ("top1", "top5", "verb_top1", "noun_top1", "action_top1", "map", "mauc", "d_prime")


def baselines_of(records: Records, group: Sequence[TrainedRun]) -> list[BaselineRun]:
    """The baseline on the very clips of each fold of a group, by fold; empty where a fold has none.

    Of several, the one with most of the runs' settings; of those, the newest.
    """
    wanted = {(run.data_key, run.test_splits): run for run in group}
    chosen: dict[tuple[str, ...], tuple[tuple[int, str], BaselineRun]] = {}
    for run in records.newest(BaselineRun):
        same = wanted.get((run.data_key, run.test_splits))
        if same is None or (same.content and run.content and same.content != run.content):
            continue
        settings = baseline_settings(same.recipe, same.front_end.seconds)
        rank = (sum(run.record.experiment.get(name) == value for name, value in settings.items()), run.created)
        if run.test_splits not in chosen or rank >= chosen[run.test_splits][0]:
            chosen[run.test_splits] = rank, run
    complete = {*chosen} == {run.test_splits for run in group}
    return [chosen[splits][1] for splits in sorted(chosen)] if complete else []


def baseline_score(baselines: Sequence[BaselineRun], metric: str) -> float:
    """The mean of a metric over folds, weighted by clips."""
    return sum(run.metric(metric) * run.metric("clips") for run in baselines) / sum(
        run.metric("clips") for run in baselines
    )


def with_glance(table: Table, inputs: TableInputs, group: Sequence[TrainedRun]) -> Table:
    """The comparison with its baseline, or the same table where none is recorded for all of its folds.

    Args:
        table: rows by model.
        inputs: of the table.
        group: runs behind the rows.
    """
    baselines = baselines_of(inputs.records, group)
    if not baselines:
        return table
    by_model: dict[str, list[TrainedRun]] = {}
    for run in group:
        by_model.setdefault(run.model, []).append(run)
    clips = {model: _outcomes(inputs, runs) for model, runs in by_model.items()}
    clips[BASELINE_LABEL] = _outcomes(inputs, baselines)
    rows = [*(_with_balanced(row, clips.get(row.key)) for row in table.rows if not row.is_ratio)]
    rows.append(_with_balanced(_baseline_row(baselines), clips[BASELINE_LABEL]))
    majority = _majority_row(baselines, clips[BASELINE_LABEL])
    rows += [majority] if majority else []
    rows += [row for row in table.rows if row.is_ratio]
    notes = (
        *table.notes,
        *_baseline_notes(baselines),
        *_paired_notes(clips, baselines[0].unit),
        *_worst_notes(group[0], clips),
        *_validation_notes(by_model),
    )
    recall = _recall_table(table.name, group[0], clips)
    blocks = (*table.blocks, *([recall] if recall else []))
    return replace(table, columns=_columns(table, group[0], clips), rows=tuple(rows), notes=notes, blocks=blocks)


def _columns(table: Table, run: TrainedRun, clips: dict[str, _Outcomes | None]) -> tuple[Column, ...]:
    """Top-5 needs enough classes; balanced accuracy is another number only where classes are unequal, or unknown."""
    few = max(map(len, run.classes.values())) < TOP5_CLASSES
    own = run.dataset in OWN_DATASETS
    hidden = ({"top5"} if few else set()) | ({"macs"} if own else set())  # the paper's rule is about the paper's tables
    columns = [column for column in table.columns if column.key not in hidden]
    known = next((outcomes for outcomes in clips.values() if outcomes is not None), None)
    if known is not None and (own or known.unequal):
        place = next((i for i, column in enumerate(columns) if column.key == "top1"), -1) + 1
        columns.insert(place, BALANCED)
    return tuple(columns)


# --- clips ---


@dataclass(frozen=True, kw_only=True)
class _Outcomes:
    """The test clips of one row, folds put together.

    Args:
        clip_ids: (n,).
        correct: (n,) share of correct seeds.
        classes: (n,) class indices.
        units: (n,) recording or speaker of each clip; None where every clip is one.
    """

    clip_ids: np.ndarray
    correct: np.ndarray
    classes: np.ndarray
    units: np.ndarray | None

    @property
    def unequal(self) -> bool:
        """Whether the classes have different numbers of clips."""
        counts = np.bincount(self.classes)
        return len(set(counts[counts > 0].tolist())) > 1


def _outcomes(inputs: TableInputs, runs: Sequence[ScoredRun]) -> _Outcomes | None:
    """None without stored predictions, or for clips with several labels or heads."""
    by_clip: dict[str, list[float]] = {}
    classes: dict[str, int] = {}
    units: dict[str, str] = {}
    for run in runs:
        stored = load_predictions(inputs.records_dir, run)
        if stored is None or run.multilabel or set(stored.logits) != {DEFAULT_HEAD}:
            return None
        ids = [str(clip) for clip in stored.clip_ids]
        for clip, right in zip(ids, correct_clips(stored, "top1").tolist(), strict=True):
            by_clip.setdefault(clip, []).append(float(right))
        classes |= dict(zip(ids, stored.targets[DEFAULT_HEAD].argmax(axis=1).tolist(), strict=True))
        if stored.groups is not None:
            units |= dict(zip(ids, map(str, stored.groups), strict=True))
    names = sorted(by_clip)
    return _Outcomes(
        clip_ids=np.array(names, np.str_),
        correct=np.array([sum(by_clip[name]) / len(by_clip[name]) for name in names]),
        classes=np.array([classes[name] for name in names], np.int64),
        units=np.array([units[name] for name in names]) if len(units) == len(names) else None,
    )


def _with_balanced(row: Row, outcomes: _Outcomes | None) -> Row:
    if outcomes is None:
        return row
    value = balanced_accuracy(outcomes.correct, outcomes.classes)
    interval = balanced_interval(outcomes.correct, outcomes.classes, outcomes.units)
    cell = replace(
        measured(value, "%", "mean recall over the classes with test clips; bootstrap interval"),
        n=len(outcomes.correct),
        ci=interval,
    )
    return replace(row, cells={**row.cells, BALANCED.key: cell})


# --- rows ---


def _baseline_row(baselines: Sequence[BaselineRun]) -> Row:
    first = baselines[0]
    where = f"{first.model}: logistic regression on log-mel statistics, tested on {_folds(baselines)}, {first.day}"
    cells: dict[str, Cell] = {}
    total = sum(run.metric("clips") for run in baselines)
    for name in METRICS:
        if not all(name in run.metrics for run in baselines) or any(np.isnan(run.metrics[name]) for run in baselines):
            continue
        value = baseline_score(baselines, name)
        correct = None
        if name.endswith("top1"):
            correct = sum(int(run.metric(name.replace("top1", "correct"))) for run in baselines)
        interval = None if correct is None else wilson_interval(correct, int(total))
        unit = "" if name == "d_prime" else "%"
        cells[name] = replace(measured(value, unit, where), n=int(total), ci=interval)
    return Row(BASELINE, BASELINE_LABEL, cells)


def _majority_row(baselines: Sequence[BaselineRun], outcomes: _Outcomes | None) -> Row | None:
    """What a classifier scores that always names the most frequent class of the training clips."""
    if outcomes is None:
        return None
    names = baselines[0].classes[DEFAULT_HEAD]
    correct, total = 0, 0
    for run in baselines:
        shares = run.record.details.get("majority_correct", {})
        correct, total = correct + int(shares.get(DEFAULT_HEAD, 0)), total + int(run.metric("clips"))
    which = ", ".join(sorted({run.majority.get(DEFAULT_HEAD, "") for run in baselines}))
    present = len(set(outcomes.classes.tolist()))
    cells = {
        "top1": replace(
            measured(100.0 * correct / total, "%", f"always {which}, the most frequent class of the training clips"),
            n=total,
            ci=wilson_interval(correct, total),
        ),
        BALANCED.key: measured(100.0 / present, "%", f"one of {present} classes with test clips"),
    }
    return Row(MAJORITY, MAJORITY, cells) if len(names) > 1 else None


def _folds(runs: Iterable[ScoredRun]) -> str:
    return ", ".join(sorted({run.fold for run in runs}))


# --- notes ---


def _baseline_notes(baselines: Sequence[BaselineRun]) -> list[str]:
    strengths = sorted({float(value) for run in baselines for value in run.record.details.get("strength", {}).values()})
    chosen = ", ".join(f"{value:g}" for value in strengths)
    majority = ", ".join(sorted({name for run in baselines for name in run.majority.values()}))
    return [
        "Balanced accuracy is the mean recall over classes. Baseline: logistic regression (scikit-learn) on mean, "
        "deviation, mean step and 5th and 95th percentile of 64 log-mels over time, standardised; C "
        f"{chosen}, chosen on training clips. Majority class of the training clips: {majority}."
    ]


def _paired_notes(clips: dict[str, _Outcomes | None], unit: str) -> list[str]:
    """Every model against the baseline on the clips that both have."""
    baseline = clips[BASELINE_LABEL]
    notes = []
    for model, outcomes in clips.items():
        if model == BASELINE_LABEL or baseline is None or outcomes is None:
            continue
        shared, ours, theirs = np.intersect1d(outcomes.clip_ids, baseline.clip_ids, return_indices=True)
        if len(shared):
            units = None if baseline.units is None else baseline.units[theirs]
            gains = outcomes.correct[ours] - baseline.correct[theirs]
            notes.append(paired_text(model, BASELINE_LABEL, gains, units, unit))
    return notes


def _worst_notes(run: TrainedRun, clips: dict[str, _Outcomes | None]) -> list[str]:
    names = run.classes.get(DEFAULT_HEAD, ())
    notes = []
    for model, outcomes in clips.items():
        if model == BASELINE_LABEL or outcomes is None:
            continue
        values = recalls(outcomes.correct, outcomes.classes, len(names))
        counts = np.bincount(outcomes.classes, minlength=len(names))
        order = [int(i) for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
        worst = ", ".join(f"{names[i]} {values[i]:.0f} % of {counts[i]:,}" for i in order[:WORST])
        best = f"{names[order[-1]]} {values[order[-1]]:.0f} %"
        notes.append(f"Recall of {model}: lowest {worst}; highest {best} (all classes: --format csv or json).")
    return notes


def _validation_notes(by_model: dict[str, list[TrainedRun]]) -> list[str]:
    """The epoch that is best on the validation clips, which the result does not use."""
    parts = []
    for model, runs in by_model.items():
        for run in runs:
            key = f"validation_{run.headline}"
            curve = [(epoch[key], int(epoch["epoch"])) for epoch in run.history if epoch.get(key) is not None]
            if curve:
                best, at = max(curve, key=lambda point: (point[0], -point[1]))
                seed = f" seed {run.seed}" if len(runs) > 1 else ""
                parts.append(f"{model}{seed} is best after epoch {at} ({best:.1f} %), last epoch {curve[-1][0]:.1f} %")
    if not parts:
        return []
    return [f"On the validation clips {'; '.join(parts)}; test scores are those of the last epoch."]


def _recall_table(name: str, run: TrainedRun, clips: dict[str, _Outcomes | None]) -> Table | None:
    """Recall of every class and row, for other programs."""
    known = {label: outcomes for label, outcomes in clips.items() if outcomes is not None}
    names = run.classes.get(DEFAULT_HEAD, ())
    if not known or not names:
        return None
    values = {label: recalls(o.correct, o.classes, len(names)) for label, o in known.items()}
    counts = {label: np.bincount(o.classes, minlength=len(names)) for label, o in known.items()}
    rows = tuple(
        Row(
            class_name,
            class_name,
            {
                label: replace(measured(float(column[i]), "%", "recall"), n=int(counts[label][i]))
                for label, column in values.items()
                if not np.isnan(column[i])
            },
        )
        for i, class_name in enumerate(names)
    )
    columns = tuple(Column(label, label, "%", 1) for label in known)
    return Table(f"{name} recall", "Recall per class", columns, rows, for_programs=True)
