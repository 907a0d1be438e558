"""What every data set becomes once it is read: a columnar index of clips, and the problems met on the way.

AudioSet has two million clips, so no Python object is kept per clip: columns are arrays, and `ClipIndex.clip(i)` makes
a `Clip` when one is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from reproduce.datasets.strings import Strings
from reproduce.errors import displayable

DEFAULT_HEAD = "label"


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled stretch of audio.

    Args:
        clip_id: name that results are keyed by; holds no path of this machine.
        path: the file, or `FILE.h5::KEY` in a pack.
        labels: head -> class indices.
        split: name of its split or fold.
        start: seconds into the file; None for its beginning.
        stop: seconds into the file; None for its end.
    """

    clip_id: str
    path: Path
    labels: dict[str, tuple[int, ...]]
    split: str
    start: float | None = None
    stop: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A clip or row that could not be used (or, where `fatal` is False, was used with a warning).

    Names of files and rows come from outside: id and message are made `displayable`.
    """

    clip_id: str
    reason: str
    message: str
    fatal: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "clip_id", displayable(self.clip_id))
        object.__setattr__(self, "message", displayable(self.message))


@dataclass(frozen=True)
class Labels:
    """Class indices of n clips for one head, in compressed rows: clip i has values[offsets[i]:offsets[i+1]].

    Args:
        offsets: (n + 1,) int64.
        values: (labels,) int32.
    """

    offsets: np.ndarray
    values: np.ndarray

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]]) -> Labels:
        """From the class indices of each clip."""
        counts: list[int] = [0]
        values: list[int] = []
        for row in rows:
            values.extend(row)
            counts.append(len(values))
        return cls(np.asarray(counts, np.int64), np.asarray(values, np.int32))

    @classmethod
    def concatenate(cls, parts: Sequence[Labels]) -> Labels:
        """The clips of all parts, one part after the other."""
        lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
        return cls(np.cumsum(lengths), np.concatenate([np.empty(0, np.int32), *(part.values for part in parts)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> tuple[int, ...]:
        """Class indices of clip i."""
        return tuple(int(v) for v in self.values[self.offsets[i] : self.offsets[i + 1]])

    def take(self, indices: np.ndarray) -> Labels:
        """The rows at `indices`, (k,) integers, in that order."""
        lengths = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        flat += np.arange(offsets[-1])
        return Labels(offsets, self.values[flat])


@dataclass(frozen=True)
class ClipIndex:
    """A data set as read from disk: n clips that have a file, and m that are listed without one.

    Args:
        dataset: registered name.
        classes: head name -> class names, in index order. A data set with a single head calls it "label".
        multilabel: whether a clip may carry several labels (BCE and mAP rather than CE and accuracy).
        root: folder that `paths` are relative to.
        clip_ids: (n,) names that results are keyed by; they hold no path of this machine.
        paths: (n,) files relative to `root`, or absolute.
        splits: (n,) names such as "train", "val", "test" or a fold number.
        start: (n,) float64 seconds, NaN for the file's beginning.
        stop: (n,) float64 seconds, NaN for the file's end.
        labels: head name -> Labels of n rows.
        problems: rows or files that could not be used; they are not among the n clips (unless not fatal).
        listed: split -> number of clips that the annotation files list, present on disk or not.
        variant: of the data set; "" where there is only one.
        missing_ids: (m,) ids of the listed clips without a file. Columns, because AudioSet lacks half a million;
            readers of small data sets also add a Problem that names the row.
        missing_splits: (m,) their splits.
        listed_per_class: (split, head) -> (classes,) int64, how many listed clips carry each class.
        unit: what is drawn when a score is resampled: "video", "recording", "speaker", "group" or "clip".
        groups: (n,) id of each clip's unit; None where every clip is a unit.
    """

    dataset: str
    classes: Mapping[str, tuple[str, ...]]
    multilabel: bool
    root: Path
    clip_ids: Strings
    paths: Strings
    splits: Strings
    start: np.ndarray
    stop: np.ndarray
    labels: Mapping[str, Labels]
    problems: tuple[Problem, ...] = ()
    listed: Mapping[str, int] = field(default_factory=dict)
    variant: str = ""
    missing_ids: Strings = field(default_factory=partial(Strings.of, ()))
    missing_splits: Strings = field(default_factory=partial(Strings.of, ()))
    listed_per_class: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    unit: str = "clip"
    groups: Strings | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def clip(self, i: int) -> Clip:
        """The clip at position i."""
        start, stop = float(self.start[i]), float(self.stop[i])
        return Clip(
            clip_id=self.clip_ids[i],
            path=self.root / self.paths[i],
            labels={head: rows.row(i) for head, rows in self.labels.items()},
            split=self.splits[i],
            start=None if np.isnan(start) else start,
            stop=None if np.isnan(stop) else stop,
        )

    def take(self, indices: np.ndarray) -> ClipIndex:
        """The same data set, cut down to the clips at `indices` ((k,) integers, in that order)."""
        indices = np.asarray(indices, np.int64)
        return replace(
            self,
            clip_ids=self.clip_ids[indices],
            paths=self.paths[indices],
            splits=self.splits[indices],
            start=self.start[indices],
            stop=self.stop[indices],
            labels={head: rows.take(indices) for head, rows in self.labels.items()},
            groups=None if self.groups is None else self.groups[indices],
        )

    def positions_of(self, *splits: str) -> np.ndarray:
        """Positions of the clips of the named splits, ascending, (k,) int64."""
        chosen = np.zeros(len(self), bool)
        for name in splits:
            chosen |= self.splits == name
        return np.flatnonzero(chosen)

    def where_split(self, *names: str) -> ClipIndex:
        """The clips of the named splits, in the index's order; `listed` and the missing ids stay those of the whole."""
        return self.take(self.positions_of(*names))

    def split_names(self) -> tuple[str, ...]:
        """Names of the splits that have clips, sorted; fold numbers where the data set is cross-validated."""
        return tuple(self.splits.distinct())

    def units(self) -> Strings:
        """(n,) id of each clip's unit of resampling: `groups`, or the clips themselves."""
        return self.clip_ids if self.groups is None else self.groups

    def targets(self, head: str = DEFAULT_HEAD, indices: np.ndarray | None = None) -> np.ndarray:
        """Multi-hot targets (n, classes), float32."""
        rows = self.labels[head] if indices is None else self.labels[head].take(np.asarray(indices))
        dense = np.zeros((len(rows), len(self.classes[head])), np.float32)
        dense[np.repeat(np.arange(len(rows)), np.diff(rows.offsets)), rows.values] = 1.0
        return dense

    def identity_sha256(self) -> str:
        """Hash what a result depends on: clip ids, stretches, labels and class names, whatever their order on disk."""
        digest = hashlib.sha256(json.dumps({h: list(c) for h, c in self.classes.items()}, sort_keys=True).encode())
        order = self.clip_ids.order()
        heads = [(self.labels[head].offsets, self.labels[head].values) for head in sorted(self.labels)]
        ids = (data for block in self.clip_ids[order].blocks() for data in block)
        for i, clip_id in zip(order.tolist(), ids, strict=True):
            digest.update(clip_id + f"\t{self.start[i]}\t{self.stop[i]}".encode())
            for offsets, values in heads:
                digest.update(values[offsets[i] : offsets[i + 1]].tobytes())
            digest.update(b"\n")
        return digest.hexdigest()

    def ids_sha256(self) -> str:
        """Hash the set of clips: independent of their order and of where the files are."""
        digest = hashlib.sha256()
        for block in self.clip_ids[self.clip_ids.order()].blocks():
            digest.update(b"\n".join([*block, b""]))
        return digest.hexdigest()
