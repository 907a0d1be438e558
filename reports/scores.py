"""A model's score with its interval, as every figure and sentence of the report takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reproduce.metrics.intervals import wilson_interval
from reproduce.records.pooled import pooled
from reproduce.records.runs import TrainedRun

TITLES = {"top1": "Top-1", "action_top1": "Action top-1", "map": "mAP"}


@dataclass(frozen=True, kw_only=True)
class Score:
    """The headline metric of one model over its folds and seeds.

    Args:
        title: name of the metric.
        value: in per cent.
        interval: 95 % interval in per cent, None where there is none.
        interval_name: what the interval is.
        clips: distinct test clips.
    """

    title: str
    value: float
    interval: tuple[float, float] | None
    interval_name: str
    clips: int

    @property
    def text(self) -> str:
        """ "60.2 % [55.4, 64.9]"."""
        bounds = "" if self.interval is None else f" [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"
        return f"{self.value:.1f} %{bounds}"


def headline_score(runs: Sequence[TrainedRun]) -> Score:
    """The score that the runs of one model are judged by."""
    metric = runs[0].headline
    result = pooled(runs, metric)
    return Score(
        title=TITLES.get(metric, metric),
        value=result.value,
        interval=None if result.correct is None else wilson_interval(result.correct, result.clips),
        interval_name="95 % Wilson intervals",
        clips=result.clips,
    )
