"""ESC-50 (karolpiczak/ESC-50) and any subset in its layout, such as ESC-10: `meta/esc50.csv` and `audio/`.

The class index is the target's position among the distinct targets present, so ESC-50 keeps its numbers 0..49 and
ESC-10, whose csv keeps ESC-50's numbers (0, 1, 10, 11, ...), gets 0..9. The folds of the csv are the splits. Several
clips may be cut from one recording: it is the unit of resampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reproduce.audio.spec import ESC50_MEAN, ESC50_STD
from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex
from reproduce.datasets.readers.annotation_csv import existing_folder, read_table, whole_number
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder, ListedClip
from reproduce.datasets.readers.folds import FOLDS
from reproduce.datasets.readers.scan import StemLookup, split_suffix
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

COLUMNS = ("filename", "fold", "target", "category")


class _Row(NamedTuple):
    line: int
    filename: str
    fold: str
    target: int
    category: str

    @property
    def clip_id(self) -> str:
        return split_suffix(self.filename)[0]


def source_recording(clip_id: str) -> str:
    """Recording that a clip was cut from: SOURCE of an id FOLD-SOURCE-TAKE-CLASS; any other id is a recording."""
    parts = clip_id.split("-")
    return parts[1] if len(parts) == 4 and parts[1].isdecimal() else clip_id


def read_esc50(root: str | Path) -> ClipIndex:
    """Clips of the folder that holds `meta/` and `audio/`; clip ids are file name stems, splits the folds "1".."5".

    A file may have another extension than in the csv (wav converted to ogg or flac): the stem decides.
    Raises InputError if the layout or the csv's header is wrong, or two names share a target.
    """
    folder = existing_folder(root)
    table = folder / "meta" / "esc50.csv"
    if not table.is_file():
        raise InputError(f"{table}: no such file; give the ESC-50 folder that holds meta/esc50.csv and audio/")
    columns, rows = read_table(table, COLUMNS)
    builder = ClipIndexBuilder([DEFAULT_HEAD], unit="recording")
    listed: list[_Row] = []
    first_line: dict[str, int] = {}
    for line, fields in rows:
        row = _parse_row(table, line, fields, columns, builder)
        if row is None:
            continue
        first = first_line.setdefault(row.clip_id, line)
        if first != line:
            message = f"{table} row {line}: {row.filename} is already in row {first}"
            builder.problem(row.clip_id, "duplicate", message)
            continue
        listed.append(row)
    names = _class_names(table, listed)
    if not names:
        raise InputError(f"{table}: no usable row; each needs {','.join(COLUMNS)}")
    class_of = {target: i for i, target in enumerate(sorted(names))}
    files = StemLookup(folder / "audio")
    for row in listed:
        labels = {DEFAULT_HEAD: (class_of[row.target],)}
        clip = ListedClip(clip_id=row.clip_id, split=row.fold, labels=labels, group=source_recording(row.clip_id))
        name = files.find(row.filename)
        if name is None:
            builder.missing(clip, f"{table} row {row.line}: no file audio/{row.filename} (nor that stem)")
        else:
            builder.add(clip, f"audio/{name}")
    classes = {DEFAULT_HEAD: tuple(names[target] for target in sorted(names))}
    return builder.index("esc50", folder, classes, multilabel=False)


def _parse_row(
    table: Path, line: int, fields: Sequence[str], columns: Mapping[str, int], builder: ClipIndexBuilder
) -> _Row | None:
    """The row, or None after noting what is wrong with it."""
    where = f"{table} row {line}"
    if len(fields) != len(columns):
        builder.problem("", "columns", f"{where}: {len(fields)} columns where the header has {len(columns)}")
        return None
    filename, fold, target, category = (fields[columns[name]].strip() for name in COLUMNS)
    clip_id, number = split_suffix(filename)[0], whole_number(target)
    if not filename or not category:
        builder.problem(clip_id, "empty", f"{where}: empty filename or category")
    elif fold not in FOLDS:
        builder.problem(clip_id, "fold", f"{where}: fold {fold!r} is none of {', '.join(FOLDS)}")
    elif number is None:
        builder.problem(clip_id, "label", f"{where}: target {target!r} is no class number")
    else:
        return _Row(line, filename, fold, number, category)
    return None


def _class_names(table: Path, listed: Sequence[_Row]) -> dict[int, str]:
    """Target -> category; InputError where one of the two has several of the other."""
    names: dict[int, str] = {}
    targets: dict[str, int] = {}
    for row in listed:
        name, target = names.setdefault(row.target, row.category), targets.setdefault(row.category, row.target)
        if name != row.category:
            raise InputError(
                f"{table} row {row.line}: target {row.target} is {row.category!r} here but {name!r} above; mend the csv"
            )
        if target != row.target:
            raise InputError(
                f"{table} row {row.line}: {row.category!r} has target {row.target} here but {target} above; "
                "mend the csv"
            )
    return names


register_dataset(
    DatasetSpec(
        name="esc50",
        title="ESC-50 layout",
        read=read_esc50,
        clip_seconds=5.0,
        mean=ESC50_MEAN,
        std=ESC50_STD,
        stats_source="YuanGongND/ast egs/esc50",
        train_splits=(),
        test_splits=(),
        unit="recording",
        group_of=source_recording,
    )
)
