"""What the measurements rest on: the clips of every data set that was used, and the machines."""

from __future__ import annotations

from collections.abc import Iterable

from reports.conditions import days
from reports.document import Block, Grid, Paragraph, Words, code, with_code, words
from reports.plots.base import data_title, plural
from reproduce.datasets import dataset_spec
from reproduce.datasets.index import Problem
from reproduce.experiments.paper_studies import paper_studies
from reproduce.paper import Paper
from reproduce.records.records import Records
from reproduce.records.runs import Run, SearchRun, TrainedRun

NOTHING = "–"
PROBLEMS_NAMED = 5
AUDIT = "python -m reproduce data audit NAME --data NAME=DIR"


def paper_clips(paper: Paper) -> Grid:
    """Clips that the paper used and that the data sets list."""
    rows = []
    parts = dict.fromkeys((study.dataset, part) for study in paper_studies() for part in study.clips if part.used)
    for dataset, part in parts:
        counts = [paper.fact(key).value if key else None for key in (part.used, part.listed)]
        share = 100 * float(counts[0]) / float(counts[1]) if counts[0] and counts[1] else None
        shown = (
            dataset_spec(dataset).title,
            part.part,
            *map(_count, counts),
            NOTHING if share is None else f"{share:.1f}",
        )
        rows.append(tuple(map(words, shown)))
    return Grid(
        key="paper-clips",
        caption=words("Clips that the paper used, by its text."),
        header=("Data set", "Part", "Clips used", "Clips listed", "Used (%)"),
        rows=tuple(rows),
        left=frozenset({0, 1}),
    )


def _count(value: int | float | str | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def clip_blocks(records: Records) -> tuple[Block, ...]:
    """Clips behind the runs, and what was wrong with some."""
    trained = [*records.of_kind(TrainedRun), *records.of_kind(SearchRun)]
    if not trained:
        return (Paragraph(text=words("No model was trained. ", code(AUDIT), " checks a copy of a data set.")),)
    by_data: dict[tuple[str, ...], list[TrainedRun]] = {}
    for run in trained:
        by_data.setdefault(_data_row(run), []).append(run)
    rows = [(*data, str(_problem_count(runs)), str(len(runs))) for data, runs in sorted(by_data.items())]
    header = ("Data set", "Kind", "Listed", "Usable", "Trained on", "Test, listed", "Test, used", "Problems", "Runs")
    notes = (
        words(
            "The training and test clips of a run are those of its splits or folds; clips that could not be read are "
            "left out and counted as problems."
        ),
        *(note for data, runs in sorted(by_data.items()) for note in _problem_notes(data[0], runs[0].problems)),
        words(code(AUDIT), " lists what is present, broken, silent or duplicate in a copy of a data set."),
    )
    grid = Grid(
        key="clips",
        caption=words("Clips behind the trained models."),
        header=header,
        rows=tuple(tuple(map(words, row)) for row in rows),
        left=frozenset({0, 1}),
        notes=notes,
    )
    return (grid,)


def _data_row(run: TrainedRun) -> tuple[str, ...]:
    """Data set, kind and counts: equal for runs on the same clips."""
    counts = (run.listed, run.kept, run.train_kept, run.test_listed, run.test_kept)
    return (data_title(run), "synthetic" if run.standin else "real", *map(_count, counts))


def _problem_count(runs: Iterable[TrainedRun]) -> int:
    return max(len(run.problems) for run in runs)


def _problem_notes(title: str, problems: tuple[Problem, ...]) -> list[Words]:
    """The first few problems of a data set by name."""
    named = sorted(f"{p.clip_id} ({p.reason})" if p.clip_id else p.message for p in problems)
    if not named:
        return []
    more = f" and {len(named) - PROBLEMS_NAMED} more" if len(named) > PROBLEMS_NAMED else ""
    return [with_code(f"{title}: {', '.join(named[:PROBLEMS_NAMED])}{more}.")]


def environment_blocks(records: Records) -> tuple[Block, ...]:
    """One row per kind of record, machine and versions."""
    if not records:
        return (Paragraph(text=words("Nothing was measured.")),)
    created: dict[tuple[str, ...], list[str]] = {}
    for run in records:
        created.setdefault(_environment_row(run), []).append(run.created)
    grid = Grid(
        key="environment",
        caption=words(f"Machines and versions behind the {plural(len(records), 'record')}."),
        header=("Records", "Machine", "Precision", "Attention", "torch", "timm", "Commit", "Dates", "Count"),
        rows=tuple(tuple(map(words, (*row, days(times), str(len(times))))) for row, times in sorted(created.items())),
        left=frozenset(range(8)),
    )
    return (grid,)


def _environment_row(run: Run) -> tuple[str, ...]:
    environment = run.environment
    versions = (environment.libraries.get(name, "") for name in ("torch", "timm"))
    row = (run.kind, environment.machine, environment.precision, environment.attention, *versions, environment.commit)
    return tuple(text or NOTHING for text in row)
