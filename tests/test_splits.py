"""Which splits of a data set are trained, validated and tested on."""

from __future__ import annotations

import pytest

from reproduce.datasets import dataset_spec
from reproduce.datasets.splits import SplitPlan, plan_splits, split_of
from reproduce.errors import InputError


@pytest.mark.parametrize(
    ("dataset", "listed", "train", "val", "test"),
    [
        ("csv", ["train", "test"], ("train",), (), ("test",)),
        ("csv", ["val", "train", "test"], ("train",), ("val",), ("test",)),
        ("csv", ["train", "val"], ("train",), (), ("val",)),  # never trained on, never pooled with train
        ("folder", ["train", "val", "test"], ("train",), ("val",), ("test",)),
        ("kinetics_sounds", ["train", "val"], ("train",), (), ("val",)),
        ("epic_kitchens", ["train", "validation"], ("train",), (), ("validation",)),
        ("audioset", ["balanced_train", "eval"], ("balanced_train",), (), ("eval",)),
    ],
)
def test_fixed_splits_are_planned_by_their_names(
    dataset: str, listed: list[str], train: tuple[str, ...], val: tuple[str, ...], test: tuple[str, ...]
) -> None:
    assert plan_splits(dataset_spec(dataset), listed) == SplitPlan(train=train, val=val, test=test)


@pytest.mark.parametrize("dataset", ["csv", "folder", "esc50"])
def test_folds_have_no_fixed_plan(dataset: str) -> None:
    assert plan_splits(dataset_spec(dataset), ["1", "2", "10"]) is None


@pytest.mark.parametrize(
    ("listed", "says"), [(["test"], "nothing to train on"), (["train"], "nothing to test on"), ([], "no split")]
)
def test_a_side_without_clips_is_refused(listed: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plan_splits(dataset_spec("csv"), listed)


def test_names_of_no_split_are_not_guessed() -> None:
    assert [split_of(name) for name in ("trian", "fold1", "train ", "-1", "1.0", "٣", "1" * 5000, "")] == [None] * 8
