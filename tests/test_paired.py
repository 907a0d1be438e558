"""Resampled scores and the paired difference of two models on the same clips."""

from __future__ import annotations

import numpy as np
import pytest

from reproduce.metrics.paired import (
    clustered_difference,
    discordant_clips,
    mean_of_seeds,
    paired_difference,
    resampled_accuracy,
    resampled_map,
    sign_flip_p,
)

FIRST = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)
SECOND = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)


def test_a_difference_is_that_of_the_scores_and_its_interval_holds_it() -> None:
    difference = paired_difference(resampled_accuracy(FIRST), resampled_accuracy(SECOND))
    assert difference.value == pytest.approx(100 * (6 - 4) / 8)
    assert difference.ci[0] < difference.value < difference.ci[1]
    back = paired_difference(resampled_accuracy(SECOND), resampled_accuracy(FIRST))
    assert (back.value, back.p) == (-difference.value, difference.p)


def test_a_model_does_not_differ_from_itself() -> None:
    score = resampled_accuracy(FIRST)
    difference = paired_difference(score, score)
    assert (difference.value, difference.ci, difference.p) == (0.0, (0.0, 0.0), 1.0)


def test_only_clips_that_one_model_alone_gets_right_are_discordant() -> None:
    clips = discordant_clips(FIRST, SECOND)
    assert (clips.only_first, clips.only_second) == (3, 1)
    assert clips.p == pytest.approx(2 * (1 + 4) / 2**4)


def test_seeds_are_averaged_clip_by_clip() -> None:
    mean = mean_of_seeds([resampled_accuracy(FIRST), resampled_accuracy(SECOND)])
    assert mean.value == pytest.approx(62.5)
    assert mean.correct is not None and mean.correct.tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0]
    assert mean.interval[0] < 62.5 < mean.interval[1]


def test_the_interval_of_a_map_holds_it_although_resamples_raise_it() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((200, 5)) < 0.1
    score = resampled_map(targets, targets + rng.standard_normal(targets.shape))
    assert score.replicates.mean() > score.value + 1
    assert score.interval[0] < score.value < score.interval[1]


def test_clips_of_one_recording_give_no_more_certainty_than_the_recording() -> None:
    gains = np.array([1.0, 0.0, 1.0, 0.0, -1.0, 1.0])
    one_each = clustered_difference(gains, [f"recording {i}" for i in range(6)])
    repeated = clustered_difference(np.repeat(gains, 10), [f"recording {i // 10}" for i in range(60)])
    assert repeated.value == pytest.approx(one_each.value) == pytest.approx(100 * 2 / 6)
    assert repeated.ci == pytest.approx(one_each.ci)


@pytest.mark.parametrize(
    ("gains", "p"),
    [
        ([1.0, 1.0, 1.0], 2 / 8),  # all three alike in 2 of 8 sign patterns
        ([1.0, 1.0, 1.0, 0.0, 0.0], 2 / 8),  # equal outcomes say nothing
        ([1.0, 1.0, 1.0, -1.0], 10 / 16),  # a sum of 2 or more either way
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0], 1.0),
        ([1.0] * 20, 0.0),  # 2 / 2**20
    ],
)
def test_flipped_signs_give_the_share_of_patterns_as_far_from_0(gains: list[float], p: float) -> None:
    """Within four standard errors of 20,000 random patterns; and recordings count, not clips."""
    names = [f"recording {i}" for i in range(len(gains))]
    assert sign_flip_p(np.array(gains), names) == pytest.approx(p, abs=0.015)
    assert sign_flip_p(np.repeat(gains, 3), np.repeat(names, 3)) == sign_flip_p(np.array(gains), names)
    assert sign_flip_p(np.array(gains), names) > 0


@pytest.fixture(scope="module")
def coverage() -> dict[str, float]:
    """Share of test sets like EPIC-KITCHENS' (138 videos of 70 segments) whose interval holds the true accuracy."""
    rng, simulations, videos, segments = np.random.default_rng(0), 200, 138, 70
    units = np.repeat(np.arange(videos), segments)
    of_video = rng.beta(4, 4, (simulations, videos))  # correlation of two segments of a video: 1 / (4 + 4 + 1)
    correct = rng.random((simulations, videos * segments)) < np.repeat(of_video, segments, axis=1)

    def covers(samples: np.ndarray, by: np.ndarray | None) -> float:
        bounds = np.array([resampled_accuracy(sample, by).interval for sample in samples])
        return float(((bounds[:, 0] <= 50.0) & (bounds[:, 1] >= 50.0)).mean())

    return {"video": covers(correct, units), "segment": covers(correct[:80], None)}


def test_intervals_by_video_cover_what_they_promise(coverage: dict[str, float]) -> None:
    assert 0.90 <= coverage["video"] <= 0.99


def test_intervals_by_segment_are_too_narrow_where_segments_share_videos(coverage: dict[str, float]) -> None:
    assert coverage["segment"] < 0.7


def test_whole_units_of_a_map_are_resampled() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((60, 3)) < 0.4
    scores = targets + 2 * rng.standard_normal(targets.shape)
    videos = np.repeat(np.arange(60), 5)
    one_each, by_video, by_clip = (
        resampled_map(targets, scores),
        resampled_map(np.repeat(targets, 5, axis=0), np.repeat(scores, 5, axis=0), videos),
        resampled_map(np.repeat(targets, 5, axis=0), np.repeat(scores, 5, axis=0)),
    )
    widths = [high - low for low, high in (score.interval for score in (one_each, by_video, by_clip))]
    assert widths[1] == pytest.approx(widths[0], rel=0.1) and widths[2] < 0.6 * widths[0]


def test_a_single_unit_has_no_interval() -> None:
    one = np.zeros(8)
    for score in (resampled_accuracy(FIRST, one), resampled_map(FIRST[:, None], SECOND[:, None] + 0.0, one)):
        assert np.isnan(score.interval).all()
