"""Measurements as append-only JSON lines: one `RunRecord` a line, never edited. No torch here."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from reproduce.errors import InputError
from reproduce.records.record import SCHEMA, RunRecord

RECORDS_DIR = Path("reports/records")


def to_line(record: RunRecord) -> str:
    """One JSON line. NaN becomes null: JSON has none, and a score that is not a number is not measured."""
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
    return _from_line(to_line(record), Path("memory"), 1)


def append_record(folder: Path, record: RunRecord) -> Path:
    """Append to `folder/<kind>.jsonl`: one write under a lock, flushed to disk, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    path = Path(folder) / f"{record.kind}.jsonl"
    line = (to_line(record) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would keep what a full disk refused, and write it again on truncate and on close.
        with open(path, "a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _append_whole(file.fileno(), line)
    except OSError as error:
        raise InputError(
            f"{path}: cannot append the record ({error.strerror}): choose another --records folder"
        ) from error
    return path


def _append_whole(descriptor: int, line: bytes) -> None:
    """All of `line` at the end of the file and on disk, or the file as it was."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # the line before was cut off by a crash: it must not swallow this one
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:  # a Ctrl-C as well must leave no half line
        os.ftruncate(descriptor, size)
        raise


def load_records(folder: Path) -> list[RunRecord]:
    """Every record under `folder`, oldest first within a file; an absent folder holds none.

    Raises:
        InputError: a file that cannot be read, or a line that is no record, named by file and number.
    """
    records = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # not in the middle of another process' append
                lines = file.read().split(b"\n")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}): mend or move it") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                records.append(_from_line(line, path, number))
    return records


def _from_line(line: str | bytes, path: Path, number: int) -> RunRecord:
    try:
        data = json.loads(line)
    except ValueError as error:  # not UTF-8, or not JSON
        raise InputError(f"{path}:{number}: not JSON ({error}): delete this line, or restore the file") from None
    known = {f.name for f in fields(RunRecord)}
    if not isinstance(data, dict) or not {"kind", "key", "metrics"} <= set(data) or set(data) - known:
        raise InputError(f"{path}:{number}: not a record of this project (schema {SCHEMA}): delete this line")
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path}:{number}: schema {data.get('schema')!r}, but this code reads {SCHEMA}")
    data["history"] = tuple(data.get("history", ()))
    try:
        return RunRecord(**data)
    except TypeError as error:
        raise InputError(f"{path}:{number}: incomplete record ({error}): delete this line") from None
