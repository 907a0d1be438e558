"""Two recorded runs side by side, scored from their stored predictions; on the clips both have, if asked. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError, first_of
from reproduce.metrics.bootstrap import MAP_RESAMPLES
from reproduce.metrics.headline import score
from reproduce.metrics.intervals import wilson_interval
from reproduce.metrics.paired import clustered_difference, discordant_clips, paired_difference, resampled_map
from reproduce.records.naming import by_settings, known_names, matching_runs, pair_by_fold, scored_runs
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import ScoredRun, SearchRun, TrainedRun
from reproduce.records.store import load_records
from reproduce.tables.base import Column, Row, Table, measured
from reproduce.tables.notes import marked_name
from reproduce.tables.score_cells import mcnemar_text, p_text
from reproduce.tables.scores import correct_clips
from reproduce.tables.units import bootstrap_text, shared_unit, sources_of, unit_of, units_text

CLIPS_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared.

    Args:
        runs: of one model with one seed; several where it was tested on several folds.
        stored: their predictions, put together.
    """

    runs: tuple[ScoredRun, ...]
    stored: StoredPredictions

    @property
    def name(self) -> str:
        """The run's key, or the model of several folds."""
        return self.runs[0].key if len(self.runs) == 1 else f"{self.runs[0].corpus}/{self.runs[0].model}"

    @property
    def listed(self) -> int:
        """Test clips that the data list."""
        return sum(run.test_listed for run in self.runs)


def with_predictions(records_dir: Path) -> list[ScoredRun]:
    """The newest run of every key that stored its predictions."""
    return [run for run in scored_runs(load_records(records_dir)) if run.predictions is not None]


