"""Folds for a data set that brings none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
