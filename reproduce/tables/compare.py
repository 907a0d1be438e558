"""Two recorded runs side by side, scored from their stored predictions; on the clips both have, if asked. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.metrics.bootstrap import MAP_RESAMPLES
from reproduce.metrics.headline import score
from reproduce.metrics.intervals import wilson_interval
from reproduce.metrics.paired import discordant_clips, paired_difference, resampled_map
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import SearchRun, TrainedRun
from reproduce.records.store import load_records
from reproduce.tables.base import Column, Row, Table, measured
from reproduce.tables.score_cells import mcnemar_text, p_text
from reproduce.tables.scores import correct_clips

CLIPS_NAMED = 5


def find_record(records_dir: Path, key: str) -> TrainedRun:
    """The newest run with predictions whose key begins with `key`; InputError if there is none or several."""
    stored = load_records(records_dir)
    runs = [run for kind in (TrainedRun, SearchRun) for run in stored.newest(kind) if run.predictions is not None]
    matching = [run for run in runs if run.key.startswith(key)]
    if len(matching) == 1:
        return matching[0]
    what = f"{len(matching)} records begin with {key!r}: give more digits" if matching else f"no run with key {key!r}"
    known = ", ".join(sorted(run.key for run in runs)) or "none"
    raise InputError(f"{records_dir}: {what} (runs with predictions: {known})")


def compare(records_dir: Path, first_key: str, second_key: str, on_intersection: bool) -> Table:
    """Scores of two runs, and the paired test.

    Args:
        records_dir: folder of the records.
        first_key: of the first run, or its first digits.
        second_key: of the second run, or its first digits.
        on_intersection: score both on the clips that both have, rather than insist on equal sets.

    Raises:
        InputError: a run or its predictions are absent, the clips differ (without `on_intersection`), none is
            shared, or the shared clips carry other targets.
    """
    runs = [find_record(records_dir, key) for key in (first_key, second_key)]
    stored = [_stored(records_dir, run) for run in runs]
    ids = [set(map(str, predictions.clip_ids)) for predictions in stored]
    shared = np.array(sorted(ids[0] & ids[1]), dtype=np.str_)
    _check_sets(ids[0], ids[1], on_intersection)
    first, second = (predictions.of_clips(shared) for predictions in stored)
    _check_targets(first, second)
    multilabel = runs[0].multilabel
    scores = [score(predictions.logits, predictions.targets, multilabel) for predictions in (first, second)]
    columns = tuple(
        Column(name, name.replace("_", " "), "%", 1)
        for name in scores[0]
        if name.endswith(("top1", "top5", "map", "mauc"))
    )
    rows = tuple(_row(run, values, columns) for run, values in zip(runs, scores, strict=True))
    coverage = (f"{len(s)} of {run.test_listed} listed in {run.key}" for run, s in zip(runs, stored, strict=True))
    notes = (
        f"{len(shared)} clips in both runs; {', '.join(coverage)}.",
        *(_paired_note(first, second, head, multilabel) for head in first.targets),
    )
    return Table("compare", f"Two runs on the same clips of {_data_name(runs)}", columns, rows, notes=notes)


def _data_name(runs: Sequence[TrainedRun]) -> str:
    """What the clips are; two runs may name their data differently, and a stand-in is always named as one."""
    names = []
    for run in runs:
        variant = f" ({run.variant})" if run.variant else ""
        names.append(f"{run.dataset}{variant}{', synthetic STAND-IN' if run.standin else ''}")
    return " and ".join(dict.fromkeys(names))


def _stored(records_dir: Path, run: TrainedRun) -> StoredPredictions:
    stored = load_predictions(records_dir, run)
    if stored is None:
        raise InputError(f"{records_dir / str(run.predictions)}: the predictions of {run.key} are absent")
    return stored


def _check_sets(first: set[str], second: set[str], on_intersection: bool) -> None:
    shared, alone = len(first & second), sorted(first ^ second)
    if not shared:
        raise InputError("the two runs have no clip in common: nothing can be compared")
    if alone and not on_intersection:
        named = ", ".join(alone[:CLIPS_NAMED]) + (", ..." if len(alone) > CLIPS_NAMED else "")
        raise InputError(
            f"{len(alone)} clips are in one run alone ({named}): "
            f"add --on-intersection to score the {shared} that are in both"
        )


def _check_targets(first: StoredPredictions, second: StoredPredictions) -> None:
    if first.targets.keys() != second.targets.keys():
        raise InputError(f"the runs have other heads: {', '.join(first.targets)} and {', '.join(second.targets)}")
    for head, targets in first.targets.items():
        if targets.shape != second.targets[head].shape or not (targets == second.targets[head]).all():
            raise InputError(f"the shared clips carry other {head} targets in the two runs: they are of different data")


def _row(run: TrainedRun, scores: dict[str, float | int], columns: Sequence[Column]) -> Row:
    clips = int(scores["clips"])
    where = f"{run.model}, seed {run.seed}, tested on {run.fold}, {run.created}"
    cells = {}
    for column in columns:
        correct = scores.get(column.key.replace("top1", "correct")) if column.key.endswith("top1") else None
        interval = None if correct is None else wilson_interval(int(correct), clips)
        cells[column.key] = replace(measured(float(scores[column.key]), "%", where), n=clips, ci=interval)
    return Row(run.key, f"{run.model} {run.key[:8]}", cells)


def _paired_note(first: StoredPredictions, second: StoredPredictions, head: str, multilabel: bool) -> str:
    """The paired test of one head: the bootstrap of the mAP for several labels per clip, McNemar's test for one."""
    if multilabel:
        ours, theirs = (resampled_map(s.targets[head], s.logits[head], first.groups) for s in (first, second))
        difference = paired_difference(theirs, ours)
        low, high = difference.ci
        over = "clips" if first.groups is None else "the units that clips are cut from"
        return (
            f"{head}: mAP of the second minus that of the first {difference.value:+.1f} points [{low:+.1f}, "
            f"{high:+.1f}], paired bootstrap over {over}, {MAP_RESAMPLES} resamples, {p_text(difference)}."
        )
    metric = "top1" if head == DEFAULT_HEAD else f"{head}_top1"
    clips = discordant_clips(correct_clips(first, metric), correct_clips(second, metric))
    return f"{head}: {mcnemar_text('the first', 'the second', clips)}."
