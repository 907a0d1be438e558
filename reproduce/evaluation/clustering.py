"""Clustering of a training run's stored embeddings: Table 6's scores and Figure 2's coordinates. No torch here.

    fill_clusterings(records_dir, on_progress)  # measures what Table 6 lacks
    fill_projections(records_dir, on_progress)  # measures what Figure 2 lacks

Features are stored embeddings by either reading of the paper's "second last layer", see `records.clusterings`. UMAP
takes half a minute to import: it is imported only where a measurement is missing.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.keys import hash_key
from reproduce.machine import cpu_name, git_commit
from reproduce.records.clustered_clips import ClusteredClips, save_clustered_clips
from reproduce.records.clusterings import (
    FIGURE,
    FIGURE_SEED,
    INPUT,
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


OnProgress = Callable[[int, int, str], None]  # receives: measurements done, their total, what is measured now


def ignore_progress(done: int, total: int, what: str) -> None:
    pass


@dataclass(frozen=True)
class Features:
    """Embeddings of a run's test clips, in the order of their ids, on which UMAP's result depends.

    Args:
        clip_ids: (n,) strings, sorted.
        values: (n, dim).
        labels: (n,) class indices.
        file: source, for messages.
        groups: (n,) recording, video or speaker of each clip, its own id where no two clips share one.
    """

    clip_ids: np.ndarray
    values: np.ndarray
    labels: np.ndarray
    file: Path
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load_features(run: TrainedRun, records_dir: Path, reading: str = INPUT) -> Features:
    """The stored embeddings of a run by one of READINGS, with one label per clip.

    Raises:
        InputError: no stored predictions, several heads or labels per clip, or embeddings that are not finite.
    """
    if run.predictions is None:
        raise InputError(f"{records_dir}: run {run.key} stored no predictions: train it again with --run all")
    file = records_dir / run.predictions
    stored = load_predictions(records_dir, run)
    if stored is None:
        raise InputError(f"{file}: absent: restore the predictions of run {run.key}, or train it again with --run all")
    targets = stored.targets.get(DEFAULT_HEAD)
    if targets is None or not (targets.sum(axis=1) == 1).all():
        raise InputError(f"{file}: clustering needs clips with one label each: choose a single-label data set")
    values = stored.embeddings if reading == INPUT else stored.second_last
    if values is None:
        raise InputError(f"{file}: no output of the second-last block: train run {run.key} again with --run all")
    if not np.isfinite(values).all():
        raise InputError(f"{file}: embeddings that are not finite, the run diverged: train it again with --run all")
    order = np.argsort(stored.clip_ids, kind="stable")
    groups = stored.clip_ids if stored.groups is None else stored.groups
    return Features(stored.clip_ids[order], values[order], targets.argmax(axis=1)[order], file, groups[order])


def measure_clustering(run: TrainedRun, records_dir: Path, protocol: str, seed: int) -> RunRecord:
    """One "clustering" record of a run's stored embeddings, not appended; its clips' clusters are stored.

    Metrics: silhouette, ari, homogeneity (P4 has no clusters: silhouette alone), clips, clusters. The silhouette is NaN
    where all features are equal.

    Args:
        run: the "train" record.
        records_dir: folder of the records.
        protocol: "P1" to "P4", see `records.clusterings`.
        seed: of UMAP and KMeans.

    Raises:
        InputError: the features cannot be clustered (see `load_features`), or the clips are too few.
    """
    features = load_features(run, records_dir)
    clusters = _count_clusters(features, protocol in ON_UMAP)
    (record,) = _measure(Job(run, seed, (protocol,)), records_dir, features, clusters)
    return record


def _measure(
    job: Job,
    records_dir: Path,
    features: Features,
    clusters: int,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Iterator[RunRecord]:
    """`measure_clustering` of several protocols. P1 and P4 share one UMAP, whose time is booked with the first."""
    run, seed, plane = job.run, job.seed, None
    for protocol in job.protocols:
        start, details = time.perf_counter(), {}
        points = unit_length(features.values) if protocol == "P3" else features.values
        if protocol in ON_UMAP:
            if plane is None:
                on_stage(f"UMAP of {len(features):,} clips")
                plane = project(features.values, seed)
            points = plane
        if protocol in WITH_KMEANS:
            on_stage(f"{protocol}, KMeans into {clusters} clusters")
            found = kmeans(points, clusters, seed)
            of_clips = silhouettes(points, found)
            scores = {"silhouette": float(of_clips.mean()), **agreement(found, features.labels)}
            stored = ClusteredClips(features.clip_ids, features.labels, found, of_clips)
            name = f"{features.file.stem}-{protocol}-seed{seed}{_suffix(job.reading)}"
            details["clips"] = save_clustered_clips(records_dir, name, stored)
        else:
            on_stage(f"{protocol}, silhouette")
            scores = {"silhouette": silhouette(points, features.labels)}
        yield clustering_record(
            run,
            {**clustering_experiment(run, protocol, seed, job.reading), "clusters": clusters},
            {**scores, "clips": len(features), "clusters": clusters},
            time.perf_counter() - start,
            details,
        )


def _count_clusters(features: Features, with_umap: bool) -> int:
    """k of KMeans: the number of classes among the test clips.

    Raises:
        InputError: too few clips for it, or for UMAP where `with_umap`.
    """
    clips, classes = len(features), len(np.unique(features.labels))
    if not 2 <= classes < clips:
        raise InputError(
            f"{features.file}: {clips} test clips of {classes} classes cannot be clustered: "
            "test on at least two classes, with more clips than classes"
        )
    neighbours = umap_params()["n_neighbors"]
    if with_umap and clips <= neighbours:
        raise InputError(
            f"{features.file}: {clips} test clips, but UMAP with {neighbours} neighbours needs more than {neighbours}: "
            "test on more clips"
        )
    return classes


def project(values: np.ndarray, seed: int) -> np.ndarray:
    """UMAP with the paper's parameters: (n, dim) to (n, 2). The same seed and order of clips give the same points."""
    from umap import UMAP

    with warnings.catch_warnings():
        # Groups of clips that are far apart leave UMAP's graph unconnected. It handles that, and warns per component.
        warnings.filterwarnings("ignore", category=UserWarning, module="umap|sklearn")
        # With a random_state UMAP uses one thread; without n_jobs=1 it warns about that.
        return np.asarray(UMAP(**umap_params(), random_state=seed, n_jobs=1).fit_transform(values))


