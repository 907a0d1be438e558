"""Clustering of a training run's stored embeddings: Table 6's scores and Figure 2's coordinates. No torch here.

    fill_clusterings(records_dir, on_progress)  # what Table 6 lacks
    fill_panels(records_dir, on_progress)       # what Figure 2 lacks

Features are the embeddings as stored, the input of the final linear layer (RECIPES 6, feature a): for AST the mean of
both prefix tokens after the norm, for MAST the mean over tokens. UMAP takes half a minute to import, and is imported
only once something is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.machine import cpu_name, git_commit
from reproduce.records.clusterings import (
    FIGURE,
    FIGURE_SEED,
    KMEANS_N_INIT,
    ON_UMAP,
    WITH_KMEANS,
    Job,
    clustering_experiment,
    figure_classes,
    missing_clusterings,
    missing_projections,
    umap_params,
)
from reproduce.records.predictions import load_predictions
from reproduce.records.projections import Projection, save_projection
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import TrainedRun
from reproduce.records.store import append_record, load_records

LIBRARIES = ("numpy", "scipy", "scikit-learn", "umap-learn", "pynndescent", "numba")


OnProgress = Callable[[int, int, str], None]  # measurements done, of how many, and what is being done now


def _silent(done: int, total: int, what: str) -> None:
    pass


@dataclass(frozen=True)
class Features:
    """Embeddings of a run's test clips, by clip id: UMAP's result depends on the order.

    Args:
        clip_ids: (n,) strings, sorted.
        values: (n, dim).
        labels: (n,) class indices.
        file: where they were read, for messages.
    """

    clip_ids: np.ndarray
    values: np.ndarray
    labels: np.ndarray
    file: Path

    def __len__(self) -> int:
        return len(self.labels)


def load_features(run: TrainedRun, records_dir: Path) -> Features:
    """The stored embeddings of a run, with one label a clip.

    Raises:
        InputError: no stored predictions, several heads or labels a clip, or embeddings that are not numbers.
    """
    if run.predictions is None:
        raise InputError(f"{records_dir}: run {run.key} stored no predictions: train it again with --run all")
    file = records_dir / run.predictions
    stored = load_predictions(records_dir, run)
    if stored is None:
        raise InputError(f"{file}: not there: restore the predictions of run {run.key}, or train with --run all")
    targets = stored.targets.get(DEFAULT_HEAD)
    if targets is None or not (targets.sum(axis=1) == 1).all():
        raise InputError(f"{file}: clustering needs clips with one label each: choose a single-label data set")
    if not np.isfinite(stored.embeddings).all():
        raise InputError(f"{file}: embeddings that are not numbers, the run diverged: train it again with --run all")
    order = np.argsort(stored.clip_ids, kind="stable")
    return Features(stored.clip_ids[order], stored.embeddings[order], targets.argmax(axis=1)[order], file)


def measure_clustering(run: TrainedRun, records_dir: Path, protocol: str, seed: int) -> RunRecord:
    """One "clustering" record, not appended, of a run's stored embeddings.

    Metrics: silhouette, ari, homogeneity (P4 has no clusters, so its silhouette alone), clips, clusters. A silhouette
    is NaN where the features are all alike.

    Args:
        run: the "train" record. protocol: "P1" to "P4", see clustering_plan. seed: of UMAP and KMeans.

    Raises:
        InputError: the features cannot be clustered (see `load_features`), or the clips are too few.
    """
    features = load_features(run, records_dir)
    (record,) = _measure(run, features, _count_clusters(features, protocol in ON_UMAP), (protocol,), seed)
    return record


def _measure(
    run: TrainedRun,
    features: Features,
    clusters: int,
    protocols: Sequence[str],
    seed: int,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Iterator[RunRecord]:
    """`measure_clustering` of several protocols. P1 and P4 share one UMAP, whose time the first of them carries."""
    plane = None
    for protocol in protocols:
        start = time.perf_counter()
        points = unit_length(features.values) if protocol == "P3" else features.values
        if protocol in ON_UMAP:
            if plane is None:
                on_stage(f"UMAP of {len(features):,} clips")
                plane = project(features.values, seed)
            points = plane
        if protocol in WITH_KMEANS:
            on_stage(f"{protocol}, KMeans into {clusters} clusters")
            scores = cluster_scores(points, kmeans(points, clusters, seed), features.labels)
        else:
            on_stage(f"{protocol}, silhouette")
            scores = {"silhouette": silhouette(points, features.labels)}
        yield _record(
            run,
            {**clustering_experiment(run, protocol, seed), "clusters": clusters},
            {**scores, "clips": len(features), "clusters": clusters},
            time.perf_counter() - start,
        )


def _count_clusters(features: Features, with_umap: bool) -> int:
    """k of KMeans: the classes that the test clips show. InputError where the clips are too few for it, or for UMAP."""
    clips, classes = len(features), len(np.unique(features.labels))
    if not 2 <= classes < clips:
        raise InputError(
            f"{features.file}: {clips} test clips of {classes} classes cannot be clustered: "
            "test on at least two classes, with more clips than classes"
        )
    neighbours = umap_params()["n_neighbors"]
    if with_umap and clips <= neighbours:
        raise InputError(
            f"{features.file}: {clips} test clips, and UMAP with {neighbours} neighbours needs more than {neighbours}: "
            "test on more clips"
        )
    return classes


def project(values: np.ndarray, seed: int) -> np.ndarray:
    """UMAP with the paper's parameters: (n, dim) -> (n, 2). The same seed and order of clips give the same plane."""
    from umap import UMAP

    with warnings.catch_warnings():
        # Far-apart groups of clips leave UMAP's graph unconnected. It copes, and warns of each piece.
        warnings.filterwarnings("ignore", category=UserWarning, module="umap|sklearn")
        # With a random_state UMAP takes one thread; without n_jobs=1 it warns that it does.
        return np.asarray(UMAP(**umap_params(), random_state=seed, n_jobs=1).fit_transform(values))


