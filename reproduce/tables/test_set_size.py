"""What the size of a test set alone makes of the paper's margins, from the paper's own numbers. No torch here."""

from __future__ import annotations

import math

from reproduce.experiments.paper_studies import PaperStudy
from reproduce.metrics.intervals import Z_95
from reproduce.paper import Claim, Paper
from reproduce.tables.claim_values import source_of

Z_80 = 0.8416212335729143  # quantile of the standard normal distribution at 0.8
SD_OF_MAP = 0.1  # points, of AST's three released runs without weight averaging: 44.95, 44.83, 44.75


def chance_text(paper: Paper, claim: Claim) -> str:
    """Give the claim's margins with their chance: "22.2 ± 3.3", "0.1 (16 seeds)"; "" for other claims.

    Rows that the paper quotes are taken to be tested on as many clips as its own. Of several rivals of one number the
    nearest counts.
    """
    if claim.kind not in ("accuracy_gain", "ablation_order"):
        return ""
    nearest: dict[str, str] = {}
    for ours, rival in claim.pairs():
        if ours not in nearest or _number(paper, rival) > _number(paper, nearest[ours]):
            nearest[ours] = rival
    return ", ".join(dict.fromkeys(_pair_text(paper, *pair) for pair in nearest.items()))


def _number(paper: Paper, ref: str) -> float:
    return float(str(paper.resolve(ref)))


def _pair_text(paper: Paper, ours: str, rival: str) -> str:
    first, second = _number(paper, ours), _number(paper, rival)
    source = source_of(ours)
    if source.metric == "map":
        return f"{first - second:.1f} ({seeds_needed(first - second)} seeds)"
    return f"{first - second:.1f} ± {half_interval(first, second, _test_clips(paper, source.study)):.1f}"


def half_interval(first: float, second: float, clips: int) -> float:
    """Compute half the 95 % interval of the difference of two accuracies in per cent, of `clips` independent clips."""
    return Z_95 * math.sqrt((first * (100 - first) + second * (100 - second)) / clips)


def seeds_needed(margin: float, sd: float = SD_OF_MAP) -> int:
    """Count the training runs per model that show a margin at 95 % with 80 % power; at least two, for their spread.

    Args:
        margin: of the means, in points.
        sd: standard deviation over training runs, in points.
    """
    return max(2, math.ceil(2 * ((Z_95 + Z_80) * sd / margin) ** 2))


def _test_clips(paper: Paper, study: PaperStudy) -> int:
    test = study.clips[1]
    return int(paper.fact(test.used).value) if test.used else test.published
