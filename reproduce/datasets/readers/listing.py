"""From what an annotation file lists and what lies on disk to a ClipIndex, column by column."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD, STRING, ClipIndex, Labels, Problem
from reproduce.datasets.readers.youtube_files import ID_DTYPE, StringColumn, YouTubeFiles
from reproduce.errors import InputError


@dataclass(frozen=True)
class Listing:
    """What one split lists: n clips.

    Args:
        split: its name.
        clip_ids: (n,) strings, the ids that results are keyed by.
        videos: (n,) S11 YouTube ids. start, stop: (n,) float64 seconds within the video, NaN where not stated.
        labels: class indices of each clip.
    """

    split: str
    clip_ids: np.ndarray
    videos: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    labels: Labels

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, rows: np.ndarray) -> Listing:
        return Listing(
            self.split,
            self.clip_ids[rows],
            self.videos[rows],
            self.start[rows],
            self.stop[rows],
            self.labels.take(rows),
        )


class ListingBuilder:
    """Grows a Listing by a clip at a time, in flat arrays: some 60 bytes a clip."""

    def __init__(self, split: str) -> None:
        self.split = split
        self._clip_ids = StringColumn()
        self._videos = bytearray()
        self._start, self._stop = array("d"), array("d")
        self._values, self._offsets = array("i"), array("q", [0])

    def add(self, clip_id: str, video: str, start: float, stop: float, labels: Sequence[int]) -> None:
        """`video` must be a valid id of 11 characters."""
        self._clip_ids.append(clip_id)
        self._videos += video.encode()
        self._start.append(start)
        self._stop.append(stop)
        self._values.extend(labels)
        self._offsets.append(len(self._values))

    def extend(
        self, videos: Sequence[str], start: array[float], stop: array[float], labels: Sequence[str], values: array[int]
    ) -> None:
        """Many clips whose id is their video's. `labels[i]` holds clip i's labels parted by commas, `values` all."""
        self._clip_ids.extend(videos)
        self._videos += "".join(videos).encode()
        self._start.extend(start)
        self._stop.extend(stop)
        counts = np.array([text.count(",") for text in labels], np.int64) + 1
        self._offsets.frombytes((self._offsets[-1] + np.cumsum(counts)).tobytes())
        self._values.extend(values)

    def listing(self) -> Listing:
        return Listing(
            split=self.split,
            clip_ids=self._clip_ids.array(),
            videos=np.frombuffer(bytes(self._videos), ID_DTYPE),
            start=np.array(self._start, np.float64),
            stop=np.array(self._stop, np.float64),
            labels=Labels(np.array(self._offsets, np.int64), np.array(self._values, np.int32)),
        )


@dataclass(frozen=True)
class Located:
    """A Listing with the path of each clip's file, relative to the root; "" where there is none."""

    listing: Listing
    paths: np.ndarray


def locate(listings: Sequence[Listing], files: YouTubeFiles) -> list[Located]:
    """All splits at one go: a file that names no start must not be given to a train and a test clip of its video."""
    if not listings:
        return []
    rows = files.find(
        np.concatenate([listing.videos for listing in listings]),
        np.concatenate([listing.start for listing in listings]),
    )
    paths = np.full(len(rows), "", STRING)
    present = np.flatnonzero(rows >= 0)
    paths[present] = files.paths(rows[present])
    ends = np.cumsum([len(listing) for listing in listings])
    return [Located(listing, paths[end - len(listing) : end]) for listing, end in zip(listings, ends, strict=True)]


def without_repeats(listings: Sequence[Listing], source: str) -> tuple[list[Listing], list[Problem]]:
    """Each clip id once, the first time it is listed; one Problem for each that is listed again."""
    ids = np.concatenate([listing.clip_ids for listing in listings])
    order = np.argsort(ids, kind="stable")
    again = np.zeros(len(ids), bool)
    again[order[1:]] = ids[order[1:]] == ids[order[:-1]]
    if not again.any():
        return list(listings), []
    kept, problems, at = [], [], 0
    for listing in listings:
        here = again[at : at + len(listing)]
        at += len(listing)
        kept.append(listing.take(np.flatnonzero(~here)))
        for clip_id in listing.clip_ids[here]:
            message = f"{source}: clip {clip_id} is listed again ({listing.split}); only the first is used"
            problems.append(Problem(str(clip_id), "duplicate", message))
    return kept, problems


def assemble(
    dataset: str,
    root: Path,
    located: Sequence[Located],
    classes: tuple[str, ...],
    *,
    multilabel: bool,
    problems: Sequence[Problem],
    variant: str = "",
) -> ClipIndex:
    """The index of the clips that have a file; the rest become `missing_ids`. Files are cut: start and stop are NaN."""
    if not located:
        raise InputError(f"{root}: nothing is listed; give the folder that holds the annotation files")
    masks = [part.paths != "" for part in located]
    kept = [part.listing.take(np.flatnonzero(mask)) for part, mask in zip(located, masks, strict=True)]
    count = sum(map(len, kept))
    return ClipIndex(
        dataset=dataset,
        classes={DEFAULT_HEAD: classes},
        multilabel=multilabel,
        root=root,
        clip_ids=np.concatenate([listing.clip_ids for listing in kept]),
        paths=np.concatenate([part.paths[mask] for part, mask in zip(located, masks, strict=True)]),
        splits=np.concatenate([np.full(len(listing), listing.split, STRING) for listing in kept]),
        start=np.full(count, np.nan),
        stop=np.full(count, np.nan),
        labels={DEFAULT_HEAD: join_labels([listing.labels for listing in kept])},
        problems=tuple(problems),
        listed={part.listing.split: len(part.listing) for part in located},
        variant=variant,
        missing_ids=np.concatenate([part.listing.clip_ids[~mask] for part, mask in zip(located, masks, strict=True)]),
        missing_splits=np.concatenate(
            [np.full(int((~mask).sum()), part.listing.split, STRING) for part, mask in zip(located, masks, strict=True)]
        ),
        listed_per_class=_listed_per_class([part.listing for part in located], len(classes)),
    )


def join_labels(parts: Sequence[Labels]) -> Labels:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Labels(offsets, np.concatenate([part.values for part in parts]).astype(np.int32))


def _listed_per_class(listings: Sequence[Listing], classes: int) -> Mapping[tuple[str, str], np.ndarray]:
    return {
        (listing.split, DEFAULT_HEAD): np.bincount(listing.labels.values, minlength=classes).astype(np.int64)
        for listing in listings
    }


ANNOTATION_FOLDERS = ("", "annotations", "meta", "metadata", "csv", "segments", "data", "datafiles")


def find_annotation(root: Path, names: Sequence[str], annotations: Path | None) -> Path | None:
    """The first of `names` in `annotations`, or else in `root` or a folder of it where annotations usually lie."""
    places = [annotations] if annotations is not None else [root / folder for folder in ANNOTATION_FOLDERS]
    return next((place / name for place in places for name in names if (place / name).is_file()), None)
