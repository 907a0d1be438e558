"""AudioSet's lists: the official segments CSV, and the JSON lists of YuanGongND/ast.

An official list has comment lines, then rows `YTID, start_seconds, end_seconds, "mid,mid"`: two million of them, so
that it is parsed by the column, in Arrow. A list in another spelling is read row by row, which takes longer and
finds the faulty row.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.datasets.index import Labels, Problem
from reproduce.datasets.readers.annotation_csv import read_rows, read_table
from reproduce.datasets.readers.listing import Listing, ListingBuilder
from reproduce.datasets.readers.scan import split_suffix
from reproduce.datasets.readers.youtube_files import ID_DTYPE, is_video_id, parse_stem
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError
from reproduce.files import check_ordinary

CLASS_TABLE = "class_labels_indices.csv"
_FORM = 'YTID, start_seconds, end_seconds, "mid,mid"'
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_SEGMENT = rf'^(?P<video>[A-Za-z0-9_-]{{11}}), *(?P<start>{_NUMBER}), *(?P<stop>{_NUMBER}), *"(?P<labels>[^"]+)"$'
_DECLARED = re.compile(r"num_segs=(\d{1,9})\b")
_CSV_BLOCK = 1 << 19  # bytes
_JSON_BLOCK = 1 << 20  # characters


def read_classes(table: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """({mid: index}, display names in index order) of `class_labels_indices.csv`."""
    columns, rows = read_table(table, ("index", "mid", "display_name"))
    mids: dict[str, int] = {}
    names: list[str] = []
    for line, row in rows:
        if len(row) != len(columns) or row[columns["index"]].strip() != str(len(names)):
            raise InputError(f"{table} row {line}: not class {len(names)} as index,mid,display_name; restore the file")
        mids[row[columns["mid"]].strip()] = len(names)
        names.append(row[columns["display_name"]].strip())
    if len(mids) != len(names) or not names:
        raise InputError(f"{table}: {len(names)} rows with {len(mids)} different mids; restore the file")
    return mids, tuple(names)


def read_segments(table: Path, split: str, mids: Mapping[str, int]) -> tuple[Listing, list[Problem]]:
    """The clips of an official segments CSV.

    Args:
        table: the CSV.
        split: its name.
        mids: class id -> class index.

    Raises:
        InputError: a row that is not of the official form, by its number; no row at all.
    """
    listing, declared = _read_columns(table, split, mids) or _read_rows(table, split, mids)
    if not len(listing):
        raise InputError(f"{table}: no row of the form {_FORM}; download the official file again")
    if declared is None or declared == len(listing):
        return listing, []
    message = f"{table}: its head declares {declared} segments but {len(listing)} follow; was the download cut off?"
    return listing, [Problem("", "truncated-list", message)]


def _read_columns(table: Path, split: str, mids: Mapping[str, int]) -> tuple[Listing, int | None] | None:
    """(what it lists, number of segments that its head declares), or None for a file that has another row."""
    import pyarrow
    import pyarrow.compute

    known = Strings.of(mids).arrow.cast(pyarrow.string())
    declared: int | None = None
    videos, starts, counts, values = [np.empty(0, ID_DTYPE)], [np.empty(0)], [np.zeros(1, np.int64)], []
    for data in _whole_lines(table):
        lines = _lines(data)
        fields = pyarrow.compute.extract_regex(lines, _SEGMENT)
        others = lines.filter(fields.is_null()).cast(pyarrow.binary()).to_pylist()
        if any(line[:1] not in (b"#", b"") for line in others):
            return None
        declared = _declared_segments(b" ".join(others).decode("utf-8", "replace")) or declared
        video, start, stop, labels = fields.drop_null().flatten()
        first, last = (part.cast(pyarrow.float64()).to_numpy() for part in (start, stop))
        rows = pyarrow.compute.split_pattern(labels, ",")
        classes = pyarrow.compute.index_in(rows.flatten(), value_set=known)
        if classes.null_count or not (last > first).all():
            return None
        videos.append(np.frombuffer("".join(video.to_pylist()).encode(), ID_DTYPE))
        starts.append(first)
        counts.append(rows.value_lengths().to_numpy())
        values.append(classes.to_numpy())
    ids = np.concatenate(videos)
    labels = Labels(np.cumsum(np.concatenate(counts)), np.concatenate([np.empty(0, np.int32), *values]))
    return Listing(split=split, clip_ids=ids, videos=ids, start=np.concatenate(starts), labels=labels), declared


def _whole_lines(table: Path) -> Iterator[bytes]:
    """The bytes of a file in blocks that end with a line."""
    try:
        check_ordinary(table, "a list of segments is needed here")
        with table.open("rb") as file:
            begun = file.read(3).removeprefix(b"\xef\xbb\xbf")
            while data := file.read(_CSV_BLOCK):
                head, newline, tail = data.rpartition(b"\n")
                if newline:
                    yield begun + head + newline
                    begun = b""
                begun += tail
            if begun:
                yield begun + b"\n"
    except OSError as error:
        raise InputError(f"{table}: {error.strerror}; an annotation CSV is needed here") from None


def _lines(data: bytes) -> Any:
    """Arrow array of the lines of a block, without their ends."""
    import pyarrow
    import pyarrow.compute

    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    lines = pyarrow.StringArray.from_buffers(len(ends), pyarrow.py_buffer(offsets), pyarrow.py_buffer(data))
    return pyarrow.compute.ascii_rtrim_whitespace(lines)


def _declared_segments(text: str) -> int | None:
    match = _DECLARED.search(text)
    return int(match[1]) if match else None


def _read_rows(table: Path, split: str, mids: Mapping[str, int]) -> tuple[Listing, int | None]:
    """What `_read_columns` gives, of a CSV in any spelling; InputError for the first row of another form."""
    builder = ListingBuilder(split)
    declared: int | None = None
    for line, row in read_rows(table, skipinitialspace=True):
        if row[0][:1] == "#":
            declared = _declared_segments(",".join(row)) or declared
        elif _is_segment(row, mids):
            builder.add(row[0], float(row[1]), [mids[mid] for mid in row[3].split(",")])
        else:
            raise _bad_segment(table, line, row, mids)
    return builder.listing(), declared


def _is_segment(row: Sequence[str], mids: Mapping[str, int]) -> bool:
    try:
        video, start, stop, labels = row
        first, last = float(start), float(stop)
    except ValueError:
        return False
    span = 0 <= first < last and math.isfinite(last)
    return span and is_video_id(video) and all(mid in mids for mid in labels.split(","))


def _bad_segment(table: Path, line: int, row: list[str], mids: Mapping[str, int]) -> InputError:
    """What is wrong with a row that is not of the official form."""
    where, restore = f"{table} row {line}", "download the official file again"
    if len(row) > 4 or '"' in "".join(row):
        return InputError(
            f"{where}: labels are spread over {len(row)} columns or quoted twice, as a spreadsheet does; "
            f"the form is {_FORM}; {restore}"
        )
    if len(row) < 4:
        return InputError(f"{where}: {len(row)} columns where AudioSet has 4 ({_FORM}); {restore}")
    if not is_video_id(row[0]):
        return InputError(f"{where}: {row[0]!r} is no YouTube id of 11 characters ({_FORM}, no header); {restore}")
    unknown = next((mid for mid in row[3].split(",") if mid not in mids), None)
    if unknown is not None:
        return InputError(f"{where}: unknown class {unknown!r}, not in {CLASS_TABLE}; use the two files of one release")
    return InputError(f"{where}: segment from {row[1]!r} to {row[2]!r} s is not a span of time; {restore}")


def read_ast_json(file: Path, split: str, mids: Mapping[str, int]) -> tuple[Listing, set[Path]]:
    """The clips of a JSON list of YuanGongND/ast: `{"data": [{"video_id", "wav", "labels": "mid,mid"}]}`.

    `video_id` or else the file's name has to hold the YouTube id.

    Returns:
        The clips, and the folders that the `wav` paths name and that exist on this machine.

    Raises:
        InputError: an item of another form, by its number; no item at all.
    """
    builder = ListingBuilder(split)
    parents: set[str] = set()
    for number, item in enumerate(iter_json_list(file, "data"), start=1):
        video = _video_of(item)
        try:
            labels = [mids[mid] for mid in item["labels"].split(",")]
            parents.add(item["wav"].rpartition("/")[0])
        except (TypeError, AttributeError, KeyError):
            raise _bad_item(file, number, item, mids) from None
        if video is None:
            raise _bad_item(file, number, item, mids)
        builder.add(video, math.nan, labels)
    listing = builder.listing()
    if not len(listing):
        raise InputError(f"{file}: its data list is empty; give AST's full list")
    return listing, {folder for parent in parents if os.path.isdir(folder := file.parent / parent)}


def _video_of(item: Any) -> str | None:
    """The YouTube id that an item of AST's list holds, if any."""
    if not isinstance(item, dict):
        return None
    for value in (item.get("video_id"), item.get("wav")):
        if not isinstance(value, str):
            continue
        if is_video_id(value):
            return value
        clip = parse_stem(split_suffix(value.rpartition("/")[2])[0])
        if clip:
            return clip[0]
    return None


