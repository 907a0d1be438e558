"""A folder per class: `ROOT/CLASS/...` or `ROOT/{train,val,test}/CLASS/...`; no annotation file.

The split layout is recognised when every folder in ROOT has a split's name. Otherwise the folders are classes and
the clips are dealt into folds "1".."5" by the hash of their path (`stratified_folds`), so that cross-validation is
the same on every machine. Classes are sorted by name; clips lie anywhere below their class folder. Hidden files and
folders are passed over; other files that are no audio become a problem each, not fatal.
"""

from __future__ import annotations

from pathlib import Path

from reproduce.audio.spec import AUDIOSET_MEAN, AUDIOSET_STD
from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex
from reproduce.datasets.readers.annotation_csv import existing_folder
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder
from reproduce.datasets.readers.folds import FOLDS, stratified_folds
from reproduce.datasets.readers.scan import MEDIA_RANK, list_folder, split_suffix, walk_files
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip


def read_folder(root: str | Path) -> ClipIndex:
    """Clips below the class folders of `root`; a clip's id is its path relative to `root`.

    Raises InputError if there is no class folder, or class and split folders are mixed.
    """
    folder = existing_folder(root)
    top, loose = list_folder(folder)
    builder = ClipIndexBuilder([DEFAULT_HEAD])
    _note_loose_files(folder, loose, builder)
    split_of = _split_folders(folder, top)
    class_folders: dict[str, list[str]] = {}
    if split_of:
        for name in split_of:
            class_folders[name], loose = list_folder(folder / name)
            _note_loose_files(folder / name, loose, builder)
    else:
        class_folders[""] = top
    names = sorted({name for found in class_folders.values() for name in found})
    if not names:
        raise InputError(f"{folder}: no class folder; put each class's files in a folder named after the class")
    class_of = {name: i for i, name in enumerate(names)}
    clips = []
    for parent, found in class_folders.items():
        for name in names:
            paths = _media_below(folder, f"{parent}/{name}" if parent else name, builder) if name in found else []
            clips += [(path, name, split_of.get(parent, "")) for path in paths]
    folds = {} if split_of else stratified_folds((split_suffix(path)[0], name) for path, name, _ in clips)
    for path, name, split in clips:
        builder.add(path, path, split or folds[split_suffix(path)[0]], {DEFAULT_HEAD: (class_of[name],)})
    if not clips:
        raise InputError(f"{folder}: no audio file in any of its {len(names)} class folders, e.g. {names[0]}/")
    return builder.index("folder", folder, {DEFAULT_HEAD: tuple(names)}, multilabel=False)


def _split_folders(folder: Path, top: list[str]) -> dict[str, str]:
    """Folder name -> split name; empty where the folders are classes."""
    split_of = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    others = [name for name in top if name not in split_of]
    if not others and split_of:
        repeated = [name for name in split_of if list(split_of.values()).count(split_of[name]) > 1]
        if repeated:
            raise InputError(f"{folder}: folders {' and '.join(repeated)} name the same split; keep one")
        # A single class called "train" (the vehicle) holds audio directly; a split holds class folders.
        return split_of if any(list_folder(folder / name)[0] for name in split_of) else {}
    if len(set(split_of.values())) > 1:
        raise InputError(
            f"{folder}: holds the split folders {', '.join(split_of)} beside {', '.join(others[:3])}; "
            f"move those elsewhere, or the classes into the splits"
        )
    return {}


def _media_below(root: Path, class_folder: str, builder: ClipIndexBuilder) -> list[str]:
    """Audio and video files below a class folder, relative to `root`; notes what is no audio, and an empty folder."""
    found = []
    for folder, name in sorted((folder, name) for folder, names in walk_files(root / class_folder) for name in names):
        path = "/".join(part for part in (class_folder, folder, name) if part)
        if split_suffix(name)[1] in MEDIA_RANK:
            found.append(path)
        else:
            builder.problem(path, "not-audio", f"{root / path}: no audio file, passed over", fatal=False)
    if not found:
        builder.problem(class_folder, "empty-class", f"{root / class_folder}: no audio file in this class folder")
    return found


def _note_loose_files(folder: Path, files: list[str], builder: ClipIndexBuilder) -> None:
    for name in files:
        if split_suffix(name)[1] in MEDIA_RANK:
            builder.problem(name, "no-class", f"{folder / name}: lies outside the class folders, not used")
        else:
            builder.problem(name, "not-audio", f"{folder / name}: no audio file, passed over", fatal=False)


register_dataset(
    DatasetSpec(
        name="folder",
        title="Own folder",
        read=read_folder,
        clip_seconds=10.0,
        metric="top1",
        mean=AUDIOSET_MEAN,
        std=AUDIOSET_STD,
        stats_source="AudioSet, YuanGongND/ast egs/audioset",
        folds=FOLDS,
    )
)
