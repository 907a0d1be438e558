"""Scores of runs as cells: the mean over seeds with its interval, and differences of two models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from reproduce.metrics.bootstrap import MAP_RESAMPLES, RESAMPLES, mean_and_sd
from reproduce.metrics.intervals import wilson_interval
from reproduce.metrics.paired import Difference, Discordant
from reproduce.records.runs import TrainedRun
from reproduce.tables.base import CLIPS, POINTS, Cell, Column, Row, not_run
from reproduce.tables.conditions import run_conditions
from reproduce.tables.scores import PairedScores, Runs, RunScores

CLIPS_COLUMN = Column("clips", "Test clips", "clips", 0)


def score_cell(
    scores: RunScores, runs: Runs, column: Column, metric: str, paper: float | None = None, why: str = ""
) -> Cell:
    """Mean over seeds of a metric of the runs, with its interval where their predictions are stored.

    Args:
        scores: resampled scores of the records.
        runs: of one model, differing in the seed alone.
        column: of the cell.
        metric: of the runs.
        paper: the paper's number.
        why: reason of the cell where there are no runs.

    Raises:
        InputError: the predictions cannot be read, or do not give the record's score.
    """
    if not runs:
        return not_run(column.unit, why, paper)
    values = [run.metrics.get(metric, math.nan) for run in runs]
    for run, value in zip(runs, values, strict=True):
        if math.isnan(value):
            why = f"not run: record {run.key} has no {column.title}: it was not a number"
            return not_run(column.unit, why, paper)
    mean, sd = mean_and_sd(values)
    return Cell(
        paper=paper,
        measured=mean,
        unit=column.unit,
        conditions=run_conditions(*runs),
        n=runs[0].test_kept,
        ci=scores.interval(runs, metric, mean),
        listed=runs[0].test_listed,
        seeds=tuple(run.seed for run in runs),
        sd=sd,
    )


def clips_cell(runs: Runs, paper: float | None = None) -> Cell:
    """How many of the listed test clips could be used: the coverage of a row."""
    kept, listed = runs[0].test_kept, runs[0].test_listed
    return Cell(paper=paper, measured=kept, unit=CLIPS, conditions=run_conditions(*runs), n=kept, listed=listed)


def difference_cell(
    scores: RunScores, label: str, first: Runs, second: Runs, column: Column, metric: str
) -> tuple[Cell, list[str]]:
    """First minus second with the paired bootstrap, and a note with the tests; both have runs."""
    values = [score_cell(scores, runs, column, metric) for runs in (first, second)]
    if values[0].measured is None or values[1].measured is None:
        return not_run(POINTS, next(cell.conditions for cell in values if cell.measured is None)), []
    paired = scores.paired(first, second, metric)
    if isinstance(paired, str):
        value = values[0].measured - values[1].measured
        where = f"difference of the two cells, not paired: {paired}"
        return Cell(measured=value, unit=POINTS, conditions=where), [f"{label}, {column.title}: not paired: {paired}."]
    seeds = tuple(run.seed for run in first)
    same = seeds == tuple(run.seed for run in second)
    cell = Cell(
        measured=paired.difference.value,
        unit=POINTS,
        conditions=f"paired bootstrap, {p_text(paired.difference)}",
        n=paired.clips,
        ci=paired.difference.ci,
        seeds=seeds if same else (),
        sd=_sd_of_differences(first, second, metric) if same else None,
    )
    return cell, [_paired_note(f"{label}, {column.title}", paired)]


def paper_difference_row(key: str, label: str, row: Row, columns: Sequence[Column]) -> Row | None:
    """Measured minus paper in every column that has both; None where none has."""
    cells = {}
    for column in columns:
        cell = row.cells.get(column.key)
        if cell is not None and cell.measured is not None and cell.paper is not None:
            where = f"measured here minus the paper's {cell.paper:.{column.decimals}f}"
            cells[column.key] = Cell(measured=cell.measured - cell.paper, unit=POINTS, conditions=where, n=cell.n)
    return Row(key, label, cells) if cells else None


def interval_notes(rows: Sequence[Row], columns: Mapping[Column, str], runs: Iterable[TrainedRun]) -> list[str]:
    """What the intervals of these rows are; nothing where there is none.

    Args:
        rows: of a table.
        columns: column -> metric of the runs.
        runs: behind the rows.
    """
    cells = [(cell, metric) for c, metric in columns.items() for row in rows if (cell := row.cells.get(c.key))]
    with_interval = [(cell, metric) for cell, metric in cells if cell.ci is not None]
    if not with_interval:
        return []
    text = f"{RESAMPLES:,} resamples"
    if any(metric == "map" for _, metric in with_interval):
        text = f"{MAP_RESAMPLES:,} resamples, centred on the score (repeated clips raise the mAP of a resample)"
    units = sorted({run.unit for run in runs} - {"clip"})
    over = f"over the {' or '.join(f'{unit}s' for unit in units)} of the test clips" if units else "over test clips"
    notes = [
        f"Intervals: 95 % bootstrap {over}, percentiles of {text}. They do not include the spread over "
        "training runs, which ± gives where several seeds were run."
    ]
    shares = [cell for cell, metric in with_interval if metric != "map" and cell.unit == "%"]
    without_width = {(cell.measured, cell.n) for cell in shares if cell.measured in (0.0, 100.0) and cell.n}
    for value, clips in sorted(without_width):
        low, high = wilson_interval(clips if value else 0, clips)
        notes.append(
            f"Resampling gives no width where {'all' if value else 'none'} of {clips:,} clips "
            f"{'are' if value else 'is'} correct: Wilson's 95 % interval is [{low:.1f}, {high:.1f}]."
        )
    return notes


def p_text(difference: Difference) -> str:
    """ "p = 0.12"; "p <= 0.002" for the smallest value that the resamples allow."""
    smallest = 2 / (difference.resamples + 1)
    return f"p {'<=' if difference.p <= smallest else '='} {difference.p:.2g}"


def mcnemar_text(first: str, second: str, clips: Discordant, shared_unit: str = "") -> str:
    """The exact paired test in words.

    Args:
        first: name of a model.
        second: name of the other.
        clips: of the test.
        shared_unit: what several clips are cut from, such as "video"; "" where they are independent.
    """
    return (
        f"only {first} is correct on {clips.only_first:,}, only {second} on {clips.only_second:,}, exact McNemar "
        f"p = {clips.p:.3g}{as_if_independent(shared_unit)}"
    )


def as_if_independent(shared_unit: str) -> str:
    """The caveat of a count over clips, where several are cut from one `shared_unit`; "" where none are."""
    return f" (as if clips of one {shared_unit} were independent)" if shared_unit else ""


def _paired_note(what: str, paired: PairedScores) -> str:
    difference, (a, b) = paired.difference, paired.seeds
    shared = paired.unit if paired.units < paired.clips else ""
    clips = f"{paired.clips:,} test clips" + (f" of {paired.units:,} {shared}s" if shared else "")
    text = (
        f"{what}: {difference.value:+.1f} points [{difference.ci[0]:+.1f}, {difference.ci[1]:+.1f}] on the same "
        f"{clips}, paired bootstrap{f' over {shared}s' if shared else ''} {p_text(difference)}"
    )
    if difference.discordant is not None:
        seeds = f"seed {a}" if a == b else f"seeds {a} and {b}"
        text += f"; {seeds}: {mcnemar_text('the first', 'the second', difference.discordant, shared)}"
    return text + "."


def _sd_of_differences(first: Runs, second: Runs, metric: str) -> float | None:
    return mean_and_sd([a.metric(metric) - b.metric(metric) for a, b in zip(first, second, strict=True)])[1]
