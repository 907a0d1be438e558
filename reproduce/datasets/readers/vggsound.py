"""VGGSound (hche11/VGGSound): 309 classes, one label per clip, top-1.

Either of the two forms in which its lists circulate:
- `vggsound.csv` (and no other): `YouTube id,start seconds,label,split`, without a header;
- `train.csv` and `test.csv`: `id_start6.mp4,label`, without a header.
Labels may hold commas, and are quoted then. `stat.csv` (label,count,group) fixes the classes; without it, the labels
seen are the classes. The class index is the position among the sorted labels, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from reproduce.datasets.index import ClipIndex, Problem
from reproduce.datasets.readers.annotation_csv import existing_folder, read_rows, whole_number
from reproduce.datasets.readers.listing import (
    About,
    Listing,
    ListingBuilder,
    find_annotation,
    find_clips,
)
from reproduce.datasets.readers.scan import split_suffix
from reproduce.datasets.readers.youtube_files import (
    NO_START,
    is_video_id,
    parse_stem,
    video_of,
)
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

CLASSES = 309
SPLITS = ("train", "test")


class Row(NamedTuple):
    """One listed clip; `start` is in seconds."""

    line: int
    video: str
    start: int
    label: str
    split: str


def read_vggsound(root: str | Path, annotations: str | Path | None = None) -> ClipIndex:
    """Clips under `root`, with the lists in `annotations` (or in `root`, or a folder of it such as `meta`).

    A clip's id is `id_start6`, as in the official file names. Raises InputError for a list that is absent or mangled.
    """
    folder = existing_folder(root)
    lists = existing_folder(annotations) if annotations is not None else None
    tables, problems = _find_tables(folder, lists)
    stat = find_annotation(folder, ["stat.csv"], lists)
    known = _read_stat(stat) if stat else sorted({row.label for table in tables for row in _rows(table, tables[table])})
    if not stat and len(known) != CLASSES:
        message = f"{folder}: no stat.csv, and the lists have {len(known)} labels where VGGSound has {CLASSES}"
        problems.append(Problem("", "classes", message, fatal=False))
    listings = read_listings(tables, {label: i for i, label in enumerate(known)})
    about = About(dataset="vggsound", root=folder, classes=tuple(known), multilabel=False, problems=tuple(problems))
    return find_clips(listings, next(iter(tables)).name, about)


def read_listings(tables: Mapping[Path, str], class_of: Mapping[str, int]) -> list[Listing]:
    """One Listing per split.

    Args:
        tables: CSV -> the split that it lists, "" where it has a column for the split.
        class_of: label -> class index.
    """
    builders: dict[str, ListingBuilder] = {}
    for table, split_of_table in tables.items():
        for row in _rows(table, split_of_table):
            number = class_of.get(row.label)
            if number is None:
                raise InputError(
                    f"{table} row {row.line}: unknown class {row.label!r}; mend the label, or add it to stat.csv"
                )
            builder = builders.setdefault(row.split, ListingBuilder(row.split))
            builder.add(row.video, row.start, (number,), clip_id=f"{row.video}_{row.start:06d}")
    return [builders[split].listing() for split in SPLITS if split in builders]


def _find_tables(root: Path, lists: Path | None) -> tuple[dict[Path, str], list[Problem]]:
    whole = find_annotation(root, ["vggsound.csv"], lists)
    if whole:
        return {whole: ""}, []
    tables, problems = {}, []
    for split in SPLITS:
        table = find_annotation(root, [f"{split}.csv"], lists)
        if table:
            tables[table] = split
        else:
            message = f"{lists or root}: no {split}.csv (nor vggsound.csv), so no {split} clips"
            problems.append(Problem("", "no-annotation", message))
    if not tables:
        raise InputError(f"{lists or root}: neither vggsound.csv nor train.csv, test.csv; put VGGSound's lists there")
    return tables, problems


def _read_stat(table: Path) -> list[str]:
    labels = []
    for line, row in read_rows(table):
        if len(row) != 3 or not row[1].isdecimal():
            raise InputError(f"{table} row {line}: must be label,count,group with commas in labels quoted; restore it")
        labels.append(row[0].strip())
    if len(set(labels)) != len(labels) or not labels:
        raise InputError(f"{table}: {len(labels)} rows with {len(set(labels))} different labels; restore the file")
    return sorted(labels)


def _rows(table: Path, split_of_table: str) -> Iterator[Row]:
    columns = 2 if split_of_table else 4
    for line, row in read_rows(table):
        if len(row) != columns:
            form = "id_start.mp4,label" if split_of_table else "id,start,label,split"
            raise InputError(
                f"{table} row {line}: {len(row)} columns where VGGSound has {columns} ({form}, no header); "
                f"quote labels that hold commas, or restore the official file"
            )
        yield _named_row(table, line, row, split_of_table) if split_of_table else _whole_row(table, line, row)


def _named_row(table: Path, line: int, row: list[str], split: str) -> Row:
    clip = parse_stem(split_suffix(row[0].strip())[0])
    if clip is None or clip[1] == NO_START:
        raise InputError(
            f"{table} row {line}: {row[0]!r} is no file name like glLQrEijrKg_000300.mp4; restore the file"
        )
    return Row(line, clip[0], clip[1] // 1000, row[1].strip(), split)


def _whole_row(table: Path, line: int, row: list[str]) -> Row:
    video, start, label, split = (value.strip() for value in row)
    if not is_video_id(video):
        raise InputError(f"{table} row {line}: {video!r} is no YouTube id of 11 characters; restore the official file")
    second = whole_number(start)
    if second is None:
        raise InputError(
            f"{table} row {line}: start {start!r} is no whole number of seconds; restore the official file"
        )
    if split not in SPLITS:
        raise InputError(f"{table} row {line}: split {split!r} is neither train nor test; restore the official file")
    return Row(line, video, second, label, split)


register_dataset(
    DatasetSpec(
        name="vggsound",
        title="VGGSound",
        read=read_vggsound,
        unit="video",
        group_of=video_of,
    )
)
