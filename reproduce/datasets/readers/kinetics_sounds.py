"""Kinetics-Sounds: the classes of Kinetics-400 that can be heard. Top-1.

There is no agreed class list, so the variant is part of the result:
- ks34: the 34 classes of Arandjelovic & Zisserman 2017 (Look, Listen and Learn, appendix A1), under the names that
  Kinetics-400 gave them later; "typing" and "patting" have no clips there any more;
- ks32: without these two (facebookresearch/selavi datasets/AVideoDataset.py, pritamqu/CrissCross#4); the default, and
  by its clip counts the paper's;
- ks31: also without "strumming guitar" (IBM/AdaMML#3).

The lists are those of Kinetics-400: `train.csv` and `val.csv` with the columns label,youtube_id,time_start,time_end.
The validation list is what the paper tests on. Without lists, `ROOT/{train,val}/.../CLASS/FILE` is read.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex, Problem
from reproduce.datasets.readers.annotation_csv import existing_folder, read_table
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder, ListedClip
from reproduce.datasets.readers.listing import (
    About,
    Listing,
    ListingBuilder,
    find_annotation,
    find_clips,
)
from reproduce.datasets.readers.scan import MEDIA_RANK, list_folder, split_suffix, walk_files
from reproduce.datasets.readers.youtube_files import is_video_id, video_of
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

# What Kinetics-400 calls the classes that had other names in 2017.
RENAMED = {
    "blowing out": "blowing out candles",
    "dribbling ball": "dribbling basketball",
    "mowing the lawn by pushing lawnmower": "mowing lawn",
    "stomping": "stomping grapes",
    "fingerpicking": "strumming guitar",
}


KS34 = (
    "blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing",
    "mowing lawn", "patting", "playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet",
    "playing drums", "playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano",
    "playing saxophone", "playing trombone", "playing trumpet", "playing violin", "playing xylophone",
    "ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes", "strumming guitar",
    "tap dancing", "tapping guitar", "tapping pen", "tickling", "typing",
)  # fmt: skip


KS32 = tuple(name for name in KS34 if name not in ("patting", "typing"))
KS31 = tuple(name for name in KS32 if name != "strumming guitar")
VARIANTS: Mapping[str, tuple[str, ...]] = {"ks32": KS32, "ks31": KS31, "ks34": KS34}
# Kinetics-400's 400 names are not at hand, so a misspelt class is recognised by its likeness to a class: the
# nearest of these to a class or old name ("playing cricket", "tango dancing") reach 0.84.
_MISSPELT_LIKENESS = 0.88
COLUMNS = ("label", "youtube_id", "time_start", "time_end")
SPLIT_WORDS = {"train": ("train",), "val": ("val", "validate", "validation")}
_PREFIXES = ("", "kinetics_", "kinetics400_", "kinetics-400_", "k400_")
_FOLDER_SPLITS = {word: split for split, words in SPLIT_WORDS.items() for word in words}


def read_kinetics_sounds(root: str | Path, variant: str = "ks32", annotations: str | Path | None = None) -> ClipIndex:
    """Clips of the variant's classes under `root`, with the lists in `annotations` (or in or below `root`).

    A clip's id is `id_start6_end6`, as in the official file names; without lists it is the stem of the file.
    Raises InputError for an unknown variant, or lists that are mangled or misspell a class.
    """
    if variant not in VARIANTS:
        raise InputError(f"Kinetics-Sounds has no variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    folder = existing_folder(root)
    lists = existing_folder(annotations) if annotations is not None else None
    classes = VARIANTS[variant]
    tables = {
        split: table
        for split, words in SPLIT_WORDS.items()
        if (table := find_annotation(folder, [f"{p}{word}.csv" for p in _PREFIXES for word in words], lists))
    }
    if not tables:
        return _read_folders(folder, variant, lists)
    problems = [
        Problem("", "no-annotation", f"{lists or folder}: no {split}.csv of Kinetics-400, so no {split} clips")
        for split in SPLIT_WORDS
        if split not in tables
    ]
    class_of = {name: i for i, name in enumerate(classes)}
    listings = [read_listing(table, split, class_of) for split, table in tables.items()]
    problems += _absent_classes(listings, classes, next(iter(tables.values())))
    about = About(
        dataset="kinetics_sounds",
        root=folder,
        classes=classes,
        multilabel=False,
        problems=tuple(problems),
        variant=variant,
    )
    return find_clips(listings, next(iter(tables.values())).name, about)


def canonical_class(label: str) -> str:
    """A class name as Kinetics-400 has it now: "Blowing_out" -> "blowing out candles"."""
    name = " ".join(label.replace("_", " ").split()).lower()
    return RENAMED.get(name, name)


def read_listing(table: Path, split: str, class_of: Mapping[str, int]) -> Listing:
    """The clips of `class_of` in one of Kinetics-400's lists; the other classes are left out.

    Raises InputError for a row that is mangled, or whose label is nearly, but not quite, a class of the variants.
    """
    columns, rows = read_table(table, COLUMNS)
    at = [columns[name] for name in COLUMNS]
    builder = ListingBuilder(split)
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"{table} row {line}: {len(row)} columns where the header has {len(columns)}; restore the official file"
            )
        label, video, start, stop = (row[i].strip() for i in at)
        number = class_of.get(canonical_class(label))
        if number is None:
            _check_other_class(table, line, label)
            continue
        if not is_video_id(video):
            raise InputError(f"{table} row {line}: {video!r} is no YouTube id of 11 characters; restore the file")
        first, last = _second(table, line, start), _second(table, line, stop)
        if last <= first:
            raise InputError(f"{table} row {line}: time_end {stop} is not after time_start {start}; restore the file")
        builder.add(video, first, (number,), clip_id=f"{video}_{first:06d}_{last:06d}")
    return builder.listing()


def _check_other_class(table: Path, line: int, label: str) -> None:
    """Raise InputError for a label that is no other class of Kinetics-400, but a mangled or misspelt one."""
    if not label or '"' in label:
        raise InputError(f"{table} row {line}: label {label!r} is no class name; mend its quotes, or restore the file")
    meant = _misspelt(canonical_class(label))
    if meant is not None:
        raise InputError(f"{table} row {line}: label {label!r} is not {meant!r}; mend it, or restore the official file")


@lru_cache(maxsize=1024)  # a list repeats each of its 400 names hundreds of times
def _misspelt(name: str) -> str | None:
    """The class, or a class's old name, that `name` nearly is; None if it is one, or is like none."""
    known = (*KS34, *RENAMED)
    if name in known:
        return None
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=_MISSPELT_LIKENESS)), None)


