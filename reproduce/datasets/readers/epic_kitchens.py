"""EPIC-KITCHENS-100: long kitchen videos, segments by timestamps, two heads: verb (97) and noun (300).

The lists are `EPIC_100_train.csv` and `EPIC_100_validation.csv` of epic-kitchens/epic-kitchens-100-annotations, the
classes `EPIC_100_verb_classes.csv` and `EPIC_100_noun_classes.csv`. The labelled split that one can test on is
"validation"; the official test list has no labels. An action is right if both verb and noun are. Segments of a video
are not independent: the video is the unit of resampling.

The audio is one file per video, anywhere below the root, with the video's id as its stem (`P01/videos/P01_01.MP4`,
`P01_01.wav`), or the HDF5 pack of ekazakos/auditory-slow-fast, in which each dataset is a video (see `packs`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from reproduce.audio.packs import ASF_RATE, SEPARATOR
from reproduce.datasets.index import ClipIndex
from reproduce.datasets.readers.annotation_csv import existing_folder, read_table, whole_number
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder, ListedClip
from reproduce.datasets.readers.listing import find_annotation
from reproduce.datasets.readers.packs import video_keys
from reproduce.datasets.readers.scan import MEDIA_RANK, PACK_SUFFIXES, split_suffix, walk_files
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

HEADS = ("verb", "noun")
SPLITS = ("train", "validation")
COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
_TIMESTAMP = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d(?:\.\d{1,9})?)")


def read_epic_kitchens(root: str | Path, annotations: str | Path | None = None, pack_rate: int = ASF_RATE) -> ClipIndex:
    """Segments of the videos under `root`, with the lists in `annotations` (or in `root`, or a folder of it).

    A clip's id is its narration_id. `pack_rate` is the sampling rate that an auditory-slow-fast HDF5 file was made
    with, which it does not state. A file is preferred to a pack. Raises InputError for a list or class table that is
    absent or mangled.
    """
    folder = existing_folder(root)
    lists = existing_folder(annotations) if annotations is not None else None
    classes = {head: _read_classes(folder, lists, head) for head in HEADS}
    tables = {split: find_annotation(folder, [f"EPIC_100_{split}.csv"], lists) for split in SPLITS}
    if not any(tables.values()):
        names = " nor ".join(f"EPIC_100_{split}.csv" for split in SPLITS)
        raise InputError(f"{lists or folder}: neither {names}; put the EPIC-KITCHENS-100 lists there")
    builder = ClipIndexBuilder(HEADS, unit="video")
    videos = _find_videos(folder, pack_rate, builder)
    for split, table in tables.items():
        if table:
            _collect(table, split, classes, videos, builder)
        else:
            message = f"{lists or folder}: no EPIC_100_{split}.csv, so no {split} clips"
            builder.problem("", "no-annotation", message)
    return builder.index("epic_kitchens", folder, classes, multilabel=False)


def video_of(narration_id: str) -> str:
    """ "P01_01" from "P01_01_42"."""
    return narration_id.rpartition("_")[0] or narration_id


def seconds(timestamp: str) -> float:
    """ "00:05:27.28" -> 327.28; ValueError if it has another form."""
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None:
        raise ValueError(f"{timestamp!r} is not of the form HH:MM:SS.ff")
    return round(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]), 6)


def _read_classes(root: Path, lists: Path | None, head: str) -> tuple[str, ...]:
    name = f"EPIC_100_{head}_classes.csv"
    table = find_annotation(root, [name], lists)
    if table is None:
        raise InputError(f"{lists or root}: no {name}; put the file of epic-kitchens-100-annotations there")
    columns, rows = read_table(table, ("id", "key"))
    names: list[str] = []
    for line, row in rows:
        # noun_classes_v2.csv and the files of EPIC-KITCHENS-55 have other ids: a gap would shift every class.
        if len(row) != len(columns) or row[columns["id"]].strip() != str(len(names)):
            raise InputError(f"{table} row {line}: not class {len(names)} as id,key,...; restore the official file")
        names.append(row[columns["key"]].strip())
    if not names:
        raise InputError(f"{table}: no class below the header; restore the official file")
    return tuple(names)


def _find_videos(root: Path, pack_rate: int, builder: ClipIndexBuilder) -> dict[str, str]:
    """Video id -> path, packed or not. There are 700 videos, so a dict will do."""
    files: dict[str, tuple[int, str]] = {}
    videos: dict[str, str] = {}

    def skipped(folder: str, reason: str) -> None:
        builder.problem("", "folder", f"{root / folder}: {reason}, not read", fatal=False)

    for folder, name in ((folder, name) for folder, names in walk_files(root, skipped) for name in names):
        stem, suffix = split_suffix(name)
        path = f"{folder}/{name}" if folder else name
        if suffix in MEDIA_RANK:
            files[stem] = min(files.get(stem, (len(MEDIA_RANK), "")), (MEDIA_RANK[suffix], path))
        elif suffix in PACK_SUFFIXES:
            keys = video_keys(root / path)
            if not keys:
                builder.problem("", "unknown-pack", f"{root / path}: no dataset per video, not used", fatal=False)
            rate = "" if pack_rate == ASF_RATE else f"@{pack_rate}"
            videos.update((key, f"{path}{SEPARATOR}{key}{rate}") for key in keys)
    videos.update((stem, path) for stem, (_, path) in files.items())
    return videos


def _collect(
    table: Path,
    split: str,
    classes: Mapping[str, tuple[str, ...]],
    videos: Mapping[str, str],
    builder: ClipIndexBuilder,
) -> None:
    columns, rows = read_table(table, COLUMNS)
    first_line: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"{table} row {line}: {len(row)} columns where the header has {len(columns)}; restore the official file"
            )
        clip_id, video, start_text, stop_text, verb, noun = (row[columns[name]].strip() for name in COLUMNS)
        if first_line.setdefault(clip_id, line) != line:
            message = f"{table} row {line}: {clip_id} is already in row {first_line[clip_id]}; only that is used"
            builder.problem(clip_id, "duplicate", message)
            continue
        labels = {
            "verb": _class(table, line, "verb", verb, classes),
            "noun": _class(table, line, "noun", noun, classes),
        }
        try:
            start, stop = seconds(start_text), seconds(stop_text)
        except ValueError as error:
            raise InputError(f"{table} row {line}: timestamp {error}; restore the official file") from None
        if stop <= start:
            raise InputError(f"{table} row {line}: stops at {stop_text}, not after {start_text}; restore the file")
        clip = ListedClip(clip_id=clip_id, split=split, labels=labels, start=start, stop=stop, group=video)
        if video in videos:
            builder.add(clip, videos[video])
        else:
            builder.missing(clip)
    if not first_line:
        raise InputError(f"{table}: no segment below the header; restore the official file")


def _class(table: Path, line: int, head: str, text: str, classes: Mapping[str, tuple[str, ...]]) -> tuple[int]:
    number, count = whole_number(text), len(classes[head])
    if number is None or number >= count:
        raise InputError(
            f"{table} row {line}: unknown class {text!r}, {head}_class must be 0 to {count - 1}; "
            f"use the lists and class tables of one release"
        )
    return (number,)


register_dataset(
    DatasetSpec(
        name="epic_kitchens",
        title="EPIC-KITCHENS-100",
        read=read_epic_kitchens,
        test_splits=("validation",),
        unit="video",
        group_of=video_of,
    )
)
