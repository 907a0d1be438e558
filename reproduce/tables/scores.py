"""Scores of runs as cells: the mean over seeds with its bootstrap interval, and paired differences of two models.

Runs are sequences of records that differ in the seed alone. Intervals and tests come from the stored predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.metrics.bootstrap import (
    MAP_RESAMPLES,
    RESAMPLES,
    centred,
    map_replicates,
    mean_and_sd,
    mean_replicates,
    percentile_interval,
    resample_counts,
    two_sided_p,
)
from reproduce.metrics.intervals import mcnemar, wilson_interval
from reproduce.metrics.scores import action_correct, mean_average_precision, top_k_correct
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.tables.base import CLIPS, MEASURED, NOT_RUN, POINTS, Cell, Column, Row, run_conditions

Runs = Sequence[TrainedRun]


SAME_SCORE = 0.01  # points between a record and its predictions: more than rounding makes them another run's


@dataclass(frozen=True)
class Scored:
    """One run's test clips, sorted by id, under one metric.

    Args:
        clip_ids: (n,). value: per cent.
        right: (n,) bool, None for mAP. replicates: (resamples,) per cent.
    """

    clip_ids: np.ndarray
    value: float
    right: np.ndarray | None
    replicates: np.ndarray


@dataclass(frozen=True)
class Paired:
    """First minus second on the clips that both tested.

    Args:
        value: points, of the means over seeds. ci, p, resamples: of the paired bootstrap.
        clips: shared ones.
        seeds: of the two runs that McNemar's test takes. only_first, only_second: clips that just one of them got
            right; None for mAP.
    """

    value: float
    ci: tuple[float, float]
    p: float
    resamples: int
    clips: int
    seeds: tuple[int, int]
    only_first: int | None
    only_second: int | None


class RunScores:
    """Cells of runs whose predictions lie under `records_dir`; every file is read and resampled once."""

    def __init__(self, records_dir: Path) -> None:
        self.records_dir = records_dir
        self._scored: dict[tuple[str, str, bytes], Scored] = {}
        self._counts: dict[tuple[int, int], np.ndarray] = {}

    def cell(self, runs: Runs, column: Column, metric: str, paper: float | None = None, why: str = "") -> Cell:
        """Mean over seeds of a metric of the records, with the interval where the predictions are there.

        Args:
            paper: the paper's number. why: reason of the cell where there are no runs.

        Raises:
            InputError: predictions that cannot be read, or that score otherwise than their record says.
        """
        if not runs:
            return Cell(paper, None, column.unit, NOT_RUN, why)
        values = [record.metrics.get(metric, math.nan) for record in runs]
        for record, value in zip(runs, values, strict=True):
            if math.isnan(value):
                why = f"not run: record {record.key} holds no {column.title} (it was not a number)"
                return Cell(paper, None, column.unit, NOT_RUN, why)
        mean, sd = mean_and_sd(values)
        return Cell(
            paper,
            mean,
            column.unit,
            MEASURED,
            run_conditions(*runs),
            n=runs[0].test_kept,
            ci=self._interval(runs, metric, mean),
            listed=runs[0].test_listed,
            seeds=tuple(record.seed for record in runs),
            sd=sd,
        )

    def _interval(self, runs: Runs, metric: str, mean: float) -> tuple[float, float] | None:
        replicates = []
        for record in runs:
            scored = self.scored(record, metric)
            if scored is None:
                return None
            recorded = record.metrics[metric]
            if not abs(scored.value - recorded) <= SAME_SCORE:
                raise InputError(
                    f"{self.records_dir / str(record.predictions)}: scores {metric} {scored.value:.2f}, but record "
                    f"{record.key} says {recorded}: restore the file, or train again with --run all"
                )
            replicates.append(scored.replicates)
        low, high = _interval_around(np.mean(replicates, axis=0), mean, metric)
        return max(low, 0.0), min(high, 100.0)  # centring can carry them beyond

    def scored(self, record: TrainedRun, metric: str, clip_ids: np.ndarray | None = None) -> Scored | None:
        """A run's predictions (of these clips alone) under a metric; None where the file is absent."""
        key = (str(record.predictions), metric, b"" if clip_ids is None else clip_ids.tobytes())
        if key not in self._scored:
            stored = load_predictions(self.records_dir, record)
            if stored is None:
                return None
            kept = np.sort(stored.clip_ids.astype(np.str_)) if clip_ids is None else clip_ids
            self._scored[key] = self._score(stored.of_clips(kept), metric)
        return self._scored[key]

    def _score(self, stored: StoredPredictions, metric: str) -> Scored:
        right = right_clips(stored, metric)
        if right is None:
            logits, targets = stored.logits[DEFAULT_HEAD], stored.targets[DEFAULT_HEAD]
            value = mean_average_precision(targets, logits).value
            replicates = map_replicates(targets, logits, self._resampled(len(stored), MAP_RESAMPLES))
        else:
            value = 100.0 * float(right.mean())
            replicates = mean_replicates(right, self._resampled(len(stored), RESAMPLES))
        return Scored(stored.clip_ids, value, right, replicates)

    def _resampled(self, clips: int, resamples: int) -> np.ndarray:
        """The same resamples for every run on as many clips, which are sorted: that is what pairs them."""
        key = (clips, resamples)
        if key not in self._counts:
            self._counts[key] = resample_counts(clips, resamples)
        return self._counts[key]

    def paired(self, first: Runs, second: Runs, metric: str) -> Paired | str:
        """The paired comparison of two models, or why there is none."""
        absent = [r.key for r in (*first, *second) if self.scored(r, metric) is None]
        if absent:
            return f"the stored predictions of {', '.join(absent)} are absent"
        shared = self._shared_clips(first, second, metric)
        if not len(shared):
            return "they share no test clip"
        if not self._same_targets(first[0], second[0], shared):
            return "their shared clips carry other targets: they are of different data"
        a, b = ([self._on(record, metric, shared) for record in runs] for runs in (first, second))
        value = float(np.mean([run.value for run in a]) - np.mean([run.value for run in b]))
        differences = np.mean([run.replicates for run in a], axis=0) - np.mean([run.replicates for run in b], axis=0)
        i, j = _lowest_common_seed(first, second)
        right_a, right_b = a[i].right, b[j].right
        return Paired(
            value,
            _interval_around(differences, value, metric),
            two_sided_p(centred(differences, value) if metric == "map" else differences),
            int((~np.isnan(differences)).sum()),
            len(shared),
            (first[i].seed, second[j].seed),
            None if right_a is None or right_b is None else int((right_a & ~right_b).sum()),
            None if right_a is None or right_b is None else int((right_b & ~right_a).sum()),
        )

    def _shared_clips(self, first: Runs, second: Runs, metric: str) -> np.ndarray:
        """Ids that every run tested, sorted."""
        ids = [scored.clip_ids for r in (*first, *second) if (scored := self.scored(r, metric)) is not None]
        if all(np.array_equal(ids[0], other) for other in ids[1:]):
            return ids[0]
        return np.array(sorted(set.intersection(*(set(map(str, these)) for these in ids))), np.str_)

    def _on(self, record: TrainedRun, metric: str, clip_ids: np.ndarray) -> Scored:
        whole = self.scored(record, metric)
        if whole is not None and np.array_equal(whole.clip_ids, clip_ids):
            return whole
        part = self.scored(record, metric, clip_ids)
        assert part is not None  # `paired` has asked for every file
        return part

    def _same_targets(self, first: TrainedRun, second: TrainedRun, clip_ids: np.ndarray) -> bool:
        a, b = (load_predictions(self.records_dir, record) for record in (first, second))
        if a is None or b is None or a.targets.keys() != b.targets.keys():
            return False
        ours, theirs = a.of_clips(clip_ids).targets, b.of_clips(clip_ids).targets
        return all(np.array_equal(ours[head], theirs[head]) for head in ours)


