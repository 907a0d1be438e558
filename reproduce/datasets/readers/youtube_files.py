"""Files of clips cut from YouTube videos, recognised under whatever naming scheme people have.

A file's stem is a video id of 11 characters, with or without a leading `Y` (PANNs), with or without the start time
and the end time, in seconds or milliseconds: `ID`, `YID`, `ID_30`, `ID_000030`, `ID_000030_000040`, `ID_30.0_40.0`,
`ID_30000_40000`. Folders do not matter: flat, per class, per split, per part. Every file is taken to be cut to its
clip already. AudioSet has two million files, so names are parsed by the column, in Arrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.datasets.index import Problem
from reproduce.datasets.readers.scan import MEDIA_RANK, PACK_SUFFIXES, split_suffix, walk_files
from reproduce.datasets.strings import Strings, arrow_integers

ID_LENGTH = 11
ID_DTYPE = np.dtype(f"S{ID_LENGTH}")
# cvdfoundation/kinetics-dataset: 1,392 broken K400 videos have a sound copy in this folder.
REPLACEMENTS = "replacement_for_corrupted"
NO_START = -1
# Kinds of match, best first.
_MATCHES = ("replacement", "seconds", "milliseconds", "seconds rounded down", "no start in the name or known")
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_STEM_PATTERN = (
    r"Y?(?P<video>[A-Za-z0-9_-]{11})"  # an id may begin with Y: of 11 characters, so one reading at most fits
    r"(?:[_-](?P<start>[0-9]{1,12}(?:\.[0-9]{1,9})?)(?:[_-][0-9]{1,12}(?:\.[0-9]{1,9})?)?)?"
)
_STEM = re.compile(_STEM_PATTERN)
_NAME_PATTERN = rf"^{_STEM_PATTERN}\.(?P<suffix>[A-Za-z0-9]+)$"
_ROWS_PER_JOIN = 1 << 18


def is_video_id(text: str) -> bool:
    """Whether `text` has the form of a YouTube id: 11 of the characters A-Z, a-z, 0-9, _ and -."""
    return _ID.fullmatch(text) is not None


def parse_stem(stem: str) -> tuple[str, int] | None:
    """(video id, start) of a file name without its suffix, or None if it has neither form.

    The start is the number in the name times 1000 (the name does not state whether it counts seconds or milliseconds),
    or NO_START.
    """
    match = _STEM.fullmatch(stem)
    if match is None:
        return None
    start = match["start"]
    return match["video"], (NO_START if start is None else round(float(start) * 1000))


def video_of(clip_id: str) -> str:
    """YouTube id of a clip named after its file; any other name counts as a video."""
    clip = parse_stem(clip_id)
    return clip_id if clip is None else clip[0]


@dataclass(frozen=True, kw_only=True)
class YouTubeFiles:
    """The n media files of a tree, grouped by their k video ids.

    Args:
        videos: (k,) Arrow array of the distinct ids.
        first: (k + 1,) int64: the files of video i are rows first[i] to first[i + 1], in order of preference.
        starts: (n,) int64, as `parse_stem` gives them.
        names: (n,) file names.
        folder_of: (n,) int32, index into `folders`.
        folders: relative to the root that was scanned ("" is the root), or absolute.
        packs: HDF5 files, relative to the root, sorted.
        problems: files and folders that could not be used.
    """

    videos: Any
    first: np.ndarray
    starts: np.ndarray
    names: Strings
    folder_of: np.ndarray
    folders: tuple[str, ...]
    packs: tuple[str, ...]
    problems: tuple[Problem, ...]

    def find(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Row of the file of each clip, or -1.

        A file whose name has the clip's start is preferred over one without, and a file with another start is
        another clip. A file without start that several clips of one video could claim is given to none of them: it
        can hold one at most, and which one is unknown.

        Args:
            ids: (m,) S11 video ids.
            starts: (m,) float64 seconds, NaN where not known.
        """
        import pyarrow
        import pyarrow.compute

        rows = np.full(len(ids), -1, np.int64)
        if not len(self.videos) or not len(ids):
            return rows
        known = pyarrow.compute.index_in(Strings.from_bytes(ids).arrow, value_set=self.videos)
        at = known.fill_null(-1).to_numpy(zero_copy_only=False)
        score = np.full(len(ids), len(_MATCHES), np.int8)
        clips = np.flatnonzero(at >= 0)
        step = 0
        while len(clips):
            files = self.first[at[clips]] + step
            new = self._score(files, starts[clips])
            better = new < score[clips]
            rows[clips[better]], score[clips[better]] = files[better], new[better]
            step += 1
            clips = clips[self.first[at[clips] + 1] - self.first[at[clips]] > step]
        without_start = (rows >= 0) & (self.starts[rows] == NO_START)
        claims = np.bincount(rows[without_start], minlength=len(self.starts))
        rows[without_start & (claims[rows] > 1)] = -1
        return rows

    def _score(self, files: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """How well each file's name fits its clip's start: index in _MATCHES, or their number for another clip."""
        named, known = self.starts[files], ~np.isnan(starts)
        seconds = np.where(known, starts, 0.0)
        exact = np.round(seconds * 1000).astype(np.int64)
        score = np.where((named == NO_START) | ~known, 4, len(_MATCHES)).astype(np.int8)
        score[known & (named == np.floor(seconds).astype(np.int64) * 1000)] = 3
        score[known & (named == exact * 1000)] = 2
        score[known & (named == exact)] = 1
        replacement = np.array([REPLACEMENTS in folder for folder in self.folders], bool)[self.folder_of[files]]
        score[replacement & (score < len(_MATCHES))] = 0
        return score

    def paths(self, rows: np.ndarray) -> Strings:
        """Paths of the files at `rows`, (m,), relative to the root."""
        import pyarrow.compute

        prefixes = Strings.of(f"{folder}/" if folder else "" for folder in self.folders)
        parts = []
        for at in range(0, len(rows), _ROWS_PER_JOIN):
            block = rows[at : at + _ROWS_PER_JOIN]
            columns = prefixes[self.folder_of[block]].arrow, self.names[block].arrow
            nothing = pyarrow.scalar(b"", pyarrow.large_binary())
            parts.append(Strings(pyarrow.compute.binary_join_element_wise(*columns, nothing)))
        return Strings.concatenate(parts)


@dataclass(frozen=True)
class _Block:
    """Columns of some media files, one row per file; see YouTubeFiles. `ids` is an Arrow array, `ranks` int8."""

    ids: Any
    starts: np.ndarray
    ranks: np.ndarray
    folder_of: np.ndarray
    names: Strings


def scan_youtube_files(root: Path, elsewhere: Sequence[Path] = ()) -> YouTubeFiles:
    """One pass over the tree under `root`, and over folders `elsewhere`, whose files get absolute paths."""
    import pyarrow

    blocks: list[_Block] = []
    folders: list[str] = []
    packs: list[str] = []
    strange: list[str] = []
    problems: list[Problem] = []
    for folder, names in _walk_all(root, elsewhere, problems):
        if not folders or folders[-1] != folder:
            folders.append(folder)
        block, others = _parse_names(names, len(folders) - 1)
        blocks.append(block)
        for name in others:
            suffix, path = split_suffix(name)[1], f"{folder}/{name}" if folder else name
            if suffix in PACK_SUFFIXES:
                packs.append(path)
            elif suffix in MEDIA_RANK:
                strange.append(path)
    blocks.append(_parse_names([], 0)[0])
    names_column = Strings.concatenate([block.names for block in blocks])
    starts, ranks, folder_of = (
        np.concatenate([getattr(block, column) for block in blocks]) for column in ("starts", "ranks", "folder_of")
    )
    coded = pyarrow.chunked_array([block.ids for block in blocks]).combine_chunks().dictionary_encode()
    blocks.clear()
    code = coded.indices.to_numpy()
    counts = np.bincount(code, minlength=len(coded.dictionary))
    order = _grouped_order(code, counts, (starts, ranks, folder_of), names_column)
    return YouTubeFiles(
        videos=coded.dictionary,
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        starts=starts[order],
        names=names_column[order],
        folder_of=folder_of[order],
        folders=tuple(folders),
        packs=tuple(sorted(packs)),
        problems=(*problems, *_strange_names(root, strange)),
    )


def _walk_all(root: Path, elsewhere: Sequence[Path], problems: list[Problem]) -> Iterator[tuple[str, list[str]]]:
    for base in (root, *elsewhere):
        if base is not root and base.resolve().is_relative_to(root.resolve()):
            continue

        def skipped(folder: str, reason: str, base: Path = base) -> None:
            problems.append(Problem("", "folder", f"{base / folder}: {reason}, not read", fatal=False))

        for folder, names in walk_files(base, skipped):
            yield folder if base is root else (base.absolute() / folder).as_posix(), names


def _parse_names(names: Sequence[str], folder_number: int) -> tuple[_Block, list[str]]:
    """The media files of YouTube clips among `names`, and the names of all other files."""
    import pyarrow
    import pyarrow.compute

    column = Strings.of(names)
    fields = pyarrow.compute.extract_regex(column.arrow, _NAME_PATTERN)
    videos, starts, suffixes = (part.cast(pyarrow.large_string()) for part in fields.flatten())
    media = Strings.of(suffix[1:] for suffix in MEDIA_RANK).arrow.cast(pyarrow.large_string())
    rank = pyarrow.compute.index_in(pyarrow.compute.ascii_lower(suffixes), value_set=media)
    rank = rank.fill_null(-1).to_numpy(zero_copy_only=False)
    clips = np.flatnonzero(rank >= 0)
    rows = arrow_integers(clips)
    texts = starts.take(rows)
    texts = pyarrow.compute.if_else(pyarrow.compute.equal(texts, ""), None, texts)
    seconds = texts.cast(pyarrow.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    block = _Block(
        ids=videos.take(rows).cast(pyarrow.large_binary()),
        starts=np.where(np.isnan(seconds), NO_START, np.round(np.nan_to_num(seconds) * 1000)).astype(np.int64),
        ranks=rank[clips].astype(np.int8),
        folder_of=np.full(len(clips), folder_number, np.int32),
        names=column[clips],
    )
    return block, [names[i] for i in np.flatnonzero(rank < 0).tolist()]


def _grouped_order(
    code: np.ndarray, counts: np.ndarray, keys: tuple[np.ndarray, np.ndarray, np.ndarray], names: Strings
) -> np.ndarray:
    """(n,) order that puts the files of a video side by side: by start, rank, folder and name.

    Args:
        code: (n,) number of each file's video.
        counts: (k,) number of files per video.
        keys: (n,) starts, ranks and folders.
    """
    order = np.argsort(code, kind="stable")
    several = np.flatnonzero(counts[code[order]] > 1)
    if len(several):
        rows = order[several]
        rows = rows[names[rows].order()]  # the disk's order differs between machines
        order[several] = rows[np.lexsort((*(key[rows] for key in reversed(keys)), code[rows]))]
    return order


def _strange_names(root: Path, strange: list[str]) -> tuple[Problem, ...]:
    if not strange:
        return ()
    message = (
        f"{root}: {len(strange)} media files carry no YouTube id in their name and are not used, e.g. {min(strange)}"
    )
    return (Problem("", "unknown-name", message, fatal=False),)
