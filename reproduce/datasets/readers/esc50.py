"""ESC-50 (karolpiczak/ESC-50) and any subset in its layout, such as ESC-10: `meta/esc50.csv` and `audio/`.

The class index is the target's position among the distinct targets present, so ESC-50 keeps its numbers 0..49 and
ESC-10, whose csv keeps ESC-50's numbers (0, 1, 10, 11, ...), gets 0..9. The folds of the csv are the splits. Several
clips may be cut from one recording: it is the unit of resampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reproduce.audio.spec import ESC50_MEAN, ESC50_STD
from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex
from reproduce.datasets.readers.annotation_csv import existing_folder, read_table, whole_number
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder, ListedClip
from reproduce.datasets.readers.folds import FOLDS
from reproduce.datasets.readers.scan import StemLookup, split_suffix
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

COLUMNS = ("filename", "fold", "target", "category")


def source_recording(clip_id: str) -> str:
    """Recording that a clip was cut from: SOURCE of an id FOLD-SOURCE-TAKE-CLASS; any other id is a recording."""
    parts = clip_id.split("-")
    return parts[1] if len(parts) == 4 and parts[1].isdecimal() else clip_id


def read_esc50(root: str | Path) -> ClipIndex:
    """Clips of the folder that holds `meta/` and `audio/`; clip ids are file name stems, splits the folds "1".."5".

    A file may have another extension than the csv says (wav converted to ogg or flac): the stem decides.
    Raises InputError if the layout or the csv's header is wrong, or two names share a target.
    """
    folder = existing_folder(root)
    table = folder / "meta" / "esc50.csv"
    if not table.is_file():
        raise InputError(f"{table}: no such file; give the ESC-50 folder that holds meta/esc50.csv and audio/")
    columns, rows = read_table(table, COLUMNS)
    builder = ClipIndexBuilder([DEFAULT_HEAD], unit="recording")
    listed: list[tuple[int, str, str, int, str]] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        parsed = _parse_row(table, line, row, columns, builder)
        if parsed is None:
            continue
        clip_id = split_suffix(parsed[1])[0]
        if first_line.setdefault(clip_id, line) != line:
            builder.problem(
                clip_id, "duplicate", f"{table} row {line}: {parsed[1]} is already in row {first_line[clip_id]}"
            )
            continue
        listed.append(parsed)
    names = _class_names(table, listed)
    if not names:
        raise InputError(f"{table}: no usable row; each needs {','.join(COLUMNS)}")
    class_of = {target: i for i, target in enumerate(sorted(names))}
    files = StemLookup(folder / "audio")
    for line, filename, fold, target, _ in listed:
        clip_id, labels = split_suffix(filename)[0], {DEFAULT_HEAD: (class_of[target],)}
        clip = ListedClip(clip_id=clip_id, split=fold, labels=labels, group=source_recording(clip_id))
        name = files.find(filename)
        if name is None:
            builder.missing(clip, f"{table} row {line}: no file audio/{filename} (nor that stem)")
        else:
            builder.add(clip, f"audio/{name}")
    classes = {DEFAULT_HEAD: tuple(names[target] for target in sorted(names))}
    return builder.index("esc50", folder, classes, multilabel=False)


def _parse_row(
    table: Path, line: int, row: list[str], columns: Mapping[str, int], builder: ClipIndexBuilder
) -> tuple[int, str, str, int, str] | None:
    """(line, filename, fold, target, category), or None after noting what is wrong."""
    if len(row) != len(columns):
        builder.problem("", "columns", f"{table} row {line}: {len(row)} columns where the header has {len(columns)}")
        return None
    filename, fold, target, category = (row[columns[name]].strip() for name in COLUMNS)
    clip_id = split_suffix(filename)[0]
    if not filename or not category:
        builder.problem(clip_id, "empty", f"{table} row {line}: empty filename or category")
        return None
    if fold not in FOLDS:
        builder.problem(clip_id, "fold", f"{table} row {line}: fold {fold!r} is none of {', '.join(FOLDS)}")
        return None
    number = whole_number(target)
    if number is None:
        builder.problem(clip_id, "label", f"{table} row {line}: target {target!r} is no class number")
        return None
    return line, filename, fold, number, category


def _class_names(table: Path, listed: Sequence[tuple[int, str, str, int, str]]) -> dict[int, str]:
    names: dict[int, str] = {}
    targets: dict[str, int] = {}
    for line, _, _, target, category in listed:
        if names.setdefault(target, category) != category:
            raise InputError(
                f"{table} row {line}: target {target} is {category!r} here but {names[target]!r} above; mend the csv"
            )
        if targets.setdefault(category, target) != target:
            raise InputError(
                f"{table} row {line}: {category!r} has target {target} here but {targets[category]} above; mend the csv"
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