def _second(table: Path, line: int, text: str) -> int:
    try:
        seconds = float(text)  # some tools have written 10.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise InputError(f"{table} row {line}: time {text!r} is no number of seconds; restore the official file")
    return int(seconds)


def _absent_classes(listings: Sequence[Listing], classes: Sequence[str], table: Path) -> list[Problem]:
    """A class without clips is either a stand-in's, gone from Kinetics-400 (typing, patting), or misspelt."""
    seen = {int(value) for listing in listings for value in set(listing.labels.values.tolist())}
    absent = [name for i, name in enumerate(classes) if i not in seen]
    if not absent:
        return []
    message = f"{table}: lists no clip of {len(absent)} of the {len(classes)} classes: {', '.join(absent)}"
    return [Problem("", "class-absent", message, fatal=False)]


def _read_folders(root: Path, variant: str, lists: Path | None) -> ClipIndex:
    """Class folders below `train` and `val`, at any depth (`videos/train/CLASS/FILE`); all are listed."""
    classes = VARIANTS[variant]
    class_of = {name: i for i, name in enumerate(classes)}
    builder = ClipIndexBuilder([DEFAULT_HEAD], unit="video")
    clips = []
    for folder, names in walk_files(root):
        parts = folder.split("/")
        number = class_of.get(canonical_class(parts[-1]))
        split = next((_FOLDER_SPLITS[part] for part in parts[:-1] if part in _FOLDER_SPLITS), None)
        if number is None or split is None:
            continue
        for name in names:
            stem, suffix = split_suffix(name)
            if suffix in MEDIA_RANK:
                clips.append((stem, MEDIA_RANK[suffix], f"{folder}/{name}", split, number))
    if not clips:
        contents = ", ".join(list_folder(root)[0][:4]) or "nothing"
        raise InputError(
            f"{lists or root}: no train.csv or val.csv of Kinetics-400, and no train/CLASS/ or val/CLASS/ below "
            f"{root} (it contains {contents}); put the lists there"
        )
    message = f"{lists or root}: no train.csv (val.csv) of Kinetics-400: the files that are there count as listed"
    builder.problem("", "no-annotation", message, fatal=False)
    first: dict[str, str] = {}
    for stem, _, path, split, number in sorted(clips):
        if stem in first:
            builder.problem(stem, "duplicate", f"{root / path}: clip {stem} is also {first[stem]}; that one is used")
            continue
        first[stem] = path
        labels = {DEFAULT_HEAD: (number,)}
        builder.add(ListedClip(clip_id=stem, split=split, labels=labels, group=video_of(stem)), path)
    return builder.index("kinetics_sounds", root, {DEFAULT_HEAD: classes}, multilabel=False, variant=variant)


register_dataset(
    DatasetSpec(
        name="kinetics_sounds",
        title="Kinetics-Sounds",
        read=read_kinetics_sounds,
        test_splits=("val",),
        variants=tuple(VARIANTS),
        unit="video",
        group_of=video_of,
    )
)
