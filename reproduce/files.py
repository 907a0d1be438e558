"""Whole-file writes, npz files without pickles and file locks: the one place that does each. No torch here."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from reproduce.errors import InputError

UMASK = os.umask(0)  # reading the process' file mode mask means setting it: once, before there are threads
os.umask(UMASK)


def check_ordinary(path: Path, remedy: str) -> None:
    """Refuse a device, a pipe or a socket, from which reading may never end. What is absent or a folder passes.

    Raises:
        InputError: "PATH: not an ordinary file: REMEDY".
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: not an ordinary file: {remedy}")


def write_whole(path: Path, write: Callable[[IO[bytes]], object], failure: str, remedy: str) -> None:
    """Write a file completely or not at all.

    `write(file)` fills a temporary file of a unique name in the same folder, which is flushed to disk and then renamed
    to `path`. Until then the old file stays; two processes that write the same path never mix their bytes.

    Args:
        path: the file; missing folders are created.
        write: receives a binary file that is open for writing and can seek.
        failure: what could not be done, for the message.
        remedy: what the user can do about it, for the message.

    Raises:
        InputError: "PATH: FAILURE (reason): REMEDY"; the temporary file is removed.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
        with open(handle, "w+b") as file:
            os.fchmod(file.fileno(), 0o666 & ~UMASK)  # mkstemp gives 0600
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: {failure} ({error.strerror or error}): {remedy}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):  # after the rename there is none
                os.unlink(temporary)


def write_text(path: Path, text: str, failure: str, remedy: str) -> None:
    """Write UTF-8 text completely or not at all; see `write_whole`."""
    write_whole(path, lambda file: file.write(text.encode()), failure, remedy)


def write_arrays(path: Path, arrays: Mapping[str, Any], failure: str, remedy: str) -> None:
    """Write a compressed npz of `arrays` by name, without pickles, completely or not at all; see `write_whole`."""
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays), failure, remedy)


def read_arrays(path: Path, damage: str, remedy: str) -> dict[str, np.ndarray] | None:
    """Read every array of an npz without unpickling anything; None where the file is absent.

    Args:
        path: the npz file.
        damage: what a damaged file is called, for the message: "damaged predictions".
        remedy: what the user can do about it, for the message.

    Raises:
        InputError: "PATH: DAMAGE (reason): REMEDY" for a file that exists but cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    # What NumPy and zipfile raise for damaged archives: bad headers, sizes, checksums, compressed data and encodings.
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, SyntaxError) as error:
        raise InputError(f"{path}: {damage} ({error}): {remedy}") from None
    except (zipfile.BadZipFile, zlib.error, MemoryError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {damage} ({error}): {remedy}") from None


@contextmanager
def file_lock(path: Path, busy: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on the lock file `path`.

    The lock ends with the process, also when it is killed, and child processes do not inherit it.

    Args:
        path: the lock file; created with its folder, and left there.
        busy: the message when another process holds the lock.
        wait_s: seconds to wait for it.

    Raises:
        InputError: `busy`, or the lock file cannot be created.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=wait_s)
        lock.acquire()
    except Timeout:
        raise InputError(busy) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be locked ({error.strerror}): choose a folder that can be written") from None
    try:
        yield
    finally:
        lock.release()
