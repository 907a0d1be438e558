"""A folder per class: `ROOT/CLASS/...` or `ROOT/{train,val,test}/CLASS/...`; no annotation file.

The split layout is recognised when every folder in ROOT has a split's name. Otherwise the folders are classes and
the clips are dealt into folds "1".."5" by the hash of their path (`stratified_folds`), so that cross-validation is
the same on every machine. Classes are sorted by name; clips may be anywhere below their class folder. Hidden files and
folders are left out; other files that are no audio become a problem each, not fatal. No unit of resampling but the
clip is known: give a CSV with a `group` column for that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex
from reproduce.datasets.readers.annotation_csv import existing_folder
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder, ListedClip
from reproduce.datasets.readers.folds import stratified_folds
from reproduce.datasets.readers.labels import note_similar_labels
from reproduce.datasets.readers.scan import MEDIA_RANK, list_folder, split_suffix, walk_files
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.datasets.splits import is_fold, split_of
from reproduce.errors import InputError

_FOLD_FOLDER = re.compile(r"fold[ _-]?\d+", re.IGNORECASE)


def read_folder(root: str | Path) -> ClipIndex:
    """Clips below the class folders of `root`; a clip's id is its path relative to `root`.

    Raises InputError if there is no class folder, if class and split folders are mixed, or if the folders are folds.
    """
    folder = existing_folder(root)
    top = list_folder(folder)[0]
    splits = _split_folders(folder, top)
    class_folders = {parent: list_folder(folder / parent)[0] for parent in splits} if splits else {"": top}
    names = sorted({name for children in class_folders.values() for name in children})
    if not names:
        raise InputError(f"{folder}: no class folder; put each class's files in a folder named after the class")
    _refuse_fold_folders(folder, names)
    builder = ClipIndexBuilder([DEFAULT_HEAD])
    files = _files_by_class(folder, bool(splits), builder)
    for parent, children in class_folders.items():
        for name in children:
            if not files.get((parent, name)):
                path = f"{parent}/{name}" if parent else name
                builder.problem(path, "empty-class", f"{folder / path}: no audio file in this class folder")
    if not files:
        raise InputError(f"{folder}: no audio file in any of its {len(names)} class folders, e.g. {names[0]}/")
    note_similar_labels(str(folder), names, builder)
    pairs = ((split_suffix(path)[0], name) for (_, name), paths in files.items() for path in paths)
    folds = {} if splits else stratified_folds(pairs)
    for parent in class_folders:
        for number, name in enumerate(names):
            for path in files.get((parent, name), ()):
                split = splits[parent] if splits else folds[split_suffix(path)[0]]
                builder.add(ListedClip(clip_id=path, split=split, labels={DEFAULT_HEAD: (number,)}), path)
    return builder.index("folder", folder, {DEFAULT_HEAD: tuple(names)}, multilabel=False)


def _split_folders(folder: Path, top: Sequence[str]) -> dict[str, str]:
    """Folder name -> split name; empty where the folders are classes."""
    known = {name: split for name in top if (split := split_of(name)) and not is_fold(split)}
    others = [name for name in top if name not in known]
    if not others and known:
        repeated = [name for name in known if list(known.values()).count(known[name]) > 1]
        if repeated:
            raise InputError(f"{folder}: folders {' and '.join(repeated)} name the same split; keep one")
        # A single class called "train" (the vehicle) holds audio directly; a split holds class folders.
        return known if any(list_folder(folder / name)[0] for name in known) else {}
    if len(set(known.values())) > 1:
        raise InputError(
            f"{folder}: holds the split folders {', '.join(known)} beside {', '.join(others[:3])}; "
            f"move those elsewhere, or the classes into the splits"
        )
    return {}


def _refuse_fold_folders(folder: Path, names: Sequence[str]) -> None:
    """UrbanSound8K's fold1 to fold10 are no classes, be they in `folder` or in its folder `audio`."""
    inside = list_folder(folder / "audio")[0] if "audio" in names else []
    for children in (names, inside):
        if len(children) > 1 and all(map(_FOLD_FOLDER.fullmatch, children)):
            raise InputError(
                f"{folder}: its folders {children[0]}, {children[1]}, ... are folds, not classes (as in UrbanSound8K); "
                "write a CSV with the columns path,label,fold and read it with `csv`"
            )


def _files_by_class(root: Path, has_splits: bool, builder: ClipIndexBuilder) -> Mapping[tuple[str, str], list[str]]:
    """(split folder or "", class folder) -> media files relative to `root`, sorted; notes everything else."""
    files: dict[tuple[str, str], list[tuple[str, str]]] = {}
    others: list[tuple[str, str]] = []
    depth = 2 if has_splits else 1

    def skipped(folder: str, reason: str) -> None:
        builder.problem(folder, "folder", f"{root / folder}: {reason}, not read", fatal=False)

    for folder, names in walk_files(root, skipped):
        parts = folder.split("/") if folder else []
        key = ("" if depth == 1 else parts[0], parts[depth - 1]) if len(parts) >= depth else None
        for name in names:
            if key is not None and split_suffix(name)[1] in MEDIA_RANK:
                files.setdefault(key, []).append((folder, name))
            else:
                others.append((folder, name))
    for folder, name in sorted(others):
        path = f"{folder}/{name}" if folder else name
        if split_suffix(name)[1] in MEDIA_RANK:
            builder.problem(path, "no-class", f"{root / path}: outside of the class folders, not used")
        else:
            builder.problem(path, "not-audio", f"{root / path}: no audio file, not used", fatal=False)
    return {key: [f"{folder}/{name}" for folder, name in sorted(pairs)] for key, pairs in files.items()}


register_dataset(
    DatasetSpec(
        name="folder",
        title="Own folder",
        read=read_folder,
    )
)
