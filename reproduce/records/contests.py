"""Candidates that were timed in turns, in one precision or in several: who is compared with whom, and by what ratio."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from reproduce.experiments.families import family
from reproduce.records.runs import MIXED, SpeedRun

TIMM, SQUARE = "timm MViTv2", "square"  # names of candidates; the second is a word in that of our twin of timm's model


def is_mixed(run: SpeedRun) -> bool:
    """Whether the candidates of the contest compute in several precisions."""
    return run.conditions.get("precision") == MIXED


def candidate_name(run: SpeedRun) -> str:
    """The candidate's name without its precision."""
    return run.candidate.removesuffix(f", {run.precision}")


def pairs(group: Sequence[SpeedRun]) -> list[tuple[SpeedRun, SpeedRun]]:
    """Pairs (slower, faster) whose ratio says something.

    Every candidate against the first, the baseline; in a contest of several precisions also AST against MAST, and
    timm's MViTv2 against ours, within each precision.

    Args:
        group: the runs of one contest, the baseline last.
    """
    baseline = group[-1]
    found = [(run, baseline) for run in group[:-1]]
    if is_mixed(baseline):
        for run in group[:-1]:
            found += [(run, twin) for twin in group[:-1] if twin.precision == run.precision and _twins(run, twin)]
    return found


def _twins(run: SpeedRun, twin: SpeedRun) -> bool:
    name, other = candidate_name(run), candidate_name(twin)
    ours = family(other) == "mast"
    if name.startswith(TIMM):
        return ours and SQUARE in other
    return family(name) == "ast" and ours and SQUARE not in other


def time_ratio(run: SpeedRun, baseline: SpeedRun) -> tuple[float, float, float] | None:
    """Lower quartile, median and upper quartile of the rounds' ratios of time; None where they have none."""
    if run.failure or baseline.failure:
        return None
    if baseline.candidate == run.candidates[0]:
        return run.metric("time_ratio_q1"), run.metric("time_ratio"), run.metric("time_ratio_q3")
    if run.candidate == run.candidates[0]:
        inverse = time_ratio(baseline, run)
        return None if inverse is None else (1 / inverse[2], 1 / inverse[1], 1 / inverse[0])
    samples = (one.record.details.get("samples_s", ()) for one in (run, baseline))
    ratios = [ours / theirs for ours, theirs in zip(*samples, strict=False)]  # of equal batches
    if len(ratios) < 2:
        return (ratios[0], ratios[0], ratios[0]) if ratios else None
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    return q1, median, q3
