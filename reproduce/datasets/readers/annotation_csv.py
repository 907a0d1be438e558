"""Reading annotation CSVs: one place for encodings, headers, numbers and the messages about them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from reproduce.datasets.locations import expand_home
from reproduce.errors import InputError
from reproduce.files import check_ordinary

MAX_FIELD = 1 << 20  # a longer field means an unbalanced quote, not a label
_MAX_DIGITS = 9


def existing_folder(root: str | Path) -> Path:
    """`root` as an absolute path; InputError if it is no folder."""
    folder = expand_home(root)
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; give the folder that holds the data set")
    return folder.absolute()


def whole_number(text: str) -> int | None:
    """A number of up to nine digits without a sign, or None: Python refuses to convert thousands of digits."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def read_rows(path: Path, *, skipinitialspace: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every row that is not blank. A byte order mark is dropped.

    Raises InputError, while iterating, if the file cannot be opened, is not UTF-8 or is no CSV.
    """
    check_ordinary(path, "an annotation CSV is needed here")
    csv.field_size_limit(MAX_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=skipinitialspace)
            try:
                for row in reader:
                    if row:
                        yield reader.line_num, row
            except csv.Error as error:
                raise InputError(f"{path} row {reader.line_num}: {error}; look for an unbalanced quote there") from None
            except UnicodeDecodeError:
                line = _first_undecodable_line(path)
                raise InputError(f"{path} row {line}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; an annotation CSV is needed here") from None


def _first_undecodable_line(path: Path) -> int:
    # The reader's count of lines lags behind: text is decoded in blocks ahead of the rows that it yields.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    raise AssertionError(f"{path} decodes as UTF-8 after all")


def read_table(path: Path, needed: Sequence[str]) -> tuple[dict[str, int], Iterator[tuple[int, list[str]]]]:
    """Positions of the columns by (stripped) name, and the rows that follow the header.

    Raises InputError if the file is empty or lacks one of the `needed` columns.
    """
    rows = read_rows(path)
    line, header = next(rows, (0, []))
    if not header:
        raise InputError(f"{path}: empty file; its first row must name the columns {','.join(needed)}")
    names = [name.strip() for name in header]
    absent = [name for name in needed if name not in names]
    if absent:
        raise InputError(
            f"{path} row {line}: no column {', '.join(map(repr, absent))} in the header ({','.join(names)[:120]}); "
            f"the first row must name the comma-separated columns {','.join(needed)}"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path} row {line}: column {repeated[0]!r} is named twice in the header; keep one")
    return {name: i for i, name in enumerate(names)}, rows
