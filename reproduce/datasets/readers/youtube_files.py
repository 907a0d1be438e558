"""Files of clips cut from YouTube videos, found under whatever naming scheme people have.

A file's stem is a video id of 11 characters, with or without a leading `Y` (PANNs), with or without the start time
and the end time, in seconds or milliseconds: `ID`, `YID`, `ID_30`, `ID_000030`, `ID_000030_000040`, `ID_30.0_40.0`,
`ID_30000_40000`. Folders do not matter: flat, per class, per split, per part. Every file is taken to be cut to its
clip already. The table is columnar, since AudioSet has two million files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.datasets.index import STRING, Problem
from reproduce.datasets.readers.scan import BLOCK, MEDIA_RANK, split_suffix, walk_files

ID_LENGTH = 11
ID_DTYPE = np.dtype(f"S{ID_LENGTH}")
PACK_SUFFIXES = (".h5", ".hdf5", ".hdf")
# cvdfoundation/kinetics-dataset: 1,392 broken K400 videos have a sound copy in this folder.
REPLACEMENTS = "replacement_for_corrupted"
NO_START = -1
# Kinds of match, best first.
_MATCHES = ("replacement", "seconds", "milliseconds", "seconds rounded down", "no start in the name or known")
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_ID_CHARACTERS = re.compile(r"[A-Za-z0-9_-]*")
# An id may itself begin with Y; as it has 11 characters always, one reading at most fits.
_STEM = re.compile(r"Y?([A-Za-z0-9_-]{11})(?:[_-](\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?)?", re.ASCII)


def is_video_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def are_video_ids(texts: Sequence[str]) -> bool:
    """Whether all are, checked at one go."""
    return set(map(len, texts)) <= {ID_LENGTH} and _ID_CHARACTERS.fullmatch("".join(texts)) is not None


def parse_stem(stem: str) -> tuple[str, int] | None:
    """(video id, start) of a file name without its suffix, or None if it has neither form.

    The start is the number in the name times 1000 (whether it counts seconds or milliseconds, the name does not
    say), or NO_START.
    """
    match = _STEM.fullmatch(stem)
    if match is None:
        return None
    start = match[2]
    return match[1], (NO_START if start is None else round(float(start) * 1000))


class StringColumn:
    """Grows a NumPy string array without keeping a Python string per element."""

    def __init__(self) -> None:
        self._done: list[np.ndarray] = []
        self._open: list[str] = []

    def append(self, text: str) -> None:
        self._open.append(text)
        if len(self._open) >= BLOCK:
            self._close_block()

    def extend(self, texts: Sequence[str]) -> None:
        self._open.extend(texts)
        if len(self._open) >= BLOCK:
            self._close_block()

    def _close_block(self) -> None:
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
        score = np.full(len(ids), len(_MATCHES), np.int64)
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
        """How well each file's name fits its clip's start: place in _MATCHES, or their number if it is another clip."""
        named, known = self.starts[files], ~np.isnan(starts)
        seconds = np.where(known, starts, 0.0)
        exact = np.round(seconds * 1000).astype(np.int64)
        score = np.where((named == NO_START) | ~known, 4, len(_MATCHES))
        score[known & (named == np.floor(seconds).astype(np.int64) * 1000)] = 3
        score[known & (named == exact * 1000)] = 2
        score[known & (named == exact)] = 1
        replacement = np.array([REPLACEMENTS in folder for folder in self.folders], bool)[self.folder_of[files]]
        score[replacement & (score < len(_MATCHES))] = 0
        return score

    def paths(self, rows: np.ndarray) -> np.ndarray:
        """Paths of files relative to the root, (m,) strings."""
        prefixes = np.array([f"{folder}/" if folder else "" for folder in self.folders], STRING)
        if not len(rows):
            return np.empty(0, STRING)
        return np.strings.add(prefixes[self.folder_of[rows]], self.names[rows])


def scan_youtube_files(root: Path, elsewhere: Sequence[Path] = ()) -> YouTubeFiles:
    """One pass over the tree under `root`, and over folders `elsewhere`, whose files get absolute paths."""
    blocks = []
    folders: list[str] = []
    packs: list[str] = []
    strange: list[str] = []
    for folder, names in _walk_all(root, elsewhere):
        if not folders or folders[-1] != folder:
            folders.append(folder)
        blocks.append(_parse_block(folder, names, len(folders) - 1, packs, strange))
    columns = [np.concatenate(parts) for parts in zip(*blocks, _parse_block("", [], 0, packs, strange), strict=True)]
    ids, starts, ranks, folder_of, kept = columns
    order = _sorted_order(ids, starts, ranks, folder_of, kept)
    return YouTubeFiles(
        ids=ids[order],
        starts=starts[order],
        names=kept[order],
        folder_of=folder_of[order],
        folders=tuple(folders),
        packs=tuple(sorted(packs)),
        problems=_strange_names(root, strange),
    )


def _walk_all(root: Path, elsewhere: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    yield from walk_files(root)
    for place in elsewhere:
        if not place.resolve().is_relative_to(root.resolve()):
            for folder, names in walk_files(place):
                yield (place.absolute() / folder).as_posix(), names


def _parse_block(
    folder: str, names: Sequence[str], folder_number: int, packs: list[str], strange: list[str]
) -> tuple[np.ndarray, ...]:
    """Columns (ids, starts, ranks, folder_of, names) of the media files among `names`; notes packs and strangers."""
    ids, starts, ranks, kept = [], [], [], []
    for name in names:
        stem, suffix = split_suffix(name)
        rank = MEDIA_RANK.get(suffix)
        clip = parse_stem(stem) if rank is not None else None
        if clip is not None:
            ids.append(clip[0])
            starts.append(clip[1])
            ranks.append(rank)
            kept.append(name)
        elif rank is not None:
            strange.append(f"{folder}/{name}" if folder else name)
        elif suffix in PACK_SUFFIXES:
            packs.append(f"{folder}/{name}" if folder else name)
    return (
        np.frombuffer("".join(ids).encode(), ID_DTYPE),
        np.array(starts, np.int64),
        np.array(ranks, np.int8),
        np.full(len(ids), folder_number, np.int32),
        np.array(kept, STRING),
    )


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
