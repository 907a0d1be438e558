"""Files of clips cut from YouTube videos, found under whatever naming scheme people have.

A file's stem is a video id of 11 characters, with or without a leading `Y` (PANNs), with or without the start time
and the end time, in seconds or milliseconds: `ID`, `YID`, `ID_30`, `ID_000030`, `ID_000030_000040`, `ID_30.0_40.0`,
`ID_30000_40000`. Folders do not matter: flat, per class, per split, per part. Every file is taken to be cut to its
clip already. The table is columnar, since AudioSet has two million files.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.datasets.base import STRING, Problem
from reproduce.datasets.scan import MEDIA_RANK, split_suffix, walk_files

ID_LENGTH = 11
ID_DTYPE = np.dtype(f"S{ID_LENGTH}")
PACK_SUFFIXES = (".h5", ".hdf5", ".hdf")
# cvdfoundation/kinetics-dataset: 1,392 broken K400 videos have a sound copy in this folder.
REPLACEMENTS = "replacement_for_corrupted"
NO_START = -1
_CHUNK = 1 << 16
_NO_MATCH_BELOW = ("replacement", "seconds", "milliseconds", "seconds rounded down", "no start in the name or known")

_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_CLIP = re.compile(r"([A-Za-z0-9_-]{11})[_-](\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?")


def is_video_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def parse_stem(stem: str) -> tuple[str, int] | None:
    """(video id, start) of a file name without its suffix, or None if it has neither form.

    The start is the number in the name times 1000 (whether it counts seconds or milliseconds, the name does not
    say), or NO_START.
    """
    bare = stem[1:] if stem[:1] == "Y" else ""  # an id may itself begin with Y, so the whole stem goes first
    for text in (stem, bare):
        if len(text) == ID_LENGTH and _ID.fullmatch(text):
            return text, NO_START
        clip = _CLIP.fullmatch(text)
        if clip:
            return clip[1], round(float(clip[2]) * 1000)
    return None


class StringColumn:
    """Grows a NumPy string array without keeping a Python string per element."""

    def __init__(self) -> None:
        self._done: list[np.ndarray] = []
        self._open: list[str] = []

    def append(self, text: str) -> None:
        self._open.append(text)
        if len(self._open) == _CHUNK:
            self._done.append(np.array(self._open, STRING))
            self._open.clear()

    def array(self) -> np.ndarray:
        return np.concatenate([*self._done, np.array(self._open, STRING)])


@dataclass(frozen=True)
class YouTubeFiles:
    """The media files of a tree, sorted by (video id, start, preference): n files.

    Args:
        ids: (n,) S11. starts: (n,) int64 as `parse_stem` gives them. names: (n,) strings.
        folder_of: (n,) int32, index into `folders`, which are relative to the root scanned ("" is the root).
        packs: HDF5 files met on the way, relative to the root, sorted.
        problems: what could not be used, summed up.
    """

    ids: np.ndarray
    starts: np.ndarray
    names: np.ndarray
    folder_of: np.ndarray
    folders: tuple[str, ...]
    packs: tuple[str, ...]
    problems: tuple[Problem, ...]

    def find(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Row of the file of each clip, or -1. ids: (m,) S11; starts: (m,) float64 seconds, NaN where not known.

        A file whose name has the clip's own start is preferred over one without, and a file with another start is
        another clip. A file without start that several clips of one video could claim is given to none of them: it
        can hold one at most, and nobody can tell which.
        """
        rows = np.full(len(ids), -1, np.int64)
        if not len(self.ids) or not len(ids):
            return rows
        first = np.flatnonzero(np.concatenate([[True], self.ids[1:] != self.ids[:-1]]))
        counts = np.diff(first, append=len(self.ids))
        known = self.ids[first]
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        unmatched = len(_NO_MATCH_BELOW)
        score = np.full(len(ids), unmatched, np.int64)
        clips = np.flatnonzero(known[at] == ids)
        step = 0
        while len(clips):
            files = first[at[clips]] + step
            found = self._score(files, starts[clips])
            better = found < score[clips]
            rows[clips[better]], score[clips[better]] = files[better], found[better]
            step += 1
            clips = clips[counts[at[clips]] > step]
        without_start = (rows >= 0) & (self.starts[rows] == NO_START)
        claims = np.bincount(rows[without_start], minlength=len(self.ids))
        rows[without_start & (claims[rows] > 1)] = -1
        return rows

    def _score(self, files: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """How well each file's name fits the start of its clip: 0 is best, see _NO_MATCH_BELOW."""
        named, known = self.starts[files], ~np.isnan(starts)
        seconds = np.where(known, starts, 0.0)
        exact = np.round(seconds * 1000).astype(np.int64)
        score = np.where((named == NO_START) | ~known, 4, len(_NO_MATCH_BELOW))
        score[known & (named == np.floor(seconds).astype(np.int64) * 1000)] = 3
        score[known & (named == exact * 1000)] = 2
        score[known & (named == exact)] = 1
        replacement = np.array([REPLACEMENTS in folder for folder in self.folders], bool)[self.folder_of[files]]
        score[replacement & (score < len(_NO_MATCH_BELOW))] = 0
        return score

    def paths(self, rows: np.ndarray) -> np.ndarray:
        """Paths of files relative to the root, (m,) strings."""
        prefixes = np.array([f"{folder}/" if folder else "" for folder in self.folders], STRING)
        if not len(rows):
            return np.empty(0, STRING)
        return np.strings.add(prefixes[self.folder_of[rows]], self.names[rows])


def scan_youtube_files(root: Path, elsewhere: Sequence[Path] = ()) -> YouTubeFiles:
    """One pass over the tree under `root`, and over folders `elsewhere`, whose files get absolute paths."""
    ids, starts, ranks, folder_of = bytearray(), array("q"), array("B"), array("i")
    names = StringColumn()
    folders: list[str] = []
    packs: list[str] = []
    strange: list[str] = []
    for folder, name in _walk_all(root, elsewhere):
        stem, suffix = split_suffix(name)
        rank = MEDIA_RANK.get(suffix)
        if rank is None:
            if suffix in PACK_SUFFIXES:
                packs.append(f"{folder}/{name}" if folder else name)
            continue
        clip = parse_stem(stem)
        if clip is None:
            strange.append(f"{folder}/{name}" if folder else name)
            continue
        if not folders or folders[-1] != folder:
            folders.append(folder)
        ids += clip[0].encode()
        starts.append(clip[1])
        ranks.append(rank)
        folder_of.append(len(folders) - 1)
        names.append(name)
    columns = (
        np.frombuffer(bytes(ids), ID_DTYPE), np.array(starts, np.int64), np.array(ranks, np.int64),
        np.array(folder_of, np.int32), names.array(),
    )  # fmt: skip
    order = _sorted_order(*columns)
    return YouTubeFiles(
        ids=columns[0][order],
        starts=columns[1][order],
        names=columns[4][order],
        folder_of=columns[3][order],
        folders=tuple(folders),
        packs=tuple(sorted(packs)),
        problems=_strange_names(root, strange),
    )


def _walk_all(root: Path, elsewhere: Sequence[Path]) -> Iterator[tuple[str, str]]:
    yield from walk_files(root)
    for place in elsewhere:
        if not place.resolve().is_relative_to(root.resolve()):
            for folder, name in walk_files(place):
                yield (place.absolute() / folder).as_posix(), name


def _sorted_order(
    ids: np.ndarray, starts: np.ndarray, ranks: np.ndarray, folder_of: np.ndarray, names: np.ndarray
) -> np.ndarray:
    """Order by id; the few ids with several files also by start, rank, folder and name."""
    order = np.argsort(ids, kind="stable")
    same = np.zeros(len(ids) + 1, bool)
    same[1:-1] = ids[order[1:]] == ids[order[:-1]]
    several = np.flatnonzero(same[1:] | same[:-1])
    if len(several):
        rows = order[several]
        rows = rows[np.argsort(names[rows], kind="stable")]  # the disk's own order differs between machines
        order[several] = rows[np.lexsort((folder_of[rows], ranks[rows], starts[rows], ids[rows]))]
    return order


def _strange_names(root: Path, strange: list[str]) -> tuple[Problem, ...]:
    if not strange:
        return ()
    message = (
        f"{root}: {len(strange)} media files carry no YouTube id in their name and are not used, e.g. {min(strange)}"
    )
    return (Problem("", "unknown-name", message, fatal=False),)
