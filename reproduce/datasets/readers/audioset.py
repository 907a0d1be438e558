"""AudioSet: 527 classes, several labels per clip, mAP.

Variants: "balanced" trains on `balanced_train`, "full" on the union of `balanced_train` and `unbalanced_train`; both
test on `eval`. A clip's id is its YouTube id, whatever the source, so that the clips of two copies can be compared.

What is listed comes, per split, from the first of
- the official `<split>_segments.csv` (see `audioset_lists`);
- a JSON file as YuanGongND/ast takes it; its `whole_train_data.json` is a split named "whole_train", which replaces
  both train splits;
- HDF5 packs of PANNs (qiuqiangkong/audioset_tagging_cnn) or PaSST (kkoutini/PaSST), named after the split.
The audio of a split comes from its packs where there are any, and from files otherwise (see `youtube_files`). The
classes come from `class_labels_indices.csv`, which has to be beside the lists in every case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reproduce.audio.packs import SEPARATOR
from reproduce.datasets.index import ClipIndex, Labels, Problem
from reproduce.datasets.readers.annotation_csv import existing_folder
from reproduce.datasets.readers.audioset_lists import CLASS_TABLE, read_ast_json, read_classes, read_segments
from reproduce.datasets.readers.listing import (
    About,
    Listing,
    Located,
    assemble,
    find_annotation,
    locate,
    without_repeats,
)
from reproduce.datasets.readers.packs import Pack, open_pack
from reproduce.datasets.readers.scan import split_suffix
from reproduce.datasets.readers.youtube_files import YouTubeFiles, scan_youtube_files
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "balanced": ("balanced_train", "eval"),
    "full": ("balanced_train", "unbalanced_train", "eval"),
}
WHOLE_TRAIN = "whole_train"
_NAMES: Mapping[str, tuple[str, ...]] = {
    **{split: (f"{split}_segments.csv", f"{split}_data.json", f"{split}.json") for split in VARIANTS["full"]},
    WHOLE_TRAIN: (f"{WHOLE_TRAIN}_data.json", f"{WHOLE_TRAIN}.json"),
}


def read_audioset(
    root: str | Path, variant: str = "balanced", annotations: str | Path | None = None, follow_outside: bool = False
) -> ClipIndex:
    """Clips under `root`, with the lists in `annotations` (or in `root`, or a folder of it such as `metadata`).

    Args:
        follow_outside: search the folders outside of `root` that AST's JSON lists name, too.

    Raises:
        InputError: an unknown variant, no class table, no list at all, or a mangled one.
    """
    if variant not in VARIANTS:
        raise InputError(f"AudioSet has no variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    folder = existing_folder(root)
    lists = existing_folder(annotations) if annotations is not None else None
    table = find_annotation(folder, [CLASS_TABLE], lists)
    if table is None:
        raise InputError(
            f"{lists or folder}: no {CLASS_TABLE}; put AudioSet's class table (index,mid,display_name) there"
        )
    mids, classes = read_classes(table)
    listings, named, problems = _read_tables(_find_tables(folder, lists, variant), mids)
    files = scan_youtube_files(folder, _followed(folder, named, follow_outside, problems))
    packs = _packs_by_split(folder, files, VARIANTS[variant])
    for split in VARIANTS[variant]:
        if split in listings or (WHOLE_TRAIN in listings and split != "eval"):
            continue
        if split in packs:
            listings[split] = _list_packs(split, packs[split], len(classes))
        else:
            message = f"{lists or folder}: no {split}_segments.csv, JSON list or pack of {split}, so no such clips"
            problems.append(Problem("", "no-annotation", message))
    if not listings:
        raise InputError(
            f"{lists or folder}: none of {', '.join(_NAMES['eval'])} nor a pack; put AudioSet's lists there"
        )
    in_order = [listings[split] for split in (*VARIANTS["full"], WHOLE_TRAIN) if split in listings]
    listings.clear()  # two million rows each: no copy is kept longer than needed
    kept, repeats = without_repeats(in_order, str(lists or folder))
    located = [_locate_in_packs(folder, part, packs[part.split]) for part in kept if part.split in packs]
    located += locate([part for part in kept if part.split not in packs], files)
    everything = (*problems, *repeats, *files.problems)
    del in_order, kept, files
    about = About(
        dataset="audioset", root=folder, classes=classes, multilabel=True, problems=everything, variant=variant
    )
    return assemble(located, about)


def _followed(root: Path, named: Sequence[Path], follow_outside: bool, problems: list[Problem]) -> list[Path]:
    """Folders to search beside the root, of those that a list names; notes those that are not searched."""
    outside = [folder for folder in named if not folder.resolve().is_relative_to(root.resolve())]
    if outside and not follow_outside:
        message = (
            f"{root}: the lists name {len(outside)} folders outside of it, e.g. {outside[0]}, which are not searched; "
            "allow it with --follow-outside"
        )
        problems.append(Problem("", "outside", message, fatal=False))
        return []
    return outside


def _find_tables(root: Path, lists: Path | None, variant: str) -> dict[str, Path]:
    """Split -> its list; a list of the whole train set is used where the unbalanced one is absent."""
    tables = {split: table for split in VARIANTS[variant] if (table := find_annotation(root, _NAMES[split], lists))}
    whole = find_annotation(root, _NAMES[WHOLE_TRAIN], lists) if variant == "full" else None
    if whole and "unbalanced_train" not in tables:
        tables.pop("balanced_train", None)  # it is part of the whole
        tables[WHOLE_TRAIN] = whole
    return tables


def _read_tables(
    tables: Mapping[str, Path], mids: Mapping[str, int]
) -> tuple[dict[str, Listing], list[Path], list[Problem]]:
    """(split -> what it lists, folders that the lists name, problems)."""
    listings: dict[str, Listing] = {}
    folders: set[Path] = set()
    problems: list[Problem] = []
    for split, table in tables.items():
        if table.suffix == ".json":
            listings[split], named = read_ast_json(table, split, mids)
            folders |= named
        else:
            listings[split], notes = read_segments(table, split, mids)
            problems += notes
    return listings, sorted(folders), problems


def _packs_by_split(root: Path, files: YouTubeFiles, splits: Sequence[str]) -> dict[str, list[Pack]]:
    """The packs of the tree, by the split that begins their names: `unbalanced_train_part07.h5`."""
    packs: dict[str, list[Pack]] = {}
    for name in files.packs:
        stem = split_suffix(name.rpartition("/")[2])[0]
        split = next((split for split in splits if stem.startswith(split)), None)
        pack = open_pack(root / name) if split else None
        if split and pack:
            packs.setdefault(split, []).append(pack)
    return packs


def _list_packs(split: str, packs: Sequence[Pack], classes: int) -> Listing:
    videos = np.concatenate([pack.videos for pack in packs])
    labels = Labels.concatenate([pack.labels(classes) for pack in packs])
    return Listing(split=split, clip_ids=videos, videos=videos, start=np.full(len(videos), np.nan), labels=labels)


def _locate_in_packs(root: Path, listing: Listing, packs: Sequence[Pack]) -> Located:
    videos = np.concatenate([pack.videos for pack in packs])
    paths = Strings.of(
        f"{pack.path.relative_to(root).as_posix()}{SEPARATOR}{row}" for pack in packs for row in pack.rows
    )
    order = np.argsort(videos, kind="stable")
    at = np.minimum(np.searchsorted(videos[order], listing.videos), len(videos) - 1)
    present = videos[order[at]] == listing.videos
    return Located(listing, present, paths[order[at[present]]])


register_dataset(
    DatasetSpec(
        name="audioset",
        title="AudioSet",
        read=read_audioset,
        stats_source="YuanGongND/ast egs/audioset",
        train_splits=("balanced_train", "unbalanced_train", WHOLE_TRAIN),
        test_splits=("eval",),
        variants=tuple(VARIANTS),
        unit="video",
        names_paths=True,
    )
)
