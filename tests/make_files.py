"""Files for the readers' tests: empty ones, text by lines, and small data sets in their official layouts."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reproduce.datasets import ClipIndex, read_dataset
from reproduce.errors import InputError

VIDEO_IDS = ("aaaaaaaaaaa", "-bbbbb_bbb-", "Yccccccccc_")  # ids may begin with - or Y and end with - or _
EPIC_HEAD = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class"
EPIC_ROW = "P01_01_0,P01,P01_01,00:00:01.50,00:00:02.25,wash,1,cup,2"
SEGMENT_HEAD = ("# Segments csv", "# num_ytids=2, num_segs=2", "# YTID, start_seconds, end_seconds, positive_labels")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def epic_root(root: Path, *rows: str) -> Path:
    """EPIC-KITCHENS-100's lists with two verbs, three nouns, one training segment and `rows` to validate on."""
    write(root / "EPIC_100_verb_classes.csv", "id,key,instances,category", "0,take,['x'],a", "1,wash,\"['x', 'y']\",a")
    write(root / "EPIC_100_noun_classes.csv", "id,key,instances,category", "0,tap,a,b", "1,pan,a,b", "2,cup,a,b")
    write(root / "EPIC_100_train.csv", EPIC_HEAD, "P02_01_0,P02,P02_01,00:00:00.00,00:01:00.00,take,0,tap,0")
    write(root / "EPIC_100_validation.csv", EPIC_HEAD, *(rows or (EPIC_ROW,)))
    return root


def audioset_root(root: Path, *rows: str) -> Path:
    """AudioSet's lists with three classes and the eval segments `rows`, by default two."""
    write(
        root / "class_labels_indices.csv",
        "index,mid,display_name",
        "0,/m/0,Speech",
        '1,/m/1,"Dog, bark"',
        "2,/m/2,Rain",
    )
    a, b, _ = VIDEO_IDS
    rows = rows or (f'{a}, 30.000, 40.000, "/m/0,/m/2"', f'{b}, 0.000, 7.000, "/m/1"')
    write(root / "eval_segments.csv", *SEGMENT_HEAD, *rows)
    return root


def paths_of(index: ClipIndex) -> dict[str, str]:
    """Clip id -> path."""
    return dict(zip(index.clip_ids, index.paths, strict=True))


def reasons(index: ClipIndex) -> list[str]:
    return [problem.reason for problem in index.problems]


def assert_refused(name: str, root: Path, says: str, **options: Any) -> None:
    """Reading `root` fails with one line that names it and matches `says`."""
    with pytest.raises(InputError, match=says) as caught:
        read_dataset(name, root, **options)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the kernel writes what fits, then refuses, as a full disk does.

    Python 3.11 keeps bytecode that was cut short in this way, so none is written meanwhile.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = writes_none
