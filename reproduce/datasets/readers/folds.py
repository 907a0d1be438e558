"""Folds for a data set that brings none."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

FOLDS = ("1", "2", "3", "4", "5")


def stratified_folds(groups: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fold "1".."5" of each group, from (group, class) pairs: the same on every machine and in every order.

    Within a class, groups are ordered by the SHA-256 of their name and dealt out in turn, so the folds of a class
    differ by one group at most. The first fold dealt depends on the class's name; otherwise all small classes would
    fill fold 1. A group (a file cut into several segments, or stored in two formats) is never divided; the class of
    a group is the first one given.
    """
    by_class: dict[str, list[str]] = {}
    for group, label in dict(reversed(list(groups))).items():  # reversed: the first pair of a group stays
        by_class.setdefault(label, []).append(group)
    folds = {}
    for label, members in by_class.items():
        first = int(_digest(label), 16)
        for rank, group in enumerate(sorted(members, key=lambda name: (_digest(name), name))):
            folds[group] = FOLDS[(first + rank) % len(FOLDS)]
    return folds


def grouped_folds(clips: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Fold "1".."5" of each group, from (clip, group, class) triples: classes are spread evenly, no group is divided.

    scikit-learn's StratifiedGroupKFold on clips in the order of the digests of their names, so that the order of the
    list has no effect. Fewer than five groups make as many folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # late: its import takes a second

    rows = sorted(clips, key=lambda row: (_digest(row[0]), row))
    groups, labels = ([row[column] for row in rows] for column in (1, 2))
    count = min(len(FOLDS), len(set(groups)))
    if count < 2:
        return dict.fromkeys(groups, FOLDS[0])
    codes = np.unique(np.array(labels), return_inverse=True)[1]
    splitter = StratifiedGroupKFold(n_splits=count)
    with warnings.catch_warnings():  # a class of fewer clips than folds is missing in some: the survey says so
        warnings.simplefilter("ignore", UserWarning)
        return _fold_of_groups(splitter.split(codes, _enough(codes, count), groups), groups)


def _enough(codes: np.ndarray, count: int) -> np.ndarray:
    """The class codes; one class for all where every class has fewer clips than there are folds."""
    return codes if np.bincount(codes).max() >= count else np.zeros_like(codes)


def _fold_of_groups(parts: Iterable[tuple[np.ndarray, np.ndarray]], groups: Sequence[str]) -> dict[str, str]:
    return {groups[i]: FOLDS[number] for number, (_, tested) in enumerate(parts) for i in tested}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
