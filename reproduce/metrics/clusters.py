"""Scores of a clustering on resamples of its clips. Arrays in, numbers out; SciPy is imported late: it is slow."""

from __future__ import annotations

import numpy as np

CLUSTER_RESAMPLES = 500


def cluster_replicates(
    labels: np.ndarray, clusters: np.ndarray, silhouettes: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Silhouette, adjusted Rand index and homogeneity in every resample of clips, (resamples,) each.

    The clusters stay as they are, and so does the silhouette of each clip: nothing is clustered again. The Rand index
    counts pairs of different clips alone, so that a clip that is drawn twice does not agree with itself.

    Args:
        labels: (n,) class indices.
        clusters: (n,) cluster indices.
        silhouettes: (n,) of each clip.
        counts: (n, resamples) how often each clip is drawn, see `bootstrap.resample_counts`.
    """
    weights = counts.astype(np.float64)
    by_class, by_cluster = _sums(labels, weights), _sums(clusters, weights)
    both = _sums(np.asarray(labels, np.int64) * (int(clusters.max()) + 1) + clusters, weights)
    total, repeats = weights.sum(axis=0), (weights**2).sum(axis=0)
    pairs, of_class, of_cluster, of_both = (
        ((sums**2).sum(axis=0) - repeats) / 2 for sums in (total[None], by_class, by_cluster, both)
    )
    expected = of_class * of_cluster / pairs
    h_class, h_cluster, h_both = (_entropy(sums / total) for sums in (by_class, by_cluster, both))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "silhouette": (np.asarray(silhouettes, np.float64) @ weights) / total,
            "ari": (of_both - expected) / ((of_class + of_cluster) / 2 - expected),
            "homogeneity": 1 - (h_both - h_cluster) / h_class,
        }


def _sums(groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of each group, (groups, resamples)."""
    from scipy.sparse import csr_array

    _, group = np.unique(groups, return_inverse=True)
    membership = csr_array((np.ones(len(group)), (group, np.arange(len(group)))))
    return np.asarray(membership @ weights)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy in nats of every column of (groups, resamples)."""
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=0)
