"""Append and read stored measurements: JSON lines, one `RunRecord` per line, never edited. No torch here."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from reproduce.errors import InputError
from reproduce.files import check_ordinary, file_lock, write_whole
from reproduce.records.reading import read_run
from reproduce.records.record import SCHEMA, RunRecord, whole_number
from reproduce.records.records import Records
from reproduce.records.runs import Run

RECORDS_DIR = Path("reports/records")
ROOT = Path(__file__).resolve().parents[2]  # of this repository, where the package is not installed from a wheel
LOCK_NAME = ".lock"
LOCK_WAIT_S = 60.0
KEPT_LINES = 4096  # parsed records in memory
REREAD_S = 0.2
TORN_SUFFIX = ".torn"  # file for incomplete lines after a crash


def default_records() -> Path:
    """Return the folder of records that commands use by default, from any working folder.

    It is `reports/records` below the working folder where that exists, and otherwise this repository's.
    """
    return RECORDS_DIR if RECORDS_DIR.is_dir() or not (ROOT / RECORDS_DIR).is_dir() else ROOT / RECORDS_DIR


def to_line(record: RunRecord) -> str:
    """Convert the record to one JSON line. NaN and infinity become null: JSON has neither."""
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
    """Return the record as it reads back: tuples become lists, NaN becomes None."""
    return _from_line(to_line(record).encode(), Path("memory"), 1)


def append_record(folder: Path, record: RunRecord) -> Path:
    """Append a record to `folder/<kind>.jsonl`, completely or not at all: one write under a lock, flushed to disk.

    If the file ends in an incomplete line after a crash, move that line to `<kind>.jsonl.torn` first; a whole record
    that lacks its newline alone gets it.

    Returns:
        The path of the file.

    Raises:
        InputError: the folder cannot be written, or another process keeps its lock for a minute.
    """
    path = Path(folder) / f"{record.kind}.jsonl"
    line = (to_line(record) + "\n").encode()
    busy = f"{path}: another process has been writing for a minute: wait for it, or choose another --records folder"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: after an error on a full disk, a buffer would write its content again on truncate and on close.
        with file_lock(path.parent / LOCK_NAME, busy, LOCK_WAIT_S), open(path, "a+b", buffering=0) as file:
            _end_last_line(file.fileno(), path)
            _append_whole(file.fileno(), line)
    except OSError as error:
        raise InputError(
            f"{path}: cannot append the record ({error.strerror}): choose another --records folder"
        ) from error
    return path


def _end_last_line(descriptor: int, path: Path) -> None:
    """End the file in whole lines; see `append_record`."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    complete = content.rfind(b"\n") + 1
    if _is_record(content[complete:]):
        _append_whole(descriptor, b"\n")
        return
    with open(f"{path}{TORN_SUFFIX}", "ab") as torn:
        torn.write(content[complete:] + b"\n")
        os.fsync(torn.fileno())
    os.ftruncate(descriptor, complete)


def _append_whole(descriptor: int, line: bytes) -> None:
    """Append `line` and flush it to disk; after an error restore the file."""
    size = os.fstat(descriptor).st_size
    remaining = memoryview(line)
    try:
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        os.fsync(descriptor)
    except BaseException:  # Ctrl-C must not leave an incomplete line either
        os.ftruncate(descriptor, size)
        raise


def remove_records(folder: Path, keys: Collection[str]) -> int:
    """Remove every record with one of `keys` from the files under `folder`, and its predictions.

    Returns:
        The number of removed records.

    Raises:
        InputError: `folder` is that of the project's evidence, or cannot be written.
    """
    evidence = (RECORDS_DIR, Path(__file__).resolve().parents[2] / RECORDS_DIR)
    if any(Path(folder).resolve() == place.resolve() for place in evidence):
        raise InputError(f"{folder}: the project's records are only appended to; name another --records folder")
    removed = 0
    for path in sorted(Path(folder).glob("*.jsonl")):
        busy = f"{path}: another process has been writing for a minute: wait for it"
        with file_lock(path.parent / LOCK_NAME, busy, LOCK_WAIT_S):
            kept, predictions = [], []
            for number, line in _lines(path, _warn):
                record = _from_line(line, path, number)
                if record.key in keys:
                    predictions += [record.predictions] if record.predictions else []
                    removed += 1
                else:
                    kept.append(line + b"\n")
            content = b"".join(kept)
            write_whole(path, partial(_write, content), "cannot be written", "free space on its disk")
        for name in predictions:
            (Path(folder) / name).unlink(missing_ok=True)
    return removed


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def load_records(folder: Path, warn: Callable[[str], object] = _warn) -> Records:
    """Load every measurement under `folder` as typed runs, oldest first within a kind; none if the folder is absent.

    Args:
        folder: folder of `<kind>.jsonl` files.
        warn: called with one message for each incomplete last line, which is skipped.

    Raises:
        InputError: a file cannot be read, or a line is not a record; the message names file and line number.
    """
    paths = sorted(Path(folder).glob("*.jsonl"))
    return Records(tuple(_run_of(line, path, number) for path in paths for number, line in _lines(path, warn)))


@lru_cache(maxsize=KEPT_LINES)
def _run_of(line: bytes, path: Path, number: int) -> Run:
    """The typed run of one line: a command loads the same records up to four times."""
    record = _from_line(line, path, number)
    try:
        return read_run(record)
    except InputError as error:
        raise InputError(f"{path}:{number}: {error}") from None


def _lines(path: Path, warn: Callable[[str], object]) -> list[tuple[int, bytes]]:
    check_ordinary(path, "repair or move it")
    for attempt in range(2):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}): repair or move it") from None
        *complete, last = content.split(b"\n")
        if attempt or not last.strip() or _is_record(last):
            break
        time.sleep(REREAD_S)  # another process may be in the middle of its append
    lines = [(number, line) for number, line in enumerate(complete, start=1) if line.strip()]
    if last.strip():
        if _is_record(last):  # complete, but without its newline
            lines.append((len(complete) + 1, last))
        else:
            warn(f"{path}:{len(complete) + 1}: skipped an incomplete record of a stopped process; nothing else is lost")
    return lines


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _from_line(line: bytes, path: Path, number: int) -> RunRecord:
    try:
        data = json.loads(line, parse_int=whole_number)
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
