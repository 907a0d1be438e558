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
