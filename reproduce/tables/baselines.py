"""The measured rows that MAST is compared with: AST by two recipes, and the network that the paper quotes as AST [28].

AST trained by MAST's protocol alone would be a weak baseline wherever that protocol suits AST badly. Claims compare
MAST with the stronger of the two recipes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reproduce.experiments.paper_recipes import AST, MAST, MBT, MBT_MODEL
from reproduce.records.runs import TrainedRun


@dataclass(frozen=True)
class Baseline:
    """A row of runs that the paper has no number for.

    Args:
        key: of the row.
        label: of the row.
        model: "ast", or a registered name.
        recipe_name: by which its runs are trained.
    """

    key: str
    label: str
    model: str
    recipe_name: str


AST_BY_MAST = Baseline("ast_same_protocol", "AST, MAST's protocol", "ast", MAST)
AST_BY_AUTHORS = Baseline("ast_own_recipe", "AST, its authors' recipe", "ast", AST)
RETRAINED_MBT = Baseline("mbt_retrained", "AST [28], retrained", MBT_MODEL, MBT)


def mean_score(runs: Sequence[TrainedRun], metric: str) -> float:
    """Mean over seeds; -inf without runs, or where a score is not a number."""
    scores = [run.metrics.get(metric, math.nan) for run in runs]
    return statistics.fmean(scores) if scores and not any(map(math.isnan, scores)) else -math.inf


def stronger(by_recipe: Mapping[str, Sequence[TrainedRun]], metric: str) -> str:
    """The recipe (or label) whose runs score higher; the first of equals."""
    return max(by_recipe, key=lambda recipe: mean_score(by_recipe[recipe], metric))


def stronger_note(by_label: Mapping[str, Sequence[TrainedRun]], metric: str, title: str) -> list[str]:
    """Say which AST claims compare with; nothing where no AST was run.

    Args:
        by_label: label -> runs of AST by one recipe.
        metric: by which the stronger is chosen.
        title: of the metric.
    """
    known = {label: score for label, runs in by_label.items() if (score := mean_score(runs, metric)) > -math.inf}
    if not known:
        return []
    best = stronger(by_label, metric)
    missing = [label for label in by_label if label not in known]
    if missing:
        return [f'Claims compare MAST with "{best}"; "{missing[0]}" was not run, and may be stronger.']
    scores = " and ".join(f"{score:.1f} ({label})" for label, score in known.items())
    return [
        f'Claims compare MAST with the stronger AST, "{best}": {title} {scores}. It is chosen on the test clips, which '
        "can only favour AST."
    ]
