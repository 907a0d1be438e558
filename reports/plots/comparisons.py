"""The two models that a finding compares, and what other models reach on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.plots.base import first_of_corpora, groups_of
from reproduce.records.pairs import compared_runs, width
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models trained alike on the same clips.

    Args:
        pair: model -> its runs, AST first, on the folds and seeds that both have.
        others: further model -> its runs, where it has all folds of the pair; perhaps of fewer seeds.
    """

    pair: Mapping[str, Sequence[TrainedRun]]
    others: Mapping[str, Sequence[TrainedRun]]

    @property
    def runs(self) -> list[TrainedRun]:
        """The runs of the pair."""
        return [run for of_model in self.pair.values() for run in of_model]


def comparison_of(group: Sequence[TrainedRun]) -> Comparison | None:
    """The comparison in a group of runs that may stand side by side; None where no two models can be compared."""
    pair = compared_runs(group)
    if not pair:
        return None
    folds = {run.test_splits for runs in pair.values() for run in runs}
    others: dict[str, list[TrainedRun]] = {}
    for model in dict.fromkeys(run.model for run in group if run.model not in pair):
        runs = runs_side_by_side({**pair, model: [run for run in group if run.model == model]})[model]
        if {run.test_splits for run in runs} == folds:
            others[model] = runs
    return Comparison(pair=pair, others=others)


def comparisons_of(records: Records) -> list[Comparison]:
    """Every comparison on real recordings, the one with the most test clips first.

    Runs by a named recipe have tables of their own.
    """
    groups = [group for group in groups_of(records) if not group[0].recipe_name and not group[0].standin]
    found = [comparison for group in groups if (comparison := comparison_of(group))]
    return sorted(found, key=lambda comparison: width(comparison.runs), reverse=True)


def by_width(records: Records) -> tuple[list[Comparison], list[Comparison]]:
    """The widest comparison on each corpus, and all others."""
    return first_of_corpora(comparisons_of(records), lambda comparison: comparison.runs[0].corpus_key)
