"""Names of splits and folds: how a user's own data may spell them, and which splits a run trains and tests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reproduce.datasets.registry import DatasetSpec
from reproduce.errors import InputError

_SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}
KNOWN_SPLITS = "train, val (or validation, dev), test (or eval), or fold numbers"
_FOLD_DIGITS = 6


def split_of(name: str) -> str | None:
    """Canonical name of a split: "train", "val", "test" or a fold number; None for any other name.

    Upper and lower case are the same, and so are 1 and 01.
    """
    if name.isascii() and name.isdecimal() and len(name) <= _FOLD_DIGITS:
        return str(int(name))
    return _SPLIT_OF.get(name.lower())


def is_fold(split: str) -> bool:
    """Whether a canonical name is a fold's."""
    return split.isdecimal()


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """A fixed division of a data set.

    Args:
        train: splits that are trained on.
        val: splits that may be scored while training, never trained on; empty where there is none.
        test: splits that are tested on.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def plan_splits(spec: DatasetSpec, listed: Iterable[str]) -> SplitPlan | None:
    """Which splits of a data set are trained, validated and tested on; None where it has folds to cross-validate.

    Where a user's own data list no test split, the validation split is tested on.

    Args:
        listed: the splits that the data list (`ClipIndex.listed`).

    Raises:
        InputError: nothing to train on, or nothing to test on.
    """
    splits = sorted(listed)
    if splits and all(map(is_fold, splits)):
        return None
    train, test = (tuple(s for s in names if s in splits) for names in (spec.train_splits, spec.test_splits))
    val = tuple(split for split in splits if split == "val" and split not in test)
    if not test:
        val, test = (), val
    for chosen, what in ((train, "train"), (test, "test")):
        if not chosen:
            raise InputError(
                f"{spec.name}: nothing to {what} on: the data list {', '.join(splits) or 'no split'} only; "
                f"the names known are {KNOWN_SPLITS}"
            )
    return SplitPlan(train=train, val=val, test=test)
