"""The margin between two measured numbers with its 95 % interval, paired over test clips where they are stored.

No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.metrics.bootstrap import centred, percentile_interval, resample_counts
from reproduce.metrics.clusters import CLUSTER_RESAMPLES, cluster_replicates
from reproduce.records.clustered_clips import ClusteredClips, load_clustered_clips
from reproduce.records.runs import ClusteringRun, TrainedRun
from reproduce.tables.claim_values import Value
from reproduce.tables.scores import RunScores

PAIRED, UNPAIRED = "paired", "unpaired"


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Ours minus a rival's, with what its 95 % interval takes into account.

    Args:
        value: in the unit of both numbers.
        interval: lower and upper bound; None where nothing is known of the spread.
        over: what the interval is over, such as "paired, over test clips"; without an interval the reason.
    """

    value: float
    interval: tuple[float, float] | None
    over: str

    @property
    def text(self) -> str:
        """ "+4.4 [3.1, 5.8] (95 %, paired, over test clips)"."""
        if self.interval is None:
            return f"{self.value:+.3g} ({self.over})"
        low, high = self.interval
        return f"{self.value:+.3g} [{low:.3g}, {high:.3g}] (95 %, {self.over})"


def margin(first: Value, second: Value, scores: RunScores) -> Margin:
    """`first` minus `second`.

    The interval over test clips is that of the paired bootstrap, by units of the data set, where the predictions are
    stored, otherwise the unpaired one of two accuracies. The spread over training runs is added where a model has
    several; it decides alone where there is no interval over clips and both models have it.

    Raises:
        InputError: stored predictions or clusters cannot be read.
    """
    value = first.value - second.value
    seeds = [side.seeds_half for side in (first, second) if side.seeds_half is not None]
    paired = _paired_offsets(first, second, scores)
    if not isinstance(paired, str):
        offsets, how = paired, PAIRED
    elif first.clips_half is not None and second.clips_half is not None:
        offsets, how = (math.hypot(first.clips_half, second.clips_half),) * 2, UNPAIRED
    elif len(seeds) == 2:
        offsets, how = (0.0, 0.0), UNPAIRED
    else:
        return Margin(value=value, interval=None, over=f"of single runs, without an interval over test clips: {paired}")
    low, high = (math.hypot(offset, *seeds) for offset in offsets)
    over = " and ".join(name for name, known in (("test clips", any(offsets)), ("training runs", seeds)) if known)
    over = f"{how}, over {over or 'test clips'}"
    if len(seeds) < 2:
        over += ", of single runs: without the spread over training runs"
    return Margin(value=value, interval=(value - low, value + high), over=over)


def _paired_offsets(first: Value, second: Value, scores: RunScores) -> tuple[float, float] | str:
    """How far the paired interval over clips reaches below and above the margin; or why there is none."""
    ours, theirs = ([r for r in side.records if isinstance(r, TrainedRun)] for side in (first, second))
    if ours and theirs:
        paired = scores.paired(ours, theirs, first.metric)
        if isinstance(paired, str):
            return paired
        low, high = paired.difference.ci
        return paired.difference.value - low, high - paired.difference.value
    clustered = [[r for r in side.records if isinstance(r, ClusteringRun)] for side in (first, second)]
    return _clustering_offsets(clustered[0], clustered[1], first.metric, scores)


def _clustering_offsets(
    first: Sequence[ClusteringRun], second: Sequence[ClusteringRun], metric: str, scores: RunScores
) -> tuple[float, float] | str:
    """Of clusterings that stay as they are: their stored clips are resampled, the same for both models."""
    stored = [[load_clustered_clips(scores.records_dir, run) for run in runs] for runs in (first, second)]
    known = [[clips for clips in side if clips is not None] for side in stored]
    if any(len(kept) < len(side) for kept, side in zip(known, stored, strict=True)):
        return "the clusters of the clips are not stored: delete the records of the clusterings and run `table6` again"
    clip_ids = known[0][0].clip_ids
    if not all(np.array_equal(clips.clip_ids, clip_ids) for side in known for clips in side):
        return "the models clustered different clips"
    counts = resample_counts(len(clip_ids), CLUSTER_RESAMPLES)
    ours, theirs = (
        _mean_replicates(runs, clips, metric, counts) for runs, clips in zip((first, second), known, strict=True)
    )
    low, high = percentile_interval(centred(ours - theirs, 0.0))
    return -low, high


def _mean_replicates(
    runs: Sequence[ClusteringRun], clips: Sequence[ClusteredClips], metric: str, counts: np.ndarray
) -> np.ndarray:
    """Mean over training runs of their means over clustering seeds, in every resample."""
    by_run: dict[str, list[np.ndarray]] = {}
    for run, stored in zip(runs, clips, strict=True):
        replicates = cluster_replicates(stored.labels, stored.clusters, stored.silhouettes, counts)[metric]
        by_run.setdefault(run.of, []).append(replicates)
    return np.mean([np.mean(replicates, axis=0) for replicates in by_run.values()], axis=0)
