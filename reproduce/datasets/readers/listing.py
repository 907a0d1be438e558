"""From what an annotation file lists and what is on disk to a ClipIndex, column by column."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex, Labels, Problem
from reproduce.datasets.readers.youtube_files import ID_DTYPE, YouTubeFiles, scan_youtube_files
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError, displayable


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What one split lists: n clips.

    Args:
        split: its name.
        clip_ids: (n,) ASCII ids that results are keyed by, dtype S.
        videos: (n,) S11 YouTube ids; the same array as `clip_ids` where a clip is named by its video.
        start: (n,) float64 seconds within the video, NaN where not stated.
        labels: class indices of each clip.
    """

    split: str
    clip_ids: np.ndarray
    videos: np.ndarray
    start: np.ndarray
    labels: Labels

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, rows: np.ndarray) -> Listing:
        """The clips at `rows`, (k,) integers, in that order."""
        videos = self.videos[rows]
        return Listing(
            split=self.split,
            clip_ids=videos if self.clip_ids is self.videos else self.clip_ids[rows],
            videos=videos,
            start=self.start[rows],
            labels=self.labels.take(rows),
        )


class ListingBuilder:
    """Grows a Listing clip by clip."""

    def __init__(self, split: str) -> None:
        self.split = split
        self._clip_ids: list[bytes] = []
        self._videos = bytearray()
        self._start = array("d")
        self._values, self._offsets = array("i"), array("q", [0])

    def add(self, video: str, start: float, labels: Sequence[int], clip_id: str = "") -> None:
        """`video` must be a valid id of 11 characters; it is the clip's id where `clip_id` is empty."""
        if clip_id:
            self._clip_ids.append(clip_id.encode("ascii"))
        self._videos += video.encode()
        self._start.append(start)
        self._values.extend(labels)
        self._offsets.append(len(self._values))

    def listing(self) -> Listing:
        """All clips added so far."""
        videos = np.frombuffer(bytes(self._videos), ID_DTYPE)
        return Listing(
            split=self.split,
            clip_ids=np.array(self._clip_ids) if self._clip_ids else videos,
            videos=videos,
            start=np.array(self._start, np.float64),
            labels=Labels(np.array(self._offsets, np.int64), np.array(self._values, np.int32)),
        )


@dataclass(frozen=True)
class Located:
    """A Listing and the files of its clips.

    Args:
        listing: n clips.
        present: (n,) bool, which clips have a file.
        paths: (present.sum(),) paths relative to the root.
    """

    listing: Listing
    present: np.ndarray
    paths: Strings


def locate(listings: Sequence[Listing], files: YouTubeFiles) -> list[Located]:
    """All splits at once: a file that names no start must not be given to a train and a test clip of its video."""
    if not listings:
        return []
    rows = files.find(
        np.concatenate([listing.videos for listing in listings]),
        np.concatenate([listing.start for listing in listings]),
    )
    parts = np.split(rows, np.cumsum([len(listing) for listing in listings])[:-1])
    return [
        Located(listing, part >= 0, files.paths(part[part >= 0])) for listing, part in zip(listings, parts, strict=True)
    ]


def without_repeats(listings: Sequence[Listing], source: str) -> tuple[list[Listing], list[Problem]]:
    """Each clip id once, the first time it is listed; one Problem for each that is listed again."""
    if not listings:
        return [], []
    ids = np.concatenate([listing.clip_ids for listing in listings])
    in_order = np.sort(ids, kind="stable")  # official lists are sorted, which this sort makes use of
    if not (in_order[1:] == in_order[:-1]).any():
        return list(listings), []
    again = np.ones(len(ids), bool)
    again[np.unique(ids, return_index=True)[1]] = False
    kept, problems, at = [], [], 0
    for listing in listings:
        here = again[at : at + len(listing)]
        at += len(listing)
        kept.append(listing.take(np.flatnonzero(~here)))
        for clip_id in listing.clip_ids[here]:
            message = f"{source}: clip {clip_id.decode()} is listed again ({listing.split}); only the first is used"
            problems.append(Problem(clip_id.decode(), "duplicate", message))
    return kept, problems


@dataclass(frozen=True, kw_only=True)
class About:
    """What a ClipIndex of YouTube clips needs to know beside its clips.

    Args:
        dataset: registered name.
        root: folder that paths are relative to.
        classes: class names in index order.
        multilabel: whether a clip may carry several labels.
        problems: met while reading.
        variant: of the data set.
    """

    dataset: str
    root: Path
    classes: tuple[str, ...]
    multilabel: bool
    problems: tuple[Problem, ...]
    variant: str = ""


def find_clips(listings: Sequence[Listing], source: str, about: About) -> ClipIndex:
    """The index of what a data set of video files lists: repeats left out, files searched below the root.

    Args:
        listings: one per split.
        source: name of the list, for messages.
        about: the data set; problems of repeats and files are added.

    Raises:
        InputError: nothing is listed.
    """
    listings, repeats = without_repeats(listings, source)
    files = scan_youtube_files(about.root)
    problems = (*about.problems, *repeats, *files.problems)
    return assemble(locate(listings, files), replace(about, problems=problems))


def assemble(located: Sequence[Located], about: About) -> ClipIndex:
    """The index of the clips that have a file; the others become `missing_ids`.

    Files are cut already, so start and stop are NaN. The unit of resampling is the video.

    Raises:
        InputError: nothing is listed.
    """
    if not located:
        raise InputError(f"{about.root}: nothing is listed; give the folder that holds the annotation files")
    kept = [part.listing.take(np.flatnonzero(part.present)) for part in located]
    count = sum(map(len, kept))
    clip_ids = Strings.from_bytes(np.concatenate([listing.clip_ids for listing in kept]))
    named_by_video = all(part.listing.clip_ids is part.listing.videos for part in located)
    groups = clip_ids if named_by_video else Strings.from_bytes(np.concatenate([listing.videos for listing in kept]))
    absent = [int((~part.present).sum()) for part in located]
    return ClipIndex(
        dataset=about.dataset,
        classes={DEFAULT_HEAD: tuple(map(displayable, about.classes))},
        multilabel=about.multilabel,
        root=about.root,
        clip_ids=clip_ids,
        paths=Strings.concatenate([part.paths for part in located]),
        splits=Strings.concatenate([Strings.repeat(listing.split, len(listing)) for listing in kept]),
        start=np.full(count, np.nan),
        stop=np.full(count, np.nan),
        labels={DEFAULT_HEAD: Labels.concatenate([listing.labels for listing in kept])},
        problems=about.problems,
        listed={part.listing.split: len(part.listing) for part in located},
        variant=about.variant,
        missing_ids=Strings.from_bytes(np.concatenate([part.listing.clip_ids[~part.present] for part in located])),
        missing_splits=Strings.concatenate(
            [Strings.repeat(part.listing.split, n) for part, n in zip(located, absent, strict=True)]
        ),
        listed_per_class={
            (part.listing.split, DEFAULT_HEAD): np.bincount(part.listing.labels.values, minlength=len(about.classes))
            for part in located
        },
        unit="video",
        groups=groups,
    )


ANNOTATION_FOLDERS = ("", "annotations", "meta", "metadata", "csv", "segments", "data", "datafiles")


def find_annotation(root: Path, names: Sequence[str], annotations: Path | None) -> Path | None:
    """The first of `names` in `annotations`, or else in `root` or a folder of it where annotations usually are."""
    folders = [annotations] if annotations is not None else [root / folder for folder in ANNOTATION_FOLDERS]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)
