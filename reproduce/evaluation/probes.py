"""How well classes can be read off stored features: nearest neighbours and a linear probe. No torch here.

    fill_probes(records_dir, on_progress)  # measures what Table 6 lacks

Clustering scores depend on choices that the paper does not state; these two accuracies are the usual measures of a
representation. Both are of the test clips themselves, by cross-validation: each clip is classified once, from the clips
of the other folds, and clips of one recording are in one fold.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.evaluation.clustering import (
    Features,
    OnProgress,
    clustering_record,
    ignore_progress,
    load_features,
    unit_length,
)
from reproduce.records.clusterings import (
    PROBE,
    PROBE_C,
    PROBE_FOLDS,
    PROBE_NEIGHBOURS,
    PROBE_SEED,
    Job,
    clustering_experiment,
    missing_probes,
)
from reproduce.records.record import RunRecord
from reproduce.records.store import append_record, load_records

LINEAR_ITERATIONS = 300


def probe_folds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The fold of each clip, (n,): classes are spread evenly, a group is in one fold.

    There are PROBE_FOLDS, or as many as the commonest class has clips where those are fewer.

    Args:
        labels: (n,) class indices.
        groups: (n,) recording, video or speaker.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = np.empty(len(labels), np.int64)
    count = min(PROBE_FOLDS, int(np.bincount(labels).max()))
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=PROBE_SEED)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        folds[held_out] = fold
    return folds


def knn_predictions(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The commonest class among the nearest neighbours of each row of `test` by cosine, (m,).

    There are PROBE_NEIGHBOURS, or as many as the commonest class has clips where those are fewer.

    Args:
        train: (n, dim).
        labels: (n,) of `train`.
        test: (m, dim).
    """
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = min(PROBE_NEIGHBOURS, int(np.bincount(labels).max()))
    classifier = KNeighborsClassifier(neighbours, algorithm="brute").fit(unit_length(train), labels)
    return np.asarray(classifier.predict(unit_length(test)))


def linear_predictions(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Classes of `test` by multinomial logistic regression on standardised features, (m,); arguments as above."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=LINEAR_ITERATIONS))
    return np.asarray(probe.fit(train, labels).predict(test))


def probe_accuracies(features: Features) -> dict[str, float]:
    """Accuracy of either probe in per cent, over all clips, and the number of folds.

    Raises:
        InputError: fewer groups than folds, a single class, or no class with two clips.
    """
    labels, groups = features.labels, features.groups
    counts = np.bincount(labels)
    if len(np.unique(groups)) < PROBE_FOLDS or (counts > 0).sum() < 2 or counts.max() < 2:
        raise InputError(
            f"{features.file}: a probe in {PROBE_FOLDS} folds needs as many recordings, two classes, and two clips of "
            "a class: test on more clips"
        )
    right = {"knn": np.zeros(len(labels), bool), "linear": np.zeros(len(labels), bool)}
    with warnings.catch_warnings():
        # scikit-learn warns of classes with few clips, and where the linear probe uses up its iterations.
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        folds = probe_folds(labels, groups)
        used = np.unique(folds)
        for fold in used:
            train, test = folds != fold, folds == fold
            for name, predictions in (("knn", knn_predictions), ("linear", linear_predictions)):
                found = predictions(features.values[train], labels[train], features.values[test])
                right[name][test] = found == labels[test]
    accuracies = {name: 100.0 * float(correct.mean()) for name, correct in right.items()}
    return {**accuracies, "folds": len(used)}


def measure_probe(job: Job, records_dir: Path) -> RunRecord:
    """The record of one run's features, not appended. Metrics: knn, linear, folds, clips, classes.

    Raises:
        InputError: the features cannot be read (see `load_features`), or the clips are too few.
    """
    start = time.perf_counter()
    features = load_features(job.run, records_dir, job.reading)
    scores = probe_accuracies(features)
    return clustering_record(
        job.run,
        clustering_experiment(job.run, PROBE, PROBE_SEED, job.reading),
        {**scores, "clips": len(features), "classes": len(np.unique(features.labels))},
        time.perf_counter() - start,
    )


def fill_probes(records_dir: Path, on_progress: OnProgress = ignore_progress) -> list[str]:
    """Measure and append every probe that Table 6 lacks; arguments, result and errors as `fill_clusterings`."""
    missing = missing_probes(load_records(records_dir), records_dir)
    problems = []
    for done, job in enumerate(missing):
        on_progress(done, len(missing), f"{job.run.model}: kNN and linear probe of the {job.reading}")
        try:
            append_record(records_dir, measure_probe(job, records_dir))
        except InputError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))