def _bad_item(file: Path, number: int, item: Any, mids: Mapping[str, int]) -> InputError:
    """What is wrong with an item that `read_ast_json` cannot take."""
    where = f"{file} item {number}"
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("labels", "wav")):
        return InputError(f'{where}: must be {{"video_id": ..., "wav": ..., "labels": "mid,mid"}}; mend the list')
    unknown = next((mid for mid in item["labels"].split(",") if mid not in mids), None)
    if unknown is not None:
        return InputError(f"{where}: unknown class {unknown!r}, not in {CLASS_TABLE}; mend the list")
    return InputError(f"{where}: neither video_id nor wav holds a YouTube id of 11 characters; mend the list")


def iter_json_list(file: Path, key: str, block: int = _JSON_BLOCK) -> Iterator[Any]:
    """The items of the list under `key` of a JSON object, one at a time: AST's full list is 300 MB.

    Args:
        block: characters read at once; an item longer than half of it is refused as cut off.

    Raises:
        InputError: the file cannot be read or is no such JSON.
    """
    decoder = json.JSONDecoder()
    try:
        check_ordinary(file, "a list in JSON is needed here")
        with file.open(encoding="utf-8-sig") as stream:
            text = stream.read(block)
            head = re.match(r'\s*\{\s*"' + re.escape(key) + r'"\s*:\s*\[', text)
            if head is None:
                raise InputError(f'{file}: must begin with {{"{key}": [ as AST\'s lists do; mend the file')
            at, count, more = head.end(), 0, text
            while True:
                at = _skip(text, at)
                if more and len(text) - at < block // 2:
                    more = stream.read(block)
                    text = text[at:] + more
                    at = _skip(text, 0)
                if text[at : at + 1] == "]":
                    return
                try:
                    item, at = decoder.raw_decode(text, at)
                except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
                    reason = getattr(error, "msg", None) or str(error)
                    raise InputError(f"{file} item {count + 1}: {reason}; the file is cut off or no JSON") from None
                count += 1
                yield item
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; an AST list is needed here") from None


_BETWEEN_ITEMS = re.compile(r"[\s,]*")


def _skip(text: str, at: int) -> int:
    match = _BETWEEN_ITEMS.match(text, at)
    return match.end() if match else at
