"""A validation part of the training clips, for a search that must not see a test clip. No torch here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reproduce.datasets.index import ClipIndex
from reproduce.datasets.readers.folds import FOLDS, grouped_folds, stratified_folds
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError

HELD_OUT = "held out"  # name of the split


def hold_out(index: ClipIndex, train: tuple[str, ...]) -> ClipIndex:
    """Move a fifth of the clips of the splits `train` into the split HELD_OUT, by classes, without dividing a group.

    Raises:
        InputError: the clips are all of one group.
    """
    positions = index.positions_of(*train)
    head = next(iter(index.labels))
    units = index.units()
    rows = [
        (str(index.clip_ids[i]), str(units[i]), str(index.labels[head].row(int(i))[:1])) for i in positions.tolist()
    ]
    alone = len({unit for _, unit, _ in rows}) == len(rows)
    folds = stratified_folds((unit, label) for _, unit, label in rows) if alone else grouped_folds(rows)
    if len(set(folds.values())) < 2:
        raise InputError(
            f"{index.root}: the training clips are all of one {index.unit}: no part of them can be held out"
        )
    splits = index.splits.tolist()
    for i, (_, unit, _) in zip(positions.tolist(), rows, strict=True):
        if folds[unit] == FOLDS[0]:
            splits[i] = HELD_OUT
    names, counts = np.unique(np.array(splits), return_counts=True)
    moved = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return replace(index, splits=Strings.of(splits), listed={**index.listed, **moved})
