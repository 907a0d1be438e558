"""Two recorded runs side by side, scored from their stored predictions; on the clips both have, if asked. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.metrics.bootstrap import (
    MAP_RESAMPLES,
    centred,
    map_replicates,
    percentile_interval,
    resample_counts,
    two_sided_p,
)
from reproduce.metrics.headline import score
from reproduce.metrics.intervals import mcnemar, wilson_interval
from reproduce.metrics.scores import top_k_correct
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import SearchRun, TrainedRun
from reproduce.records.store import load_records
from reproduce.tables import MEASURED, Cell, Column, Row, Table

CLIPS_NAMED = 5


def find_record(records_dir: Path, key: str) -> TrainedRun:
    """The newest record whose key begins with `key`; InputError if there is none or several."""
    stored = load_records(records_dir)
    runs = [run for kind in (TrainedRun, SearchRun) for run in stored.newest(kind) if run.predictions is not None]
    found = [run for run in runs if run.key.startswith(key)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} records begin with {key!r}: give more digits" if found else f"no run with key {key!r}"
    known = ", ".join(sorted(run.key for run in runs)) or "none"
    raise InputError(f"{records_dir}: {what} (runs with predictions: {known})")


def compare(records_dir: Path, first_key: str, second_key: str, on_intersection: bool) -> Table:
    """Scores of two runs, and the paired test.

    Args:
        on_intersection: score both on the clips that both have, rather than insist on equal sets.

    Raises:
        InputError: a run or its predictions are absent, the clips differ (without `on_intersection`), none is
            shared, or the shared clips carry other targets.
    """
    records = [find_record(records_dir, key) for key in (first_key, second_key)]
    first, second = (_stored(records_dir, record) for record in records)
    shared = np.array(sorted(set(map(str, first.clip_ids)) & set(map(str, second.clip_ids))), dtype=np.str_)
    _check_sets(first, second, shared, on_intersection)
    runs = [first.of_clips(shared), second.of_clips(shared)]
    _check_targets(*runs)
    multilabel = records[0].multilabel
    tables = [score(run.logits, run.targets, multilabel) for run in runs]
    columns = tuple(
        Column(name, name.replace("_", " "), "%", 1)
        for name in tables[0]
        if name.endswith(("top1", "top5", "map", "mauc"))
    )
    rows = tuple(_row(record, scores, columns) for record, scores in zip(records, tables, strict=True))
    notes = [
        f"{len(shared)} clips in both runs; {_coverage(records[0], first)}, {_coverage(records[1], second)}.",
        *(_paired_map_notes(*runs) if multilabel else _paired_notes(*runs)),
    ]
    return Table("compare", f"Two runs on the same clips of {_data_name(records)}", columns, rows, notes=tuple(notes))


def _data_name(records: list[TrainedRun]) -> str:
    """What the clips are; two runs may name their data differently, and a stand-in is always named as one."""
    names = []
    for record in records:
        variant = f" ({record.variant})" if record.variant else ""
        names.append(f"{record.dataset}{variant}{', synthetic STAND-IN' if record.standin else ''}")
    return " and ".join(dict.fromkeys(names))


def _coverage(record: TrainedRun, stored: StoredPredictions) -> str:
    return f"{len(stored)} of {record.test_listed} listed in {record.key}"


def _stored(records_dir: Path, record: TrainedRun) -> StoredPredictions:
    stored = load_predictions(records_dir, record)
    if stored is None:
        raise InputError(f"{records_dir / str(record.predictions)}: the predictions of {record.key} are absent")
    return stored


def _check_sets(first: StoredPredictions, second: StoredPredictions, shared: np.ndarray, on_intersection: bool) -> None:
    if not len(shared):
        raise InputError("the two runs have no clip in common: nothing can be compared")
    alone = sorted(set(map(str, first.clip_ids)) ^ set(map(str, second.clip_ids)))
    if alone and not on_intersection:
        named = ", ".join(alone[:CLIPS_NAMED]) + (", ..." if len(alone) > CLIPS_NAMED else "")
        raise InputError(
            f"{len(alone)} clips are in one run alone ({named}): "
            f"add --on-intersection to score the {len(shared)} that are in both"
        )


def _check_targets(first: StoredPredictions, second: StoredPredictions) -> None:
    if first.targets.keys() != second.targets.keys():
        raise InputError(f"the runs have other heads: {', '.join(first.targets)} and {', '.join(second.targets)}")
    for head, targets in first.targets.items():
        if targets.shape != second.targets[head].shape or not (targets == second.targets[head]).all():
            raise InputError(f"the shared clips carry other {head} targets in the two runs: they are of different data")


def _row(record: TrainedRun, scores: dict[str, float | int], columns: tuple[Column, ...]) -> Row:
    clips = int(scores["clips"])
    where = f"{record.model}, seed {record.seed}, tested on {record.fold}, {record.created}"
    cells = {}
    for column in columns:
        correct = scores.get(column.key.replace("top1", "correct")) if column.key.endswith("top1") else None
        interval = None if correct is None else wilson_interval(int(correct), clips)
        cells[column.key] = Cell(None, float(scores[column.key]), "%", MEASURED, where, clips, interval)
    return Row(record.key, f"{record.model} {record.key[:8]}", cells)


def _paired_map_notes(first: StoredPredictions, second: StoredPredictions) -> list[str]:
    """Paired bootstrap of every head's mAP: both runs on the same resamples of the clips."""
    notes = []
    counts = resample_counts(len(first), MAP_RESAMPLES)
    for head, targets in first.targets.items():
        scores = [score({head: run.logits[head]}, {head: targets}, True) for run in (first, second)]
        name = next(key for key in scores[0] if key.endswith("map"))
        value = float(scores[1][name]) - float(scores[0][name])
        replicates = [map_replicates(targets, run.logits[head], counts) for run in (first, second)]
        moved = centred(replicates[1] - replicates[0], value)
        low, high = percentile_interval(moved)
        notes.append(
            f"{head}: mAP of the second less that of the first {value:+.1f} points [{low:+.1f}, {high:+.1f}], paired "
            f"bootstrap over clips, {MAP_RESAMPLES} resamples, p = {two_sided_p(moved):.2g}."
        )
    return notes


def _paired_notes(first: StoredPredictions, second: StoredPredictions) -> list[str]:
    notes = []
    for head, targets in first.targets.items():
        classes = targets.argmax(axis=1)
        a, b = top_k_correct(first.logits[head], classes), top_k_correct(second.logits[head], classes)
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        notes.append(
            f"{head}: only the first is right on {only_a}, only the second on {only_b}; "
            f"exact McNemar p = {mcnemar(only_a, only_b):.3g}."
        )
    return notes
