"""What lies on disk: one `os.scandir` pass per folder, never a `stat` per file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from reproduce.errors import InputError

# In order of preference where one clip lies there twice: lossless first, containers with video last.
AUDIO_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".au", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".wma")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".3gp", ".mpg", ".mpeg", ".flv", ".ts", ".ogv")
MEDIA_RANK = {suffix: rank for rank, suffix in enumerate(AUDIO_SUFFIXES + VIDEO_SUFFIXES)}
BLOCK = 1 << 12


def split_suffix(name: str) -> tuple[str, str]:
    """("1-100032-A-0", ".wav") from "1-100032-A-0.WAV"; cheaper than pathlib for a million names."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix.lower()) if stem else (name, "")


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """(subfolders, files) of `folder`, sorted by name, hidden ones left out. InputError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            pairs = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; check that the folder exists and can be read") from None
    pairs.sort()
    return [name for name, is_dir in pairs if is_dir], [name for name, is_dir in pairs if not is_dir]


def walk_files(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder relative to `root` in posix form, file names): folders in sorted order, files as the disk has them.

    A folder may hold two million files, so its names come in several blocks of BLOCK at most. Links to folders are
    followed, as corpora are often linked in from another disk, but each folder is visited once. Hidden names are left
    out.
    """
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        relative = pending.pop()
        folders, files = [], []
        try:
            status = (root / relative).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(root / relative) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] == ".":
                        continue
                    if entry.is_dir():
                        folders.append(name)
                        continue
                    files.append(name)
                    if len(files) == BLOCK:
                        yield relative, files
                        files = []
        except OSError as error:
            raise InputError(f"{root / relative}: {error.strerror}; check that it exists and can be read") from None
        if files:
            yield relative, files
        pending.extend(f"{relative}/{name}" if relative else name for name in sorted(folders, reverse=True))


class StemLookup:
    """Files of one folder by name, or by stem where the annotation names another extension (wav made ogg)."""

    def __init__(self, folder: Path) -> None:
        self.names = set(list_folder(folder)[1])
        self._by_stem: dict[str, str] = {}
        for name in sorted(self.names, key=lambda name: (MEDIA_RANK.get(split_suffix(name)[1], 0), name)):
            stem, suffix = split_suffix(name)
            if suffix in MEDIA_RANK:
                self._by_stem.setdefault(stem, name)

    def find(self, name: str) -> str | None:
        return name if name in self.names else self._by_stem.get(split_suffix(name)[0])
