"""Stored measurements: append-only JSON lines, one `RunRecord` per line, never edited. No torch here."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from reproduce.errors import InputError
from reproduce.files import file_lock
from reproduce.records.reading import read_runs
from reproduce.records.record import SCHEMA, RunRecord
from reproduce.records.records import Records

RECORDS_DIR = Path("reports/records")
LOCK_NAME = ".lock"
LOCK_WAIT_S = 60.0
TORN_SUFFIX = ".torn"  # half lines that a crash left, set aside


def to_line(record: RunRecord) -> str:
    """The record as one JSON line. NaN becomes null: JSON has no NaN, and such a score is not measured."""
    return json.dumps(_jsonable(asdict(record)), sort_keys=True, allow_nan=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_stored(record: RunRecord) -> RunRecord:
    """The record as it reads back: tuples as lists, NaN as None."""
    return _from_line(to_line(record).encode(), Path("memory"), 1)


def append_record(folder: Path, record: RunRecord) -> Path:
    """Append a record to `folder/<kind>.jsonl`: one write under a lock, flushed to disk, complete or not at all.

    A half line that an earlier crash left at the end is moved to `<kind>.jsonl.torn` first.

    Returns:
        The file that was appended to.

    Raises:
        InputError: the folder cannot be written, or another process holds its lock for a minute.
    """
    path = Path(folder) / f"{record.kind}.jsonl"
    line = (to_line(record) + "\n").encode()
    busy = f"{path}: another process has been writing for a minute: wait for it, or choose another --records folder"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would keep what a full disk refused, and write it again on truncate and on close.
        with file_lock(path.parent / LOCK_NAME, busy, LOCK_WAIT_S), open(path, "a+b", buffering=0) as file:
            _set_aside_torn_line(file.fileno(), path)
            _append_whole(file.fileno(), line)
    except OSError as error:
        raise InputError(
            f"{path}: cannot append the record ({error.strerror}): choose another --records folder"
        ) from error
    return path


def _set_aside_torn_line(descriptor: int, path: Path) -> None:
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    whole = content.rfind(b"\n") + 1
    with open(f"{path}{TORN_SUFFIX}", "ab") as torn:
        torn.write(content[whole:] + b"\n")
        os.fsync(torn.fileno())
    os.ftruncate(descriptor, whole)


def _append_whole(descriptor: int, line: bytes) -> None:
    """All of `line` at the end of the file and on disk, or the file as it was."""
    size = os.fstat(descriptor).st_size
    left = memoryview(line)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except BaseException:  # a Ctrl-C as well must leave no half line
        os.ftruncate(descriptor, size)
        raise


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def load_records(folder: Path, warn: Callable[[str], object] = _warn) -> Records:
    """Every measurement under `folder` as typed runs, oldest first within a kind; an absent folder holds none.

    Args:
        folder: holds `<kind>.jsonl` files.
        warn: called with one line for each half line that a killed process left; such a line is skipped.

    Raises:
        InputError: a file that cannot be read, or a line that is no record, named by file and line number.
    """
    runs = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        for number, line in _lines(path, warn):
            record = _from_line(line, path, number)
            try:
                runs += read_runs([record])
            except InputError as error:
                raise InputError(f"{path}:{number}: {error}") from None
    return Records(tuple(runs))


def _lines(path: Path, warn: Callable[[str], object]) -> list[tuple[int, bytes]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): mend or move it") from None
    *whole, last = content.split(b"\n")
    lines = [(number, line) for number, line in enumerate(whole, start=1) if line.strip()]
    if last.strip():
        if _is_record(last):  # complete, but its newline was not written or was edited away
            lines.append((len(whole) + 1, last))
        else:
            warn(f"{path}:{len(whole) + 1}: skipped half a record that a stopped process left; nothing else is lost")
    return lines


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _from_line(line: bytes, path: Path, number: int) -> RunRecord:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise InputError(f"{path}:{number}: not JSON ({error}): delete this line, or restore the file") from None
    known = {f.name for f in fields(RunRecord)}
    if not isinstance(data, dict) or not {"kind", "key", "metrics"} <= set(data) or set(data) - known:
        raise InputError(f"{path}:{number}: not a record of this project (schema {SCHEMA}): delete this line")
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path}:{number}: schema {data.get('schema')!r}, but this code reads {SCHEMA}")
    try:
        record = RunRecord(**{**data, "history": tuple(data.get("history", ()))})
        _check_types(record)
        return record
    except TypeError as error:
        raise InputError(f"{path}:{number}: incomplete record ({error}): delete this line") from None


def _check_types(record: RunRecord) -> None:
    """Raise TypeError for a field whose value is of another type than the record's readers expect."""
    texts = ("kind", "key", "scale", "created")
    optional_texts = ("weights_sha256", "predictions")
    objects = ("experiment", "metrics", "environment", "dataset", "details")
    for names, types in ((texts, str), (optional_texts, str | None), (objects, dict)):
        for name in names:
            if not isinstance(getattr(record, name), types):
                raise TypeError(f"{name} is {type(getattr(record, name)).__name__}")
    if not isinstance(record.seed, int | None) or not all(isinstance(epoch, dict) for epoch in record.history):
        raise TypeError("seed is no number, or history no list of objects")
