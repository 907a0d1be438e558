"""The two models that a group of runs compares, and how wide that comparison is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

from reproduce.paper import MODELS
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.runs import TrainedRun


def compared_models(group: Sequence[TrainedRun]) -> tuple[str, ...]:
    """Return the names of the two models that a group compares, AST first; () where there are no two.

    They are both models of a group of two. Of more, they are AST and MAST: of one size where there is one, and of two
    such pairs the one with more runs.
    """
    runs = Counter(run.model for run in group)
    if len(runs) == 2:
        return tuple(sorted(runs))
    of_family = [{run.model: run.size for run in group if run.family == family} for family in MODELS]
    pairs = list(product(*of_family))
    sizes = {model: size for models in of_family for model, size in models.items()}
    return max(pairs, key=lambda pair: (sizes[pair[0]] == sizes[pair[1]], sum(runs[m] for m in pair)), default=())


def compared_runs(group: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Return model -> runs of `compared_models`, on folds and seeds that both have; {} where they share none."""
    names = compared_models(group)
    if not names:
        return {}
    ordered = sorted(group, key=lambda run: (run.seed, run.test_splits))
    shared = runs_side_by_side({name: [run for run in ordered if run.model == name] for name in names})
    return dict(shared) if all(shared.values()) else {}


def width(group: Sequence[TrainedRun]) -> tuple[int, int]:
    """Return the distinct test clips on which a group compares two models, then all its runs: what orders groups.

    A few folds of many clips say more than many runs on few clips.
    """
    runs = next(iter(compared_runs(group).values()), [])
    return sum({run.test_splits: run.test_kept for run in runs}.values()), len(group)
