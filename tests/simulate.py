"""Two simulations at the size of the paper's data sets: `python -m tests.simulate` runs both and prints their figures.

What rounding of logits costs in mAP on AudioSet's 15,818 x 527, and how often 95 % intervals over EPIC-KITCHENS'
segments contain the truth where segments of one video are alike. The tests run small ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from reproduce.metrics.bootstrap import percentile_interval
from reproduce.metrics.paired import resampled_accuracy
from reproduce.metrics.scores import mean_average_precision

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
AUDIOSET = (15_818, 527)
LABELS_PER_CLIP = 2.7
# Segments of EPIC-KITCHENS-100's 138 validation videos have a median of 35 and a maximum of 564: a log-normal of 9,668.
EPIC_VIDEOS, EPIC_SEGMENTS, EPIC_SIZE_SD = 138, 9_668, 1.2


def map_by_precision(clips: int, classes: int, seed: int, separation: float = 3.2) -> dict[str, float]:
    """mAP in per cent of random multi-label logits that are rounded to each precision.

    Args:
        clips: number of clips.
        classes: number of classes, whose frequencies span three decades.
        seed: of the draws.
        separation: of positives from negatives, in logits; 3.2 gives about the paper's 31 % on AudioSet.
    """
    rng = np.random.default_rng(seed)
    share = np.exp(1.1 * rng.normal(size=classes))
    share = np.clip(LABELS_PER_CLIP * share / share.sum(), 4 / clips, 0.5)
    targets = rng.random((clips, classes)) < share
    logits = (1.3 * rng.standard_normal((clips, classes)) - 6.5 + separation * targets).astype(np.float32)
    return {
        name: mean_average_precision(targets, torch.from_numpy(logits).to(dtype).float().numpy()).value
        for name, dtype in DTYPES.items()
    }


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often a 95 % interval contains the truth, and its mean width in points.

    Args:
        by_segment: share of simulations, of the bootstrap over segments.
        by_video: of the bootstrap over videos.
        width_by_segment: of the former.
        width_by_video: of the latter.
        correlation: of two segments of one video.
    """

    by_segment: float
    by_video: float
    width_by_segment: float
    width_by_video: float
    correlation: float


def coverage_of_intervals(simulations: int, video_sd: float, seed: int = 0) -> Coverage:
    """Coverage for the accuracy on new videos, by the suite's own bootstrap.

    Args:
        simulations: test sets, each of new videos and sizes.
        video_sd: standard deviation over videos of the logit of a segment's chance to be right; 0 for no correlation.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    chances = 1 / (1 + np.exp(-video_sd * rng.normal(size=1_000_000)))
    truth = 100 * chances.mean()
    found: dict[str, list[tuple[bool, float]]] = {"segment": [], "video": []}
    for _ in range(simulations):
        sizes = np.exp(EPIC_SIZE_SD * rng.normal(size=EPIC_VIDEOS))
        sizes = np.maximum(np.round(sizes * EPIC_SEGMENTS / sizes.sum()), 1).astype(int)
        video = np.repeat(np.arange(EPIC_VIDEOS), sizes)
        right = rng.random(len(video)) < rng.choice(chances, EPIC_VIDEOS)[video]
        # A resample of independent segments has a binomial number of right ones: drawn as such, for speed.
        over_segments = 100 * rng.binomial(len(video), right.mean(), 1000) / len(video)
        intervals = {
            "segment": percentile_interval(over_segments),
            "video": resampled_accuracy(right, video.astype(str)).interval,
        }
        for unit, (low, high) in intervals.items():
            found[unit].append((low <= truth <= high, high - low))
    means = {unit: np.mean(np.array(values, float), axis=0) for unit, values in found.items()}
    return Coverage(
        by_segment=float(means["segment"][0]),
        by_video=float(means["video"][0]),
        width_by_segment=float(means["segment"][1]),
        width_by_video=float(means["video"][1]),
        correlation=float(chances.var() / (chances.mean() * (1 - chances.mean()))),
    )


def main() -> None:
    for seed in range(3):
        scores = map_by_precision(*AUDIOSET, seed)
        exact = scores["float32"]
        lost = ", ".join(f"{name} {score - exact:+.4f}" for name, score in scores.items())
        print(f"seed {seed}: mAP {exact:.3f} in float32; minus that: {lost}", flush=True)
    for video_sd in (0.0, 0.5, 1.0):
        c = coverage_of_intervals(1000, video_sd)
        print(
            f"correlation {c.correlation:.3f}: 95 % intervals by segment contain the truth in {c.by_segment:.1%} "
            f"({c.width_by_segment:.2f} points wide), by video in {c.by_video:.1%} ({c.width_by_video:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
