"""Rows of variable length of an HDF5 pack, read in a child process with a time limit. No torch here.

HDF5 keeps such rows in heaps. In a damaged heap libhdf5 can loop without end, and holds Python's lock meanwhile: no
thread and no signal handler of this process gets a turn. The child process that reads the heap ends instead.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.errors import AudioError

SECONDS = 2  # of the processor, per row: an mp3 of ten seconds takes less than a thousandth of this
_GIB = 1  # the most memory of the child
_BLOCK = 1 << 12  # rows per request
_OPEN = 8  # PaSST's AudioSet has 3 packs


class HeapRows:
    """An HDF5 dataset of variable-length rows: as much of h5py's interface as packs need.

    Threads may share it; forked processes may not.

    Args:
        path: the HDF5 file.
        name: the dataset's name.
        dataset: the open dataset, whose shape and type are read here, and whose rows are not.
    """

    def __init__(self, path: Path, name: str, dataset: Any) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.ndim: int = len(self.shape)
        self.dtype: np.dtype = dataset.dtype
        self._path, self._name = path, name
        self._turn = threading.Lock()
        self._start()

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def __getitem__(self, rows: int | slice) -> Any:
        """The bytes of a row, or a list of them.

        Raises:
            AudioError: unreadable: HDF5 refuses a row, or takes more than `SECONDS` or 1 GiB for it.
        """
        if isinstance(rows, int):
            return self._read(rows, rows + 1)[0]
        first, last, _ = rows.indices(len(self))
        blocks = (self._read(at, min(at + _BLOCK, last)) for at in range(first, last, _BLOCK))
        return [row for block in blocks for row in block]

    def _start(self) -> None:
        script = find_spec("reproduce.audio.heap_child")
        assert script is not None and script.origin is not None
        command = [sys.executable, "-P", script.origin, str(self._path), self._name, str(SECONDS), str(_GIB << 30)]
        # NumPy's libraries take memory per thread, which would count towards the child's limit.
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, env={**os.environ, **threads})
        self._end_child = weakref.finalize(self, _end, self._child, os.getpid())

    def _restart(self) -> None:
        self._end_child()
        self._start()

    def _read(self, first: int, last: int) -> list[bytes]:
        with self._turn:
            try:
                if self._child.poll() is not None:  # killed between two requests
                    self._restart()
                return self._ask(first, last)
            except AudioError:
                raise
            except BaseException:  # the rest of the answer must not be taken for the next one
                self._restart()
                raise

    def _ask(self, first: int, last: int) -> list[bytes]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(struct.pack("<qq", first, last))
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._gave_up(first) from None
        return [self._row(row) for row in range(first, last)]

    def _row(self, row: int) -> bytes:
        assert self._child.stdout is not None
        head = self._child.stdout.read(8)
        if len(head) < 8:
            raise self._gave_up(row)
        (length,) = struct.unpack("<q", head)
        size = length if length >= 0 else -1 - length
        data = self._child.stdout.read(size)
        if len(data) < size:
            raise self._gave_up(row)
        if length < 0:
            raise AudioError(self._path, "unreadable", f"damaged pack: {data.decode()}; copy it again")
        return data

    def _gave_up(self, row: int) -> AudioError:
        self._restart()  # the next row may be whole
        limits = f"within {SECONDS} s and {_GIB} GiB"
        text = f"damaged pack: HDF5 does not read row {row} of {self._name!r} {limits}; copy it again"
        return AudioError(self._path, "unreadable", text)


def heap_rows(path: Path, name: str, dataset: Any) -> HeapRows:
    """The rows of variable length of `dataset`, by one child per process, version of the file and dataset."""
    status = os.stat(path)
    return _open_rows(path, name, dataset, (status.st_ino, status.st_size, status.st_mtime_ns), os.getpid())


@lru_cache(maxsize=_OPEN)
def _open_rows(path: Path, name: str, dataset: Any, version: tuple[int, ...], process: int) -> HeapRows:
    return HeapRows(path, name, dataset)


def _end(child: subprocess.Popen[bytes], process: int) -> None:
    """End the child of `process`; a fork of it leaves the child alone."""
    if process != os.getpid():
        return
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(OSError):  # a request that the child did not take
                stream.close()
