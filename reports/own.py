"""A short report on own recordings: what was run, without a word on what was not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.data import clip_blocks, environment_blocks
from reports.document import Block, Bullets, Report, Section, Words, words
from reports.errors import mistakes_grid
from reports.figures import drawn_figures
from reports.findings import real_audio_findings
from reports.grids import grid_of, with_blocks
from reports.plots.base import by_model, group_title, groups_of, label_of
from reports.plots.comparisons import comparison_of, comparisons_of
from reports.scores import headline_score
from reports.source import Source
from reports.summary import facts_of
from reproduce.records.measured_runs import SpeedRun
from reproduce.records.records import Records
from reproduce.records.runs import DataRun, TrainedRun
from reproduce.tables import Table
from reproduce.tables.comparison import comparison_table

OWN_DATASETS = ("csv", "folder")


def is_own(records: Records) -> bool:
    """Whether all runs are on own recordings: the report is on them alone, and not on the paper."""
    on_data = [run for run in records if isinstance(run, DataRun)]
    timed = any(isinstance(run, SpeedRun) for run in records)
    return bool(on_data) and not timed and all(run.dataset in OWN_DATASETS for run in on_data)


def own_report(source: Source) -> Report:
    """Scores, curves, confusions and the mistakes worth listening to."""
    results = (
        *map(grid_of, own_parts(source)),
        *drawn_figures(source, "training_curves", "class_differences", "confusion"),
    )
    sections = (
        Section(key="results", title="Results", blocks=results),
        Section(key="mistakes", title="Mistakes worth listening to", blocks=_mistakes(source)),
        Section(key="data", title="Data", blocks=clip_blocks(source.inputs.records)),
        Section(key="machines", title="Machines and versions", blocks=environment_blocks(source.inputs.records)),
    )
    return Report(
        title="Models on own recordings",
        facts=facts_of(source.inputs.records),
        summary=_summary(source),
        body=tuple(section for section in sections if section.blocks),
    )


def own_parts(source: Source) -> list[Table]:
    """A table per group of runs on own recordings that may stand side by side."""
    names = dict.fromkeys(run.dataset for run in source.inputs.records if isinstance(run, DataRun))
    tables = (comparison_table(source.inputs, name) for name in names if name in OWN_DATASETS)
    return [part for table in tables for part in with_blocks(table) if part.rows]


def _summary(source: Source) -> tuple[Block, ...]:
    sentences = tuple(real_audio_findings(source, comparisons_of(source.inputs.records)))
    figures = drawn_figures(source, "accuracy_cost")
    others = tuple(text for group in groups_of(source.inputs.records) for text in _scores_texts(group))
    return (Bullets(items=(*sentences, *others)), *figures)


def _scores_texts(group: Sequence[TrainedRun]) -> Iterator[Words]:
    """The score of every model that no comparison names, over its own folds."""
    comparison = comparison_of(group)
    named = {*comparison.pair, *comparison.others} if comparison else set()
    for model in dict.fromkeys(run.model for run in group if run.model not in named):
        own = by_model([run for run in group if run.model == model])[model]
        score = headline_score(own)
        yield words(f"{group_title(own)}: {score.title} {label_of(model)} {score.value:.1f} %.")


def _mistakes(source: Source) -> tuple[Block, ...]:
    grids = [
        mistakes_grid(source.inputs, runs)
        for group in groups_of(source.inputs.records)
        for runs in by_model(group).values()
    ]
    return tuple(grid for grid in grids if grid is not None)