def interval_notes(rows: Sequence[Row], columns: Mapping[Column, str]) -> list[str]:
    """What the intervals of these rows are; nothing where there is none."""
    cells = [(cell, metric) for c, metric in columns.items() for row in rows if (cell := row.cells.get(c.key))]
    with_interval = [(cell, metric) for cell, metric in cells if cell.ci is not None]
    if not with_interval:
        return []
    text = f"{RESAMPLES:,} resamples"
    if any(metric == "map" for _, metric in with_interval):
        text = f"{MAP_RESAMPLES:,} resamples, moved so that their mean is the score (repeated clips lift mAP)"
    notes = [
        f"Intervals: 95 % bootstrap over test clips, percentiles of {text}. They know nothing of the spread over "
        "training runs, which ± gives where several seeds were run."
    ]
    shares = [cell for cell, metric in with_interval if metric != "map" and cell.unit == "%"]
    without_width = {(cell.measured, cell.n) for cell in shares if cell.measured in (0.0, 100.0) and cell.n}
    for value, clips in sorted(without_width):
        low, high = wilson_interval(clips if value else 0, clips)
        notes.append(
            f"Resampling gives no width where {'all' if value else 'none'} of {clips:,} clips "
            f"{'are' if value else 'is'} right: Wilson's 95 % interval is [{low:.1f}, {high:.1f}]."
        )
    return notes


def right_clips(stored: StoredPredictions, metric: str) -> np.ndarray | None:
    """Whether each clip counts as right under "top1", "verb_top5", "action_top1", ..., (n,) bool; None for "map".

    Raises:
        ValueError: a metric that is neither.
    """
    if metric == "map":
        return None
    head, _, top = metric.rpartition("_")
    if not top.removeprefix("top").isdecimal():
        raise ValueError(f"metric {metric!r} is no accuracy")
    k, classes = int(top.removeprefix("top")), {name: rows.argmax(axis=1) for name, rows in stored.targets.items()}
    if head == "action":
        return action_correct(stored.logits, classes, k)
    return top_k_correct(stored.logits[head or DEFAULT_HEAD], classes[head or DEFAULT_HEAD], k)


