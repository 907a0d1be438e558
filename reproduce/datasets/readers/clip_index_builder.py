"""Gathers the clips of a small data set row by row into a ClipIndex.

For up to some hundred thousand clips; the readers of YouTube lists fill columns (see `listing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.datasets.index import ClipIndex, Labels, Problem
from reproduce.datasets.strings import Strings
from reproduce.errors import displayable


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedClip:
    """One clip as a list names it.

    Args:
        clip_id: name that results are keyed by.
        split: name of its split or fold.
        labels: head -> class indices.
        start: seconds, NaN for the file's beginning.
        stop: seconds, NaN for the file's end.
        group: id of its unit of resampling; "" where every clip is a unit.
    """

    clip_id: str
    split: str
    labels: Mapping[str, Sequence[int]]
    start: float = float("nan")
    stop: float = float("nan")
    group: str = ""


class ClipIndexBuilder:
    """Rows in, ClipIndex out. Every listed clip is either `add`ed or reported `missing`; both count as listed.

    Args:
        heads: names of the heads that every clip is labelled for.
        unit: of resampling, see `ClipIndex.unit`; clips need a `group` unless it is "clip".
    """

    def __init__(self, heads: Sequence[str], unit: str = "clip") -> None:
        self.heads = tuple(heads)
        self.unit = unit
        self.problems: list[Problem] = []
        self._clips: list[ListedClip] = []
        self._paths: list[str] = []
        self._missing: list[ListedClip] = []

    def problem(self, clip_id: str, reason: str, message: str, *, fatal: bool = True) -> None:
        """Note a row or file that could not be used; see `Problem`."""
        self.problems.append(Problem(clip_id, reason, message, fatal))

    def add(self, clip: ListedClip, path: str) -> None:
        """A clip whose file is at `path`, relative to the root or absolute."""
        self._clips.append(clip)
        self._paths.append(path)

    def missing(self, clip: ListedClip, message: str = "") -> None:
        """A clip without a file. A `message` makes it a Problem too; large data sets keep the id alone."""
        if message:
            self.problem(clip.clip_id, "missing", message)
        self._missing.append(clip)

    def index(
        self, dataset: str, root: Path, classes: Mapping[str, tuple[str, ...]], *, multilabel: bool, variant: str = ""
    ) -> ClipIndex:
        """The index of all clips added so far; ids and class names are made displayable."""
        clips, missing = self._clips, self._missing
        return ClipIndex(
            dataset=dataset,
            classes={head: tuple(map(displayable, names)) for head, names in classes.items()},
            multilabel=multilabel,
            root=root,
            clip_ids=Strings.of(displayable(clip.clip_id) for clip in clips),
            paths=Strings.of(self._paths),
            splits=Strings.of(clip.split for clip in clips),
            start=np.array([clip.start for clip in clips], np.float64),
            stop=np.array([clip.stop for clip in clips], np.float64),
            labels={head: Labels.from_rows(clip.labels[head] for clip in clips) for head in self.heads},
            problems=tuple(self.problems),
            listed=dict(sorted(Counter(clip.split for clip in (*clips, *missing)).items())),
            variant=variant,
            missing_ids=Strings.of(displayable(clip.clip_id) for clip in missing),
            missing_splits=Strings.of(clip.split for clip in missing),
            listed_per_class=self._listed_per_class(classes),
            unit=self.unit,
            groups=None if self.unit == "clip" else Strings.of(displayable(clip.group) for clip in clips),
        )

    def _listed_per_class(self, classes: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, str], np.ndarray]:
        listed = (*self._clips, *self._missing)
        keys = [(split, head) for split in sorted({clip.split for clip in listed}) for head in self.heads]
        counts = {key: np.zeros(len(classes[key[1]]), np.int64) for key in keys}
        for clip in listed:
            for head in self.heads:
                counts[clip.split, head][list(clip.labels[head])] += 1
        return counts