def unit_length(values: np.ndarray) -> np.ndarray:
    """Divide the rows of (n, dim) by their L2 norms; rows of zeros stay as they are."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1.0)


def kmeans(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster index per point, (n,): the best of KMEANS_N_INIT starts."""
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=KMEANS_N_INIT, random_state=seed).fit(points).labels_


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index and homogeneity of (n,) cluster indices against (n,) class indices."""
    from sklearn.metrics import adjusted_rand_score, homogeneity_score

    return {
        "ari": float(adjusted_rand_score(labels, clusters)),
        "homogeneity": float(homogeneity_score(labels, clusters)),
    }


def silhouette(points: np.ndarray, groups: np.ndarray) -> float:
    """Mean of `silhouettes`."""
    return float(silhouettes(points, groups).mean())


def silhouettes(points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Silhouette of each point with Euclidean distances, (n,); NaN unless there are two groups, and fewer than points.

    scikit-learn computes the distances in chunks of 1 GiB.

    Args:
        points: (n, dim).
        groups: (n,) of any labels.
    """
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(np.unique(groups)) < len(groups):
        return np.full(len(groups), np.nan)
    return np.asarray(silhouette_samples(points, groups))


def _first_classes(run: TrainedRun, features: Features) -> Features:
    """The clips of the classes that Figure 2 shows: the first ones by sorted label."""
    names = run.classes[DEFAULT_HEAD]
    first = sorted(range(len(names)), key=names.__getitem__)[: figure_classes()]
    chosen = np.isin(features.labels, first)
    return replace(
        features,
        clip_ids=features.clip_ids[chosen],
        values=features.values[chosen],
        labels=features.labels[chosen],
        groups=features.groups[chosen],
    )


