"""The examinations of earlier runs, in a JSONL file with a line per clip. No torch here.

A line is keyed by clip id, path, stretch, and the file's size and time stamp. So a killed audit resumes where it was,
and an unchanged clip is never decoded twice. Missing and unreadable clips are examined again each time: repairing them
need not touch the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from reproduce.audio.errors import WARNING_REASONS
from reproduce.data.audit_examine import COLUMNS, RULES_VERSION, STATUSES, Examination, hash64, warning_bits
from reproduce.errors import InputError
from reproduce.files import file_lock

EXAMINED_AGAIN = frozenset({"missing", "unreadable"})


class ClipVersion(NamedTuple):
    """A clip as it is on disk: if any of this changes, it is examined again.

    Args:
        clip: clip id.
        path: of its file.
        start: seconds, or None.
        stop: seconds, or None.
        size: bytes of the file.
        mtime_ns: time of its last write.
    """

    clip: str
    path: str
    start: float | None
    stop: float | None
    size: int
    mtime_ns: int

    def key(self) -> int:
        """64-bit hash of all fields and of the rules of the examination."""
        return hash64(repr((RULES_VERSION, *self)).encode())


class AuditJournal:
    """Known examinations by clip version (22 bytes each in memory), and the file that new ones are appended to."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        known = (
            (version.key(), examination)
            for version, examination in _read_lines(path, file)
            if STATUSES[examination.status] not in EXAMINED_AGAIN
        )
        rows = np.fromiter(known, np.dtype([("key", np.uint64), ("examination", COLUMNS)]))
        order = np.argsort(rows["key"], kind="stable")
        self._keys, self._examinations = rows["key"][order], rows["examination"][order]

    def get(self, version: ClipVersion) -> Examination | None:
        """The examination of this very version of a clip, if it is known."""
        key = np.uint64(version.key())
        row = int(np.searchsorted(self._keys, key))
        if row == len(self._keys) or self._keys[row] != key:
            return None
        return Examination(*self._examinations[row].tolist())

    def append(self, version: ClipVersion, examination: Examination, message: str) -> None:
        """Write one line, at once.

        Raises:
            InputError: it cannot be written.
        """
        row = {
            **version._asdict(),
            "status": STATUSES[examination.status],
            "seconds": examination.seconds,
            "warnings": [name for i, name in enumerate(WARNING_REASONS) if examination.warnings >> i & 1],
            "content": f"{examination.content:016x}",
            "message": message,
        }
        line = (json.dumps(row) + "\n").encode()
        try:
            written = self._file.write(line)
            if written != len(line):  # the disk is full: the next write gives the reason
                self._file.write(line[written:])
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot be written ({error.strerror}): free disk space, or give another --out DIR, and "
                "run again; examined clips are kept"
            ) from None


@contextmanager
def open_journal(path: Path) -> Iterator[AuditJournal]:
    """Lock the journal, read it, and open it for appending; a last line that a kill cut off is removed.

    Raises:
        InputError: the file is no journal or cannot be written, or another audit uses it.
    """
    busy = f"{path}: another audit writes here; wait for it, or give another --out DIR"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a folder that can be written (--out DIR)") from None
    with file_lock(path.with_name(f".{path.name}.lock"), busy), path.open("a+b", buffering=0) as file:
        yield AuditJournal(path, file)


def _read_lines(path: Path, file: IO[bytes]) -> Iterator[tuple[ClipVersion, Examination]]:
    file.seek(0)
    whole = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                row = json.loads(line)
                if row["status"] not in STATUSES:  # of an older version: the clip is examined again
                    continue
                entry = _parse(row)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                raise InputError(f"{path} row {number}: no line of an audit; delete the file and audit again") from None
            yield entry
    file.truncate(whole)


def _parse(row: dict[str, Any]) -> tuple[ClipVersion, Examination]:
    version = ClipVersion(*(row[name] for name in ClipVersion._fields))
    seconds, content = float(row["seconds"]), int(row["content"], 16)
    if not (0 <= seconds < math.inf and 0 <= content < 1 << 64):
        raise ValueError("out of range")
    # Lines of an older version have no warnings; their clips are examined again.
    return version, Examination(STATUSES.index(row["status"]), seconds, warning_bits(row.get("warnings", ())), content)
