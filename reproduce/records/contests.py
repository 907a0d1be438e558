"""Candidates that were timed in turns, in one precision or in several: who is compared with whom, and by what ratio."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import TypeVar

from reproduce.experiments.families import family
from reproduce.records.measured_runs import MIXED, ScalingRun, SpeedRun
from reproduce.records.records import Records
from reproduce.records.runs import Run

TIMM, SQUARE = "timm MViTv2", "square"  # names of candidates; the second is a word in that of our twin of timm's model


AnyTimed = TypeVar("AnyTimed", SpeedRun, ScalingRun)


def timed_runs(records: Records, kind: type[AnyTimed]) -> list[AnyTimed]:
    """The newest run of what was measured on a machine; one of an idle machine before one of a busy machine.

    Keys do not decide: those of older records hash a name that several processors have.
    """
    newest: dict[tuple[str, str], AnyTimed] = {}
    for run in records.of_kind(kind):
        place = json.dumps(run.record.experiment, sort_keys=True), run.environment.machine
        if place not in newest or _rank(run) >= _rank(newest[place]):
            newest[place] = run
    return list(newest.values())


def _rank(run: Run) -> tuple[bool, str]:
    return not run.environment.busy, run.created


def speed_runs(records: Records) -> list[SpeedRun]:
    """The timings of idle machines, which fill tables and figures; none of a contest that has grown since."""
    return _of_widest_contests(_named([run for run in timed_runs(records, SpeedRun) if not run.environment.busy]))


def scaling_runs(records: Records) -> list[ScalingRun]:
    """The measurements over clip length that fill tables and figures; a busy machine's where there are no others."""
    return _named(timed_runs(records, ScalingRun))


def _of_widest_contests(runs: Sequence[SpeedRun]) -> list[SpeedRun]:
    """Leave out runs whose contest was repeated on the same machine with the same candidates and more."""
    repeats: dict[tuple[str, str, str], list[SpeedRun]] = {}
    for run in runs:
        place = run.environment.machine, run.bench, json.dumps(run.conditions, sort_keys=True)
        repeats.setdefault(place, []).append(run)

    def has_grown(run: SpeedRun, others: Sequence[SpeedRun]) -> bool:
        return any(set(run.candidates) < set(other.candidates) and run.created < other.created for other in others)

    return [run for others in repeats.values() for run in others if not has_grown(run, others)]


def _named(runs: Sequence[AnyTimed]) -> list[AnyTimed]:
    """Leave out runs of "AMD EPYC" where others tell which EPYC: the same machine may be meant, and stand twice."""
    named = {run.environment.device.rpartition(" (")[0] for run in runs} - {""}
    return [run for run in runs if run.environment.device not in named]


def is_mixed(run: SpeedRun) -> bool:
    """Whether the candidates of the contest compute in several precisions."""
    return run.conditions.get("precision") == MIXED


def candidate_name(run: SpeedRun) -> str:
    """The candidate's name without its precision."""
    return run.candidate.removesuffix(f", {run.precision}")


def pairs(group: Sequence[SpeedRun]) -> list[tuple[SpeedRun, SpeedRun]]:
    """Pairs (candidate, compared with) whose ratio says something.

    Every candidate with the baseline. In a contest of several precisions those on the same input as the baseline, and
    within each precision AST with MAST, and timm's MViTv2 with ours.

    Args:
        group: the runs of one contest, the baseline last.
    """
    *others, baseline = group
    if not is_mixed(baseline):
        return [(run, baseline) for run in others]
    found = [(run, baseline) for run in others if not _is_square(run)]
    return found + [(run, twin) for run in others for twin in others if _are_twins(run, twin)]


def _is_timm(run: SpeedRun) -> bool:
    return candidate_name(run).startswith(TIMM)


def _is_square(run: SpeedRun) -> bool:
    return _is_timm(run) or SQUARE in candidate_name(run)


def _are_twins(run: SpeedRun, twin: SpeedRun) -> bool:
    """Whether the precision is the same, `twin` is a MAST, and `run` is AST on its input or timm's of its weights."""
    if run.precision != twin.precision or family(candidate_name(twin)) != "mast":
        return False
    return _is_timm(run) if _is_square(twin) else family(candidate_name(run)) == "ast"


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
