"""Gathers the clips of a small corpus row by row into a ClipIndex.

For corpora of up to some hundred thousand clips; AudioSet's reader fills columns directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reproduce.datasets.index import STRING, ClipIndex, Labels, Problem


class ClipIndexBuilder:
    """Rows in, ClipIndex out. Every listed clip is either `add`ed or reported `missing`; both count as listed."""

    def __init__(self, heads: Sequence[str]) -> None:
        self.heads = tuple(heads)
        self.problems: list[Problem] = []
        self._rows: list[tuple[str, str, float, float]] = []
        self._splits: list[str] = []
        self._labels: list[tuple[Sequence[int], ...]] = []
        self._missing: list[tuple[str, str]] = []
        self._missing_labels: list[tuple[Sequence[int], ...]] = []

    def problem(self, clip_id: str, reason: str, message: str, *, fatal: bool = True) -> None:
        self.problems.append(Problem(clip_id, reason, message, fatal))

    def add(
        self,
        clip_id: str,
        path: str,
        split: str,
        labels: Mapping[str, Sequence[int]],
        start: float = float("nan"),
        stop: float = float("nan"),
    ) -> None:
        self._rows.append((clip_id, path, start, stop))
        self._splits.append(split)
        self._labels.append(tuple(labels[head] for head in self.heads))

    def missing(self, clip_id: str, split: str, labels: Mapping[str, Sequence[int]], message: str = "") -> None:
        """A listed clip without a file. A `message` makes it a Problem too; large corpora keep the id alone."""
        if message:
            self.problem(clip_id, "missing", message)
        self._missing.append((clip_id, split))
        self._missing_labels.append(tuple(labels[head] for head in self.heads))

    def index(
        self, dataset: str, root: Path, classes: Mapping[str, tuple[str, ...]], *, multilabel: bool, variant: str = ""
    ) -> ClipIndex:
        missing_splits = [split for _, split in self._missing]
        return ClipIndex(
            dataset=dataset,
            classes=classes,
            multilabel=multilabel,
            root=root,
            clip_ids=np.array([row[0] for row in self._rows], STRING),
            paths=np.array([row[1] for row in self._rows], STRING),
            splits=np.array(self._splits, STRING),
            start=np.array([row[2] for row in self._rows], np.float64),
            stop=np.array([row[3] for row in self._rows], np.float64),
            labels={head: Labels.from_rows(row[i] for row in self._labels) for i, head in enumerate(self.heads)},
            problems=tuple(self.problems),
            listed=dict(sorted(Counter(self._splits + missing_splits).items())),
            variant=variant,
            missing_ids=np.array([clip_id for clip_id, _ in self._missing], STRING),
            missing_splits=np.array(missing_splits, STRING),
            listed_per_class=self._listed_per_class(missing_splits, classes),
        )

    def _listed_per_class(
        self, missing_splits: list[str], classes: Mapping[str, tuple[str, ...]]
    ) -> dict[tuple[str, str], np.ndarray]:
        splits, labels = self._splits + missing_splits, self._labels + self._missing_labels
        keys = [(split, head) for split in sorted(set(splits)) for head in self.heads]
        counts = {key: np.zeros(len(classes[key[1]]), np.int64) for key in keys}
        for split, row in zip(splits, labels, strict=True):
            for head, values in zip(self.heads, row, strict=True):
                counts[split, head][list(values)] += 1
        return counts