def unit_length(values: np.ndarray) -> np.ndarray:
    """Rows of (n, dim) divided by their L2 norm; a row of zeros stays one."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1.0)


def kmeans(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster index of every point, (n,): the best of KMEANS_N_INIT starts."""
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=KMEANS_N_INIT, random_state=seed).fit(points).labels_


def cluster_scores(points: np.ndarray, clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Silhouette of `clusters` among `points`, adjusted Rand index and homogeneity of `clusters` against `labels`."""
    from sklearn.metrics import adjusted_rand_score, homogeneity_score

    return {
        "silhouette": silhouette(points, clusters),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "homogeneity": float(homogeneity_score(labels, clusters)),
    }


def silhouette(points: np.ndarray, groups: np.ndarray) -> float:
    """Mean silhouette, Euclidean; NaN unless there are at least two groups, and fewer than points.

    scikit-learn computes the distances in chunks of a GiB: 15,446 clips fit anywhere.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(groups)) < len(groups):
        return float("nan")
    return float(silhouette_score(points, groups))


def _first_classes(run: TrainedRun, features: Features) -> Features:
    """The clips of the classes that Figure 2 shows: the first ones by label."""
    names = run.classes[DEFAULT_HEAD]
    first = sorted(range(len(names)), key=names.__getitem__)[: figure_classes()]
    chosen = np.isin(features.labels, first)
    return Features(features.clip_ids[chosen], features.values[chosen], features.labels[chosen], features.file)


def _measure_projection(run: TrainedRun, records_dir: Path, features: Features, classes: int) -> RunRecord:
    """One panel of Figure 2: `features` in UMAP's plane.

    The coordinates go to `embeddings/` under `records_dir`, so that a report can draw them without UMAP. Metrics:
    silhouette of the true labels in the plane, silhouette_features of the same clips before UMAP, clips, classes.

    Raises:
        InputError: the coordinates cannot be written.
    """
    start = time.perf_counter()
    names = run.classes[DEFAULT_HEAD]
    plane = project(features.values, FIGURE_SEED)
    projection = Projection(features.clip_ids, plane, np.array([names[label] for label in features.labels]))
    where = save_projection(records_dir, f"{features.file.stem}-{FIGURE}-seed{FIGURE_SEED}", projection)
    metrics = {
        "silhouette": silhouette(plane, features.labels),
        "silhouette_features": silhouette(features.values, features.labels),
        "clips": len(features),
        "classes": classes,
    }
    experiment = clustering_experiment(run, FIGURE, FIGURE_SEED)
    return _record(run, experiment, metrics, time.perf_counter() - start, {"coordinates": where})


def _record(
    run: TrainedRun,
    experiment: Mapping[str, Any],
    metrics: Mapping[str, float | int],
    wall_time_s: float,
    details: Mapping[str, Any] | None = None,
) -> RunRecord:
    return RunRecord(
        kind="clustering",
        key=hashlib.sha256(json.dumps(experiment, sort_keys=True).encode()).hexdigest()[:16],
        experiment=experiment,
        scale=run.scale,
        metrics=metrics,
        environment=_environment(),
        # Every broken clip stands in the run's own record; forty clusterings need not repeat them.
        dataset={name: value for name, value in run.record.dataset.items() if name != "problems"},
        seed=experiment["seed"],
        details=details or {},
        wall_time_s=wall_time_s,
        created=now(),
    )


@cache
def _environment() -> dict[str, Any]:
    """As `describe_environment`, of the libraries that cluster: it asks torch, which has no part in this."""
    return {
        "device": cpu_name(),
        "device_type": "cpu",
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "commit": git_commit(),
    }


def fill_clusterings(records_dir: Path, on_progress: OnProgress = _silent) -> list[str]:
    """Measure and append every clustering that Table 6 lacks, each as soon as it is there.

    Returns:
        One line for every run that cannot be clustered, with the reason; the others are done all the same.

    Raises:
        InputError: the records cannot be read, or not appended.
    """
    jobs = missing_clusterings(load_records(records_dir), records_dir)
    total = sum(len(job.protocols) for job in jobs)
    done, problems = 0, []

    def tell(job: Job, stage: str) -> None:
        on_progress(done, total, f"{job.run.model}, seed {job.seed}: {stage}")

    for job in jobs:
        try:
            features = load_features(job.run, records_dir)
            clusters = _count_clusters(features, with_umap=True)
        except InputError as error:
            problems.append(str(error))
            continue
        for record in _measure(job.run, features, clusters, job.protocols, job.seed, partial(tell, job)):
            append_record(records_dir, record)
            done += 1
    return list(dict.fromkeys(problems))


def fill_projections(records_dir: Path, on_progress: OnProgress = _silent) -> list[str]:
    """Measure and append every panel that Figure 2 lacks; returns and raises as `fill_clusterings`."""
    missing = missing_projections(load_records(records_dir), records_dir)
    problems = []
    for done, run in enumerate(missing):
        on_progress(done, len(missing), f"{run.model}: UMAP for Figure 2")
        try:
            features = _first_classes(run, load_features(run, records_dir))
            classes = _count_clusters(features, with_umap=True)
        except InputError as error:
            problems.append(str(error))
            continue
        append_record(records_dir, _measure_projection(run, records_dir, features, classes))
    return problems