def find_record(records_dir: Path, key: str) -> ScoredRun:
    """The newest run with predictions whose key begins with `key`; InputError if there is none or several.

    A search and a training may share a key, which names the training.
    """
    runs = with_predictions(records_dir)
    matching = [run for run in runs if run.key.startswith(key)]
    trained = {run.key for run in matching if not isinstance(run, SearchRun)}
    matching = [run for run in matching if not (isinstance(run, SearchRun) and run.key in trained)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        keys = first_of([run.key for run in matching], CLIPS_NAMED)
        raise InputError(f"{records_dir}: {len(matching)} keys begin with {key!r} ({keys}): give more digits")
    raise InputError(f"{records_dir}: no run with predictions has the key or name {key!r} (known: {known_names(runs)})")


def find_side(records_dir: Path, text: str) -> list[list[ScoredRun]]:
    """The run of a key, or those of the one model that a name stands for, by settings, the newest settings first.

    Raises:
        InputError: no run, several keys that begin so, or a name of several models.
    """
    runs = with_predictions(records_dir)
    named = [run for run in matching_runs(runs, text) if not run.key.startswith(text)]
    if not named:
        return [[find_record(records_dir, text)]]
    models = sorted({f"{text.split('/')[0]}/{run.model}" for run in named})
    if len(models) > 1:
        raise InputError(f"{records_dir}: {text!r} has several models: name one, {' or '.join(models)}")
    return by_settings(named)


def _left_out_note(text: str, found: Sequence[Sequence[ScoredRun]], used: Sequence[ScoredRun]) -> list[str]:
    """What else the name stands for; [] for nothing."""
    keys = {run.key for run in used}
    others = [run for group in found for run in group if run.key not in keys]
    if not others:
        return []
    named = ", ".join(f"{run.key} ({_settings_text(run)})" for run in others[:CLIPS_NAMED])
    more = f" and {len(others) - CLIPS_NAMED} more" if len(others) > CLIPS_NAMED else ""
    return [f"{text}: compared is {_settings_text(*used)}; not {named}{more}, which `compare` takes by key."]


def _settings_text(*runs: ScoredRun) -> str:
    first = runs[0]
    recipe = f"lr {first.lr:g}, epochs {first.epochs}, " if isinstance(first, TrainedRun) else ""
    return f"{recipe}tested on {','.join(run.fold for run in runs)}, seed {first.seed}"


def compare(records_dir: Path, first_key: str, second_key: str, on_intersection: bool) -> Table:
    """Scores of two runs, and the paired test.

    Args:
        records_dir: folder of the records.
        first_key: key of the first run or its first digits, or its name, see `records.naming`.
        second_key: of the second. A name stands for the runs of one model at its newest settings, on the folds
            that the other has too.
        on_intersection: score both on the clips that both have, rather than insist on equal sets.

    Raises:
        InputError: a run or its predictions are absent, the clips differ (without `on_intersection`), none is
            shared, or the shared clips carry other targets.
    """
    found = [find_side(records_dir, key) for key in (first_key, second_key)]
    chosen = pair_by_fold(found[0][0], found[1][0])
    sides = [Side(runs=runs, stored=_joined([_stored(records_dir, run) for run in runs])) for runs in chosen]
    ids = [set(map(str, side.stored.clip_ids)) for side in sides]
    shared = np.array(sorted(ids[0] & ids[1]), dtype=np.str_)
    _check_sets(ids[0], ids[1], on_intersection)
    first, second = (side.stored.of_clips(shared) for side in sides)
    _check_targets(first, second)
    runs = [side.runs[0] for side in sides]
    pair = _paired(runs, first, second)
    multilabel = runs[0].multilabel
    scores = [score(predictions.logits, predictions.targets, multilabel) for predictions in (first, second)]
    columns = tuple(
        Column(name, name.replace("_", " "), "%", 1)
        for name in scores[0]
        if name.endswith(("top1", "top5", "map", "mauc"))
    )
    rows = tuple(_row(side, values, columns) for side, values in zip(sides, scores, strict=True))
    coverage = (f"{len(side.stored)} of {side.listed} listed in {side.name}" for side in sides)
    notes = (
        f"{len(shared)} clips in both runs; {', '.join(coverage)}.",
        *(_paired_note(pair, head, multilabel) for head in first.targets),
        *_left_out_note(first_key, found[0], chosen[0]),
        *_left_out_note(second_key, found[1], chosen[1]),
    )
    return Table("compare", f"Two runs on the same clips of {_data_name(runs)}", columns, rows, notes=notes)


def _joined(parts: Sequence[StoredPredictions]) -> StoredPredictions:
    """The predictions of several folds; the embeddings of unlike models are left out."""
    if len(parts) == 1:
        return parts[0]
    heads = parts[0].logits
    ids = np.concatenate([part.clip_ids for part in parts])
    if len(np.unique(ids)) < len(ids):
        raise InputError("the folds share test clips: they are of different states of the data; name a fold or a key")
    grouped = [part.groups for part in parts if part.groups is not None]
    return StoredPredictions(
        ids,
        {head: np.concatenate([part.logits[head] for part in parts]) for head in heads},
        {head: np.concatenate([part.targets[head] for part in parts]) for head in heads},
        np.zeros((len(ids), 0)),
        np.concatenate(grouped) if len(grouped) == len(parts) else None,
    )


def _data_name(runs: Sequence[ScoredRun]) -> str:
    """What the clips are; two runs may name their data differently, and a stand-in is always named as one."""
    return " and ".join(dict.fromkeys(map(marked_name, runs)))


def _stored(records_dir: Path, run: ScoredRun) -> StoredPredictions:
    stored = load_predictions(records_dir, run)
    if stored is None:
        raise InputError(f"{records_dir / str(run.predictions)}: the predictions of {run.key} are absent")
    return stored


def _check_sets(first: set[str], second: set[str], on_intersection: bool) -> None:
    shared, alone = len(first & second), sorted(first ^ second)
    if not shared:
        raise InputError("the two runs have no clip in common: nothing can be compared")
    if alone and not on_intersection:
        raise InputError(
            f"{len(alone)} clips are in one run alone ({first_of(alone, CLIPS_NAMED)}): "
            f"add --on-intersection to score the {shared} that are in both"
        )


def _check_targets(first: StoredPredictions, second: StoredPredictions) -> None:
    if first.targets.keys() != second.targets.keys():
        raise InputError(f"the runs have other heads: {', '.join(first.targets)} and {', '.join(second.targets)}")
    for head, targets in first.targets.items():
        if targets.shape != second.targets[head].shape or not (targets == second.targets[head]).all():
            raise InputError(f"the shared clips carry other {head} targets in the two runs: they are of different data")


def _row(side: Side, scores: dict[str, float | int], columns: Sequence[Column]) -> Row:
    clips, run = int(scores["clips"]), side.runs[0]
    folds = ",".join(run.fold for run in side.runs)
    where = f"{run.model}, seed {run.seed}, tested on {folds}, {run.created}"
    cells = {}
    for column in columns:
        correct = scores.get(column.key.replace("top1", "correct")) if column.key.endswith("top1") else None
        interval = None if correct is None else wilson_interval(int(correct), clips)
        cells[column.key] = replace(measured(float(scores[column.key]), "%", where), n=clips, ci=interval)
    label = f"{run.model} {run.key[:8]}" if len(side.runs) == 1 else side.name
    return Row(side.name, label, cells)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The predictions of two sides on the same clips, in the same order.

    Args:
        first: of the first side.
        second: of the second.
        sources: clip id -> the unit that it is cut from.
        unit: "recording", "video", "speaker", "group" or "clip".
    """

    first: StoredPredictions
    second: StoredPredictions
    sources: Mapping[str, str]
    unit: str

    @property
    def clips(self) -> list[str]:
        """(n,) clip ids."""
        return [str(clip) for clip in self.first.clip_ids]

    @property
    def units(self) -> list[str]:
        """(n,) the unit of each clip."""
        return [self.sources[clip] for clip in self.clips]

    @property
    def over(self) -> str:
        """What a bootstrap draws: "the 12 speakers of these clips"."""
        return units_text(len(set(self.units)), self.unit)


def _paired(runs: Sequence[ScoredRun], first: StoredPredictions, second: StoredPredictions) -> _Pair:
    """A side that stored no units takes those of the other."""
    run, stored = (runs[1], second) if first.groups is None else (runs[0], first)
    sources = sources_of(run, stored)
    return _Pair(first=first, second=second, sources=sources, unit=unit_of(run, sources))


def _paired_note(pair: _Pair, head: str, multilabel: bool) -> str:
    """The paired test of one head: the bootstrap of the mAP for several labels per clip, McNemar's test for one."""
    sides = pair.first, pair.second
    if multilabel:
        ours, theirs = (resampled_map(s.targets[head], s.logits[head], np.array(pair.units)) for s in sides)
        difference = paired_difference(theirs, ours)
        low, high = difference.ci
        return (
            f"{head}: mAP of the second minus that of the first {difference.value:+.1f} points [{low:+.1f}, "
            f"{high:+.1f}], paired bootstrap over {pair.over}, {MAP_RESAMPLES} resamples, {p_text(difference)}."
        )
    metric = "top1" if head == DEFAULT_HEAD else f"{head}_top1"
    right = [correct_clips(side, metric) for side in sides]
    shared = shared_unit(pair.unit, pair.sources)
    text = f"{head}: {mcnemar_text('the first', 'the second', discordant_clips(*right), shared)}"
    if len(set(pair.units)) > 1:  # one unit has no spread
        difference = clustered_difference(right[1].astype(float) - right[0], pair.units)
        text += f"; {bootstrap_text(('the first', 'the second'), difference.value, difference.ci, pair.over)}"
    return text + "."
