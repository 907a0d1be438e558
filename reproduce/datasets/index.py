"""What every corpus becomes once read: a columnar index of clips, and the problems met on the way.

AudioSet has two million clips, so no per-clip Python object is kept: columns are NumPy arrays, and
`ClipIndex.clip(i)` makes a `Clip` only when one is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

# Sort string columns with kind="stable", and keep off np.unique and np.isin: NumPy 2.4's default sort of this dtype
# falls back on a heapsort that it lacks, and crashes the interpreter on long columns that are partly in order.
STRING = np.dtypes.StringDType()
DEFAULT_HEAD = "label"


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled stretch of audio. `start` and `stop` are seconds; None means the file's own end."""

    clip_id: str
    path: Path
    labels: dict[str, tuple[int, ...]]
    split: str
    start: float | None = None
    stop: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A clip or row that could not be used (or, where `fatal` is False, was used with a warning)."""

    clip_id: str
    reason: str
    message: str
    fatal: bool = True


@dataclass(frozen=True)
class Labels:
    """Class indices of every clip for one head, in compressed rows: clip i has values[offsets[i]:offsets[i+1]]."""

    offsets: np.ndarray
    values: np.ndarray

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]]) -> Labels:
        counts: list[int] = [0]
        values: list[int] = []
        for row in rows:
            values.extend(row)
            counts.append(len(values))
        return cls(np.asarray(counts, np.int64), np.asarray(values, np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> tuple[int, ...]:
        return tuple(int(v) for v in self.values[self.offsets[i] : self.offsets[i + 1]])

    def take(self, indices: np.ndarray) -> Labels:
        lengths = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.repeat(self.offsets[indices] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Labels(offsets, self.values[flat])


@dataclass(frozen=True)
class ClipIndex:
    """A corpus as read from disk.

    Args:
        dataset: registered dataset name; `protocol` is a variant of it ("" where there is only one).
        classes: head name -> class names, in index order. A single-head corpus uses the head "label".
        multilabel: whether a clip may carry several labels (BCE and mAP rather than CE and accuracy).
        root: folder that `paths` are relative to.
        clip_ids, paths, splits: (n,) NumPy string arrays. Ids carry no machine path; splits are names
            such as "train", "test" or a fold number.
        start, stop: (n,) float64 seconds, NaN for "the file's own end".
        labels: head name -> Labels.
        problems: rows or files that could not be used; they are not among the n clips (unless not fatal).
        listed: how many clips the annotation files list, per split, present on disk or not.
        missing_ids, missing_splits: (m,) string arrays, every listed clip that has no file on disk. Columns,
            because AudioSet lacks half a million; readers of small corpora also add a Problem that names the row.
        listed_per_class: (split, head) -> (classes,) int64, how many listed clips carry each class.
    """

    dataset: str
    classes: Mapping[str, tuple[str, ...]]
    multilabel: bool
    root: Path
    clip_ids: np.ndarray
    paths: np.ndarray
    splits: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    labels: Mapping[str, Labels]
    problems: tuple[Problem, ...] = ()
    listed: Mapping[str, int] = field(default_factory=dict)
    variant: str = ""
    missing_ids: np.ndarray = field(default_factory=lambda: np.empty(0, STRING))
    missing_splits: np.ndarray = field(default_factory=lambda: np.empty(0, STRING))
    listed_per_class: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def clip(self, i: int) -> Clip:
        start, stop = float(self.start[i]), float(self.stop[i])
        return Clip(
            clip_id=str(self.clip_ids[i]),
            path=self.root / str(self.paths[i]),
            labels={head: rows.row(i) for head, rows in self.labels.items()},
            split=str(self.splits[i]),
            start=None if np.isnan(start) else start,
            stop=None if np.isnan(stop) else stop,
        )

    def take(self, indices: np.ndarray) -> ClipIndex:
        """The same corpus, cut down to the clips at `indices` (integers, in that order)."""
        indices = np.asarray(indices, np.int64)
        return replace(
            self,
            clip_ids=self.clip_ids[indices],
            paths=self.paths[indices],
            splits=self.splits[indices],
            start=self.start[indices],
            stop=self.stop[indices],
            labels={head: rows.take(indices) for head, rows in self.labels.items()},
        )

    def positions_of(self, *splits: str) -> np.ndarray:
        """Positions of the clips of the named splits, ascending, (n,) int64."""
        chosen = np.zeros(len(self), bool)
        for name in splits:
            chosen |= self.splits == name
        return np.flatnonzero(chosen)

    def where_split(self, *names: str) -> ClipIndex:
        """The clips of the named splits, in the index's order; `listed` and the missing ids stay those of the whole."""
        return self.take(self.positions_of(*names))

    def split_names(self) -> tuple[str, ...]:
        """Names of the splits that have clips, sorted; fold numbers where the corpus is cross-validated."""
        names: list[str] = []
        rest = self.splits
        while len(rest):
            names.append(str(rest[0]))
            rest = rest[rest != rest[0]]
        return tuple(sorted(names))

    def targets(self, head: str = DEFAULT_HEAD, indices: np.ndarray | None = None) -> np.ndarray:
        """Multi-hot targets (n, classes), float32."""
        rows = self.labels[head] if indices is None else self.labels[head].take(np.asarray(indices))
        dense = np.zeros((len(rows), len(self.classes[head])), np.float32)
        dense[np.repeat(np.arange(len(rows)), np.diff(rows.offsets)), rows.values] = 1.0
        return dense

    def identity_sha256(self) -> str:
        """What a result depends on: clip ids, stretches, labels and class names, whatever their order on disk."""
        digest = hashlib.sha256(json.dumps({h: list(c) for h, c in self.classes.items()}, sort_keys=True).encode())
        for i in np.argsort(self.clip_ids, kind="stable"):
            digest.update(f"{self.clip_ids[i]}\t{self.start[i]}\t{self.stop[i]}".encode())
            for head in sorted(self.labels):
                digest.update(self.labels[head].values[slice(*self.labels[head].offsets[i : i + 2])].tobytes())
            digest.update(b"\n")
        return digest.hexdigest()

    def ids_sha256(self) -> str:
        """Identity of the clip set: independent of order and of where the files lie."""
        digest = hashlib.sha256()
        for clip_id in np.sort(self.clip_ids, kind="stable"):
            digest.update(str(clip_id).encode() + b"\n")
        return digest.hexdigest()