def _interval_around(replicates: np.ndarray, value: float, metric: str) -> tuple[float, float]:
    return percentile_interval(centred(replicates, value) if metric == "map" else replicates)


def _lowest_common_seed(first: Runs, second: Runs) -> tuple[int, int]:
    """Places of the runs that McNemar's test takes: one of each, of the lowest seed that both ran, if any."""
    ours, theirs = ([record.seed for record in runs] for runs in (first, second))
    common = sorted(set(ours) & set(theirs))
    return (ours.index(common[0]), theirs.index(common[0])) if common else (0, 0)


# --- cells and rows of differences ----------------------------------------------------------------------------------


def difference_row(
    key: str, label: str, first: Runs, second: Runs, columns: Mapping[Column, str], scores: RunScores, why: str
) -> tuple[Row, list[str]]:
    """First minus second in every column, and a note a column with the tests.

    Args:
        columns: column -> metric of the records.
        why: reason of the cells where one of the two has no runs.
    """
    cells, notes = {}, []
    for column, metric in columns.items():
        cell, note = _difference(label, first, second, column, metric, scores, why)
        cells[column.key] = cell
        notes += [note] if note else []
    return Row(key, label, cells), notes


def _difference(
    label: str, first: Runs, second: Runs, column: Column, metric: str, scores: RunScores, why: str
) -> tuple[Cell, str]:
    if not first or not second:
        return Cell(None, None, POINTS, NOT_RUN, why), ""
    values = [scores.cell(runs, column, metric) for runs in (first, second)]
    if values[0].measured is None or values[1].measured is None:
        reason = next(cell.conditions for cell in values if cell.measured is None)
        return Cell(None, None, POINTS, NOT_RUN, reason), ""
    paired = scores.paired(first, second, metric)
    if isinstance(paired, str):
        value = values[0].measured - values[1].measured
        cell = Cell(None, value, POINTS, MEASURED, f"difference of the two cells, not paired: {paired}")
        return cell, f"{label}, {column.title}: not paired, for {paired}."
    conditions = f"paired bootstrap, {p_text(paired)}"
    seeds = tuple(record.seed for record in first)
    same = seeds == tuple(record.seed for record in second)
    sd = _sd_of_differences(first, second, metric) if same else None
    cell = Cell(
        None, paired.value, POINTS, MEASURED, conditions, paired.clips, paired.ci, None, seeds if same else (), sd
    )
    return cell, _paired_note(label, column, paired)


def _sd_of_differences(first: Runs, second: Runs, metric: str) -> float | None:
    pairs = [(a.metrics[metric], b.metrics[metric]) for a, b in zip(first, second, strict=True)]
    return mean_and_sd([a - b for a, b in pairs if not math.isnan(a - b)])[1]


def _paired_note(label: str, column: Column, paired: Paired) -> str:
    text = (
        f"{label}, {column.title}: {paired.value:+.1f} points [{paired.ci[0]:+.1f}, {paired.ci[1]:+.1f}] on the same "
        f"{paired.clips:,} test clips, paired bootstrap {p_text(paired)}"
    )
    if paired.only_first is not None and paired.only_second is not None:
        a, b = paired.seeds
        text += (
            f"; {f'seed {a}' if a == b else f'seeds {a} and {b}'}: only the first is right on {paired.only_first:,}, "
            f"only the second on {paired.only_second:,}, exact McNemar p = "
            f"{mcnemar(paired.only_first, paired.only_second):.3g}"
        )
    return text + "."


def p_text(paired: Paired) -> str:
    """A bootstrap p-value can be no smaller than its resamples allow."""
    smallest = 2 / (paired.resamples + 1)
    return f"p <= {paired.p:.2g}" if paired.p <= smallest else f"p = {paired.p:.2g}"


def paper_difference_row(key: str, label: str, row: Row, columns: Sequence[Column]) -> Row | None:
    """Measured minus paper in every column that has both; None where none has."""
    cells = {}
    for column in columns:
        cell = row.cells.get(column.key)
        if cell is not None and cell.measured is not None and cell.paper is not None:
            where = f"measured here minus the paper's {cell.paper:.{column.decimals}f}"
            cells[column.key] = Cell(None, cell.measured - cell.paper, POINTS, MEASURED, where, cell.n)
    return Row(key, label, cells) if cells else None


def clips_cell(runs: Runs, paper: float | None = None) -> Cell:
    """How many of the listed test clips could be used: the coverage of a row."""
    kept, listed = runs[0].test_kept, runs[0].test_listed
    return Cell(paper, kept, CLIPS, MEASURED, run_conditions(*runs), kept, listed=listed)
