"""Hashes of the files of a corpus: whether two runs use the same sound. No torch here.

    digests = clip_digests(index, cache=default_cache())  # (n,) bytes, 32 hex digits per clip
    content_sha256(index, digests)  # one hash of all of them

A clip's digest is that of its whole file, so stretches of one recording share it (their ids and times are in
`ClipIndex.identity_sha256`), and clips of an HDF5 pack share the pack's. A digest is computed once per file: the cache
is an SQLite file with one row per path, valid while the file's size and time stamps are unchanged.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reproduce.audio.packs import SEPARATOR, is_packed
from reproduce.datasets.index import ClipIndex
from reproduce.pool import ordered_map

DIGEST_BYTES = 16  # 128 bits: no two files of a corpus collide
UNREADABLE = b""  # the digest of a file that is missing or cannot be read
BLOCK_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000  # a file that changed less than 2 s ago may change again within one tick of its time stamp
ROWS_PER_WRITE = 100
LOCK_WAIT_S = 10.0
DIGEST = re.compile(rb"[0-9a-f]{32}")


class FileVersion(NamedTuple):
    """What changes when a file does: its size in bytes, and the times of its last write and of its last change."""

    size: int
    mtime_ns: int
    ctime_ns: int


def default_cache() -> Path:
    """The user's cache file: below $XDG_CACHE_HOME, or ~/.cache."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(folder) / "mast-vs-ast" / "file-digests.sqlite"


def clip_digests(
    index: ClipIndex,
    cache: Path | None = None,
    workers: int | None = None,
    on_file: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """The digest of every clip's file, (n,) bytes of 32 hex digits; UNREADABLE for a file that cannot be read.

    Args:
        index: the n clips.
        cache: SQLite file of known digests, made if it is absent; None hashes every file.
        workers: hashing threads, by default one per core.
        on_file: called after every file, for a progress bar.
    """
    paths = [_file_of(index, i) for i in range(len(index))]
    of_path: dict[str, bytes] = {}
    with closing(_DigestCache(cache)) as known:
        for path, digest in _digests(dict.fromkeys(paths), known, workers or os.cpu_count() or 1):
            of_path[path] = digest
            on_file()
    return np.array([of_path[path] for path in paths], f"S{2 * DIGEST_BYTES}")


def content_sha256(index: ClipIndex, digests: np.ndarray) -> str:
    """64 hex digits over (clip id, digest) of the n clips, in the order of the ids; `digests` is (n,) bytes."""
    total = hashlib.sha256()
    for i in index.clip_ids.order():
        total.update(f"{index.clip_ids[i]}\t{digests[i].decode()}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def hash_file(path: str | Path) -> bytes:
    """BLAKE2b over the bytes of a file, as 32 hex digits; UNREADABLE if it cannot be read."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError:
        return UNREADABLE
    return digest.hexdigest().encode()


def _file_of(index: ClipIndex, position: int) -> str:
    """Absolute path of the file that holds a clip: that of the pack where it is in one."""
    path = str(index.root / str(index.paths[position]))
    return os.path.abspath(path.rpartition(SEPARATOR)[0] if is_packed(path) else path)


def _digests(paths: Iterable[str], known: _DigestCache, workers: int) -> Iterator[tuple[str, bytes]]:
    """(path, digest) of every path, in order; new digests are added to the cache."""

    def look_up() -> Iterator[tuple[str, FileVersion | None, bytes | None]]:
        for path in paths:
            version = _version_of(path)
            yield path, version, known.get(path, version) if version else UNREADABLE

    def complete(entry: tuple[str, FileVersion | None, bytes | None]) -> tuple[str, FileVersion | None, bytes, bool]:
        path, version, digest = entry
        return path, version, hash_file(path) if digest is None else digest, digest is None

    # Looking up and adding stay in this thread: an SQLite connection belongs to one.
    for path, version, digest, is_new in ordered_map(complete, look_up(), workers):
        if is_new and version and digest and version == _version_of(path):  # else it changed while it was read
            known.add(path, version, digest)
        yield path, digest


def _version_of(path: str) -> FileVersion | None:
    """None for what is no regular file, or cannot be reached."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait
        return None
    return FileVersion(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _DigestCache:
    """Known digests by path and version. A cache that cannot be read or written only costs time."""

    def __init__(self, file: Path | None) -> None:
        self._connection: sqlite3.Connection | None = None
        self._rows: list[tuple[bytes | int, ...]] = []  # not written yet, so that no lock is held while files are read
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(file)
        except (OSError, sqlite3.OperationalError):  # a read-only or full disk, or another process' lock
            pass
        except sqlite3.DatabaseError:  # no database, or a damaged one
            with suppress(OSError, sqlite3.Error):
                file.unlink()
                self._connection = _open(file)

    def get(self, path: str, version: FileVersion) -> bytes | None:
        """The digest of `path`, if it is known and the file has not changed since."""
        if self._connection is None:
            return None
        query = "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?"
        try:
            row = self._connection.execute(query, (os.fsencode(path), *version)).fetchone()
        except sqlite3.Error:
            return None
        return row[0] if row is not None and isinstance(row[0], bytes) and DIGEST.fullmatch(row[0]) else None

    def add(self, path: str, version: FileVersion, digest: bytes) -> None:
        """Remember a digest, unless the file changed so recently that another change could go unnoticed."""
        if self._connection is None or time.time_ns() - version.ctime_ns < SETTLED_NS:
            return
        self._rows.append((os.fsencode(path), *version, digest))
        if len(self._rows) >= ROWS_PER_WRITE:
            self._write()

    def _write(self) -> None:
        if self._connection is not None and self._rows:
            with suppress(sqlite3.Error), self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", self._rows)
        self._rows = []

    def close(self) -> None:
        """Write what was added."""
        self._write()
        if self._connection is not None:
            self._connection.close()


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=LOCK_WAIT_S)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS files "
        "(path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest BLOB) WITHOUT ROWID"
    )
    return connection
