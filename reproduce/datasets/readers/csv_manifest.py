"""A CSV that lists clips: columns `path,label` and, if wanted, `split` or `fold`, `start`, `stop`.

    path,label,split,start,stop
    audio/a.wav,dog,train,,
    audio/b.wav,dog;cat,test,1.5,4.0

Paths are relative to the CSV's folder, or absolute. Several labels are parted by `;`: one such row makes the corpus
multi-label. `start` and `stop` are seconds. Without a split or fold, clips are dealt into folds "1".."5" by the hash
of the path (`stratified_folds`; a file's segments stay together). A faulty row is a Problem and the rest is used; a
faulty file is an InputError.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduce.audio.spec import AUDIOSET_MEAN, AUDIOSET_STD
from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex
from reproduce.datasets.readers.annotation_csv import read_table
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder
from reproduce.datasets.readers.folds import FOLDS, stratified_folds
from reproduce.datasets.readers.scan import list_folder, split_suffix
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

NEEDED = ("path", "label")
OPTIONAL = ("split", "fold", "start", "stop")


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row. `labels` are distinct class names in the order written; absent times are NaN."""

    line: int
    path: str
    labels: tuple[str, ...]
    split: str
    start: float
    stop: float

    @property
    def clip_id(self) -> str:
        if math.isnan(self.start) and math.isnan(self.stop):
            return self.path
        return f"{self.path}#{_seconds(self.start)}-{_seconds(self.stop)}"


def read_csv(root: str | Path, classes: Sequence[str] | None = None) -> ClipIndex:
    """Clips of the CSV `root`, or of the only CSV in the folder `root`.

    A clip's id is its path as written, with `#start-stop` where it is a segment. `classes` fixes the class order;
    without it, the classes are the sorted labels. Raises InputError if the file as a whole cannot be used.
    """
    table = _find_table(Path(root).expanduser().absolute())
    columns, lines = read_table(table, NEEDED)
    builder = ClipIndexBuilder([DEFAULT_HEAD])
    _check_columns(table, columns, builder)
    rows = []
    for line, fields in lines:
        row = _parse_row(table, line, fields, columns, builder)
        if row is not None:
            rows.append(row)
    rows = _without_repeats(table, rows, builder)
    names = tuple(classes) if classes is not None else tuple(sorted({label for row in rows for label in row.labels}))
    rows = _without_unknown_labels(table, rows, names, builder)
    if not rows:
        why = f"; {builder.problems[0].message}" if builder.problems else ""
        raise InputError(f"{table}: no usable row below the header{why}")
    class_of = {name: i for i, name in enumerate(names)}
    folds = {} if rows[0].split else stratified_folds((split_suffix(row.path)[0], row.labels[0]) for row in rows)
    present = _FilePresence(table.parent)
    for row in rows:
        labels = {DEFAULT_HEAD: tuple(sorted(class_of[label] for label in row.labels))}
        split = row.split or folds[split_suffix(row.path)[0]]
        if row.path in present:
            builder.add(row.clip_id, row.path, split, labels, row.start, row.stop)
        else:
            builder.missing(row.clip_id, split, labels, f"{table} row {row.line}: no file {row.path}")
    multilabel = any(len(row.labels) > 1 for row in rows)
    return builder.index("csv", table.parent, {DEFAULT_HEAD: names}, multilabel=multilabel)


def _find_table(root: Path) -> Path:
    if not root.is_dir():
        return root
    tables = [name for name in list_folder(root)[1] if name.lower().endswith(".csv")]
    if len(tables) != 1:
        found = f"{len(tables)} CSV files ({', '.join(tables[:3])})" if tables else "no CSV file"
        raise InputError(f"{root}: {found}; give the CSV file itself (--data csv=FILE.csv)")
    return root / tables[0]


def _check_columns(table: Path, columns: dict[str, int], builder: ClipIndexBuilder) -> None:
    if "split" in columns and "fold" in columns:
        raise InputError(f"{table} row 1: has both a split and a fold column; keep one")
    for name in columns:
        if name in NEEDED + OPTIONAL:
            continue
        # A column of the user's own may pass, a misspelt one would silently lose the split or the segments.
        meant = difflib.get_close_matches(name.lower(), OPTIONAL, n=1)
        if meant:
            raise InputError(f"{table} row 1: unknown column {name!r}; did you mean {meant[0]!r}? Rename it")
        builder.problem("", "column", f"{table} row 1: column {name!r} is not used", fatal=False)


