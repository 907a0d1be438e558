"""Resampled scores equal scikit-learn's and closed forms; intervals cover what they promise."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, average_precision_score, homogeneity_score

from reproduce.metrics.bootstrap import (
    DRAWS_AT_ONCE,
    centred,
    clustered_replicates,
    map_replicates,
    mean_and_sd,
    mean_replicates,
    percentile_interval,
    resample_counts,
    two_sided_p,
    weighted_average_precision,
)
from reproduce.metrics.clusters import cluster_replicates
from reproduce.metrics.scores import mean_average_precision


def scores_and_targets(
    rng: np.random.Generator, n: int, classes: int, ties: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    targets = rng.random((n, classes)) < np.linspace(0.15, 0.5, classes)
    scores = rng.normal(size=(n, classes)) + targets
    return (scores.round(0 if ties else 9)).astype(np.float32), targets


# --- the resamples --------------------------------------------------------------------------------------------------


def test_every_resample_draws_as_many_clips_as_there_are() -> None:
    counts = resample_counts(50, resamples=200)
    assert counts.shape == (50, 200)
    assert (counts.sum(axis=0) == 50).all()
    assert counts.mean(axis=1) == pytest.approx(np.ones(50), abs=0.35)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.05)  # of a binomial of n draws at 1/n


def test_the_seed_decides_the_resamples() -> None:
    first = resample_counts(20, seed=1)
    resample_counts.cache_clear()
    assert np.array_equal(first, resample_counts(20, seed=1))
    assert not np.array_equal(resample_counts(20, seed=1), resample_counts(20, seed=2))


@pytest.mark.parametrize("n", [1, 7, 1000, DRAWS_AT_ONCE // 3, DRAWS_AT_ONCE + 1])
def test_resamples_are_those_of_one_draw_after_the_other(n: int) -> None:
    rng = np.random.default_rng(5)
    expected = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(4)]
    assert np.array_equal(resample_counts(n, resamples=4, seed=5), np.stack(expected, axis=1))


@pytest.mark.parametrize(("n", "resamples"), [(0, 10), (10, 0)])
def test_nothing_to_draw_is_an_error(n: int, resamples: int) -> None:
    with pytest.raises(ValueError, match="needs clips and resamples"):
        resample_counts(n, resamples)


# --- accuracies -----------------------------------------------------------------------------------------------------


def test_a_resampled_accuracy_is_that_of_the_clips_drawn() -> None:
    rng = np.random.default_rng(0)
    right, counts = rng.random(5000) < 0.7, resample_counts(5000, resamples=5)  # more clips than one piece holds
    for drawn, accuracy in zip(counts.T, mean_replicates(right, counts), strict=True):
        assert accuracy == pytest.approx(100 * np.repeat(right, drawn).mean())


def test_the_interval_of_an_accuracy_is_the_binomials() -> None:
    right = np.arange(2000) < 600
    replicates = mean_replicates(right, resample_counts(2000, resamples=4000))
    sd = 100 * sqrt(0.3 * 0.7 / 2000)
    assert replicates.std() == pytest.approx(sd, rel=0.05)
    assert percentile_interval(replicates) == pytest.approx((30 - 1.96 * sd, 30 + 1.96 * sd), abs=0.15)


def test_a_paired_interval_is_narrower_than_one_of_strangers_and_covers_as_well() -> None:
    rng, counts, other = np.random.default_rng(1), resample_counts(200, 400), resample_counts(200, 400, seed=1)
    covered, widths, strangers = 0, [], []
    for _ in range(300):
        ease = rng.random(200)  # clips that are hard for one model are hard for the other
        first, second = (ease + 0.3 * rng.random(200) < limit for limit in (0.8, 0.7))
        a, b = mean_replicates(first, counts), mean_replicates(second, counts)
        low, high = percentile_interval(a - b)
        covered += low <= 10 <= high
        widths.append(high - low)
        low, high = percentile_interval(a - mean_replicates(second, other))
        strangers.append(high - low)
    assert covered / 300 == pytest.approx(0.94, abs=0.04)
    assert np.mean(widths) < 0.8 * np.mean(strangers)


# --- average precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_average_precision_equals_scikit_learns(ties: bool) -> None:
    scores, targets = scores_and_targets(np.random.default_rng(3), 120, 6, ties)
    counts = resample_counts(120, resamples=8)
    for k in range(6):
        ours = weighted_average_precision(targets[:, k], scores[:, k], counts)
        for drawn, value in zip(counts.T, ours, strict=True):
            assert value == pytest.approx(average_precision_score(targets[:, k], scores[:, k], sample_weight=drawn))
            copies = np.repeat(np.arange(120), drawn)  # a weight is so many copies of the clip
            assert value == pytest.approx(average_precision_score(targets[copies, k], scores[copies, k]))


def test_positives_that_were_not_drawn_leave_no_average_precision() -> None:
    weights = np.array([[0], [2]], np.uint8)
    assert np.isnan(weighted_average_precision(np.array([True, False]), np.array([1.0, 0.0]), weights)).all()
    assert np.isnan(weighted_average_precision(np.array([False, False]), np.array([1.0, 0.0]), weights)).all()


def test_a_resampled_map_is_the_mean_over_the_classes_with_positives_in_it() -> None:
    rng = np.random.default_rng(4)
    scores, targets = scores_and_targets(rng, 30, 5)
    targets[:, 0] = False
    targets[:, 1] = np.arange(30) == 7  # absent from about a third of the resamples
    counts = resample_counts(30, resamples=40)
    assert (counts[7] == 0).any() and (counts[7] > 0).any()
    for drawn, value in zip(counts.T, map_replicates(targets, scores, counts), strict=True):
        copies = np.repeat(np.arange(30), drawn)
        assert value == pytest.approx(mean_average_precision(targets[copies], scores[copies]).value)


def test_resamples_lift_an_map_and_centred_intervals_cover_where_the_mean_lies() -> None:
    rng = np.random.default_rng(6)
    scores, targets = scores_and_targets(rng, 20_000, 4)
    samples = [rng.choice(20_000, 100) for _ in range(200)]
    values = [mean_average_precision(targets[clips], scores[clips]).value for clips in samples]
    counts, covered, lifted = resample_counts(100, 200), 0, []
    for clips, value in zip(samples, values, strict=True):
        replicates = map_replicates(targets[clips], scores[clips], counts)
        lifted.append(replicates.mean() - value)
        low, high = percentile_interval(centred(replicates, value))
        covered += int(low <= np.mean(values) <= high)
    assert np.mean(lifted) > 1.0  # points: why the interval is centred at all
    assert covered / 200 == pytest.approx(0.94, abs=0.04)


def test_scores_that_are_not_numbers_and_shapes_that_do_not_fit_are_errors() -> None:
    counts = resample_counts(3, 2)
    with pytest.raises(ValueError, match="finite"):
        map_replicates(np.eye(3), np.full((3, 3), np.nan), counts)
    with pytest.raises(ValueError, match="do not fit"):
        map_replicates(np.eye(4), np.eye(4), counts)
    with pytest.raises(ValueError, match="counts of 3 clips"):
        mean_replicates(np.ones(4), counts)


# --- summaries ------------------------------------------------------------------------------------------------------


def test_a_p_value_counts_the_far_side_and_is_never_zero() -> None:
    assert two_sided_p(np.full(999, 1.0)) == two_sided_p(np.full(999, -1.0)) == 2 / 1000
    assert two_sided_p(np.zeros(99)) == 1.0
    assert two_sided_p(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)


def test_p_values_of_equal_models_are_small_about_as_often_as_they_say() -> None:
    rng, counts = np.random.default_rng(7), resample_counts(300, 400)
    small = 0
    for _ in range(400):
        first, second = rng.random((2, 300)) < 0.6
        small += int(two_sided_p(mean_replicates(first, counts) - mean_replicates(second, counts)) <= 0.05)
    assert small / 400 == pytest.approx(0.05, abs=0.03)


def test_resamples_without_a_score_are_left_out() -> None:
    assert percentile_interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(percentile_interval(np.full(3, np.nan))).all()
    assert centred(np.array([np.nan, 1.0, 3.0]), 10.0)[1:] == pytest.approx([9.0, 11.0])
    assert np.isnan(centred(np.full(2, np.nan), 1.0)).all()


def test_one_clip_or_one_answer_gives_no_width() -> None:
    assert percentile_interval(mean_replicates(np.ones(1), resample_counts(1))) == (100.0, 100.0)
    assert percentile_interval(mean_replicates(np.zeros(8), resample_counts(8))) == (0.0, 0.0)


def test_mean_and_deviation_over_seeds() -> None:
    assert mean_and_sd([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_sd([4.0]) == (4.0, None)


def test_clips_of_one_recording_are_resampled_together() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.random(50) < 0.5, 8).astype(float)  # eight clips a recording, right or wrong together
    together = clustered_replicates(values, [str(i // 8) for i in range(400)])
    alone = clustered_replicates(values, [str(i) for i in range(400)])
    assert together.mean() == pytest.approx(100 * values.mean(), abs=1.0)
    assert together.std() == pytest.approx(alone.std() * 8**0.5, rel=0.1)


def test_a_mean_over_clusters_of_unlike_sizes_is_a_mean_over_clips() -> None:
    replicates = clustered_replicates(np.array([1.0, 1.0, 1.0, 0.0]), ["a", "a", "a", "b"])
    assert set(replicates) <= {0.0, 75.0, 100.0}


# --- clusterings ----------------------------------------------------------------------------------------------------


def test_resampled_cluster_scores_of_every_clip_once_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, clusters, silhouettes = rng.integers(5, size=200), rng.integers(4, size=200), rng.random(200)
    clusters = np.where(rng.random(200) < 0.5, labels % 4, clusters)
    found = cluster_replicates(labels, clusters, silhouettes, np.ones((200, 1), np.uint8))
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters))
    assert found["homogeneity"] == pytest.approx(homogeneity_score(labels, clusters))
    assert found["silhouette"] == pytest.approx(silhouettes.mean())


def test_repeated_clips_do_not_raise_the_rand_index_of_random_clusters() -> None:
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(50, size=300), rng.integers(50, size=300)
    found = cluster_replicates(labels, clusters, np.zeros(300), resample_counts(300, 200))
    assert abs(found["ari"].mean() - adjusted_rand_score(labels, clusters)) < 0.002
