"""Which files are on disk: one `os.scandir` pass per folder, never a `stat` per file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from reproduce.errors import InputError

# In order of preference where a clip is there twice: lossless first, containers with video last.
AUDIO_SUFFIXES = (
    ".wav", ".flac", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64", ".wv",
    ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".wma",
)  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".3gp", ".mpg", ".mpeg", ".flv", ".ts", ".ogv")
MEDIA_RANK = {suffix: rank for rank, suffix in enumerate(AUDIO_SUFFIXES + VIDEO_SUFFIXES)}
PACK_SUFFIXES = (".h5", ".hdf5", ".hdf")
BLOCK = 1 << 15


def split_suffix(name: str) -> tuple[str, str]:
    """("1-100032-A-0", ".wav") from "1-100032-A-0.WAV"; cheaper than pathlib for a million names."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix.lower()) if stem else (name, "")


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """(subfolders, files) of `folder`, sorted by name, hidden ones left out. InputError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            pairs = [(entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: {_reason(error)}; check that the folder exists and can be read") from None
    pairs.sort()
    return [name for name, is_folder in pairs if is_folder], [name for name, is_folder in pairs if not is_folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A link to itself counts as a file, which then cannot be opened."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def walk_files(
    root: Path, skipped: Callable[[str, str], object] = lambda folder, reason: None, *, block: int = BLOCK
) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder relative to `root` in posix form, file names): folders in sorted order, files as the disk has them.

    Links to folders are followed, because data sets are often linked in from another disk, but each folder is visited
    once. Hidden names are left out.

    Args:
        skipped: called as `skipped(folder, reason)` for a folder that cannot be read or was visited before.
        block: a folder may hold two million files, so its names come in lists of this length at most.

    Raises:
        InputError: `root` itself cannot be read.
    """
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        relative = pending.pop()
        folders: list[str] = []
        try:
            status = (root / relative).stat()
            if (status.st_dev, status.st_ino) in visited:
                skipped(relative, "a link to a folder that is read under another name")
                continue
            visited.add((status.st_dev, status.st_ino))
            yield from _file_names(root / relative, relative, folders, block)
        except OSError as error:
            if not relative:
                raise InputError(f"{root}: {error.strerror}; check that it exists and can be read") from None
            skipped(relative, error.strerror or str(error))
        pending.extend(f"{relative}/{name}" if relative else name for name in sorted(folders, reverse=True))


def _file_names(folder: Path, relative: str, folders: list[str], block: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (relative, names of files) of one folder, and append its subfolders to `folders`."""
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if _is_folder(entry):
                folders.append(name)
                continue
            files.append(name)
            if len(files) == block:
                yield relative, files
                files = []
    if files:
        yield relative, files


def media_files(root: Path, skipped: Callable[[str, str], object] = lambda folder, reason: None) -> list[str]:
    """Audio and video files below `root`, relative to it and sorted; see `walk_files` for links and `skipped`."""
    paths = [
        f"{folder}/{name}" if folder else name
        for folder, names in walk_files(root, skipped)
        for name in names
        if split_suffix(name)[1] in MEDIA_RANK
    ]
    return sorted(paths)


class StemLookup:
    """Files of one folder by name, or by stem where the annotation names another extension (wav made ogg)."""

    def __init__(self, folder: Path) -> None:
        self.names = set(list_folder(folder)[1])
        self._by_stem: dict[str, str] = {}
        for name in sorted(self.names, key=lambda name: (MEDIA_RANK.get(split_suffix(name)[1], 0), name)):
            stem, suffix = split_suffix(name)
            if suffix in MEDIA_RANK:
                self._by_stem.setdefault(normal_form(stem), name)

    def find(self, name: str) -> str | None:
        """The file's name on disk, or None."""
        return name if name in self.names else self._by_stem.get(normal_form(split_suffix(name)[0]))


class FileLookup:
    """Files by a path relative to a folder, with one `scandir` per folder named.

    A name in a list and the same name on disk may be composed differently (NFC by an editor, NFD by macOS): the exact
    name is preferred, an equivalent one is accepted.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._root = os.path.realpath(base)
        self._listings: dict[str, _Listing] = {}

    def find(self, path: str) -> str | None:
        """The path as the disk has it, or None where there is no such file (or its folder cannot be read)."""
        folder, slash, name = path.rpartition("/")
        if name in self._listing(folder or slash).files:
            return path
        real, actual = "/" if path.startswith("/") else "", None
        for part in path.strip("/").split("/"):
            listing = self._listing(real)
            exact = part in ("", ".", "..") or part in listing.names
            actual = part if exact else listing.equivalent(part)
            if actual is None:
                return None
            real = f"{real.rstrip('/')}/{actual}" if real else actual
        return real if actual in listing.files else None

    def is_outside(self, path: str) -> bool:
        """Whether a path, as `find` gives it, leads out of the base folder, by itself or through a link."""
        folder, slash, name = path.rpartition("/")
        listing = self._listing(folder or slash)
        real = os.path.realpath(self._base / path) if name in listing.links else listing.real
        return os.path.commonpath([self._root, real]) != self._root

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(self._base / folder)
        return self._listings[folder]


class _Listing:
    """Names in one folder; none where it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.names: set[str] = set()
        self.files: set[str] = set()
        self.links: set[str] = set()
        self.real = ""
        self._equivalents: dict[str, str] | None = None
        try:
            self.real = os.path.realpath(folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.names.add(entry.name)
                    if not _is_folder(entry):
                        self.files.add(entry.name)
                    if entry.is_symlink():
                        self.links.add(entry.name)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            pass

    def equivalent(self, name: str) -> str | None:
        """The name on disk that equals `name` but for the encoding of its accents, or None."""
        if self._equivalents is None:
            self._equivalents = {normal_form(known): known for known in sorted(self.names, reverse=True)}
        return self._equivalents.get(normal_form(name))


def normal_form(name: str) -> str:
    """A file name with its accents composed (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