def _parse_row(
    table: Path, line: int, fields: list[str], columns: dict[str, int], builder: ClipIndexBuilder
) -> Row | None:
    """The row, or None after noting what is wrong with it."""
    where = f"{table} row {line}"
    if len(fields) != len(columns):
        counts = f"{len(fields)} columns where the header has {len(columns)}"
        builder.problem("", "columns", f"{where}: {counts}; quote fields that hold commas")
        return None
    value = {name: fields[i].strip() for name, i in columns.items()}
    path = value["path"]
    labels = tuple(dict.fromkeys(label.strip() for label in value["label"].split(";")))
    if not path:
        builder.problem("", "path", f"{where}: empty path")
        return None
    if not all(labels):
        builder.problem(path, "label", f"{where}: empty label in {value['label']!r}")
        return None
    split = value.get("split", value.get("fold", ""))
    if not split and ("split" in columns or "fold" in columns):
        builder.problem(path, "split", f"{where}: empty {'split' if 'split' in columns else 'fold'}")
        return None
    try:
        start, stop = _segment(value.get("start", ""), value.get("stop", ""))
    except ValueError as error:
        builder.problem(path, "segment", f"{where}: {error}")
        return None
    return Row(line, path, labels, split, start, stop)


def _segment(start_text: str, stop_text: str) -> tuple[float, float]:
    """(start, stop) in seconds, NaN where the field is empty; ValueError says what is wrong."""
    times = []
    for name, text in (("start", start_text), ("stop", stop_text)):
        try:
            seconds = float(text) if text else math.nan
        except ValueError:
            raise ValueError(f"{name} {text!r} is not a number of seconds") from None
        if text and not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"{name} {text!r} must be 0 or more seconds")
        times.append(seconds)
    start, stop = times
    if stop <= (0.0 if math.isnan(start) else start):
        raise ValueError(f"stop {stop_text} is not after start {start_text or 0}")
    return start, stop


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def _without_repeats(table: Path, rows: list[Row], builder: ClipIndexBuilder) -> list[Row]:
    """Keep the first of equal clips; drop every one of those that contradict each other."""
    by_clip: dict[str, list[Row]] = {}
    for row in rows:
        by_clip.setdefault(row.clip_id, []).append(row)
    kept = []
    for clip_id, same in by_clip.items():
        first = same[0]
        contrary = next((row for row in same if set(row.labels) != set(first.labels)), None)
        contrary_split = next((row for row in same if row.split != first.split), None)
        clash = contrary or contrary_split
        if clash is not None:
            what = "labels" if contrary else "splits"
            for row in same:
                other = first if row is not first else clash
                message = f"{table} row {row.line}: {clip_id} has other {what} in row {other.line}; keep one"
                builder.problem(clip_id, "conflict", message)
            continue
        for row in same[1:]:
            builder.problem(clip_id, "duplicate", f"{table} row {row.line}: {clip_id} is already in row {first.line}")
        kept.append(first)
    return kept


def _without_unknown_labels(
    table: Path, rows: list[Row], names: tuple[str, ...], builder: ClipIndexBuilder
) -> list[Row]:
    known, kept = set(names), []
    for row in rows:
        unknown = [label for label in row.labels if label not in known]
        if unknown:
            message = f"{table} row {row.line}: label {unknown[0]!r} is none of the {len(names)} classes"
            builder.problem(row.clip_id, "label", message)
        else:
            kept.append(row)
    return kept


class _FilePresence:
    """Whether files exist, with one `scandir` per folder named."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._names: dict[Path, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        file = self._base / path
        if file.parent not in self._names:
            self._names[file.parent] = set(list_folder(file.parent)[1]) if file.parent.is_dir() else set()
        return file.name in self._names[file.parent]


register_dataset(
    DatasetSpec(
        name="csv",
        title="Own CSV",
        read=read_csv,
        clip_seconds=10.0,
        metric="top1",
        mean=AUDIOSET_MEAN,
        std=AUDIOSET_STD,
        stats_source="AudioSet, YuanGongND/ast egs/audioset",
        folds=FOLDS,
    )
)