def _suffix(reading: str) -> str:
    """Of a file's name; none for the reading that had no name before there were two."""
    return "" if reading == INPUT else f"-{reading.replace(' ', '-')}"


def _measure_projection(job: Job, records_dir: Path, features: Features, classes: int) -> RunRecord:
    """Project one panel of Figure 2: `features` in UMAP's plane.

    The coordinates go to `embeddings/` under `records_dir`, so that a report can draw them without UMAP. Metrics:
    silhouette of the true labels in the plane, silhouette_features of the same clips before UMAP, clips, classes.

    Raises:
        InputError: the coordinates cannot be written.
    """
    start = time.perf_counter()
    run, names = job.run, job.run.classes[DEFAULT_HEAD]
    plane = project(features.values, FIGURE_SEED)
    projection = Projection(features.clip_ids, plane, np.array([names[label] for label in features.labels]))
    name = f"{features.file.stem}-{FIGURE}-seed{FIGURE_SEED}{_suffix(job.reading)}"
    coordinates = save_projection(records_dir, name, projection)
    metrics = {
        "silhouette": silhouette(plane, features.labels),
        "silhouette_features": silhouette(features.values, features.labels),
        "clips": len(features),
        "classes": classes,
    }
    experiment = clustering_experiment(run, FIGURE, FIGURE_SEED, job.reading)
    return clustering_record(run, experiment, metrics, time.perf_counter() - start, {"coordinates": coordinates})


def clustering_record(
    run: TrainedRun,
    experiment: Mapping[str, Any],
    metrics: Mapping[str, float | int],
    wall_time_s: float,
    details: Mapping[str, Any] | None = None,
) -> RunRecord:
    return RunRecord(
        kind="clustering",
        key=hash_key(experiment),
        experiment=experiment,
        scale=run.scale,
        metrics=metrics,
        environment=_environment(),
        # The run's own record lists every clip that could not be used; forty clusterings need not repeat them.
        dataset={name: value for name, value in run.record.dataset.items() if name != "problems"},
        seed=experiment["seed"],
        details=details or {},
        wall_time_s=wall_time_s,
        created=now(),
    )


@cache
def _environment() -> dict[str, Any]:
    """The conditions of a clustering, without torch, which `describe_environment` needs."""
    return {
        "device": cpu_name(),
        "device_type": "cpu",
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "commit": git_commit(),
    }


def fill_clusterings(records_dir: Path, on_progress: OnProgress = ignore_progress) -> list[str]:
    """Measure every clustering that Table 6 lacks, and append each record as soon as it is measured.

    Args:
        records_dir: folder of the records.
        on_progress: see `OnProgress`.

    Returns:
        One line per run that cannot be clustered, with the reason; the other runs are clustered.

    Raises:
        InputError: the records cannot be read or appended.
    """
    jobs = missing_clusterings(load_records(records_dir), records_dir)
    total = sum(len(job.protocols) for job in jobs)
    done, problems = 0, []

    def report(job: Job, stage: str) -> None:
        on_progress(done, total, f"{job.run.model}, seed {job.seed}: {stage}")

    for job in jobs:
        try:
            features = load_features(job.run, records_dir, job.reading)
            clusters = _count_clusters(features, with_umap=True)
        except InputError as error:
            problems.append(str(error))
            continue
        for record in _measure(job, records_dir, features, clusters, partial(report, job)):
            append_record(records_dir, record)
            done += 1
    return list(dict.fromkeys(problems))


def fill_projections(records_dir: Path, on_progress: OnProgress = ignore_progress) -> list[str]:
    """Measure and append every projection that Figure 2 lacks; arguments, result and errors as `fill_clusterings`."""
    missing = missing_projections(load_records(records_dir), records_dir)
    problems = []
    for done, job in enumerate(missing):
        on_progress(done, len(missing), f"{job.run.model}: UMAP for Figure 2")
        try:
            features = _first_classes(job.run, load_features(job.run, records_dir, job.reading))
            classes = _count_clusters(features, with_umap=True)
        except InputError as error:
            problems.append(str(error))
            continue
        append_record(records_dir, _measure_projection(job, records_dir, features, classes))
    return problems
