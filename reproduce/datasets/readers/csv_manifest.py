"""A CSV that lists clips: columns `path,label` and, if wanted, `split` or `fold`, `start`, `stop`, `group`.

    path,label,split,start,stop,speaker
    audio/a.wav,dog,train,,,anna
    audio/b.wav,dog;cat,test,1.5,4.0,ben

- `path` is relative to the CSV's folder, or absolute; what leads out of that folder needs `follow_outside`.
- `label`: several labels are separated by `;`; one such row makes the data set multi-label.
- `split` is train, val (validation, dev) or test (eval) in any case; `fold`, or numbers as `split`, are folds. Without
  either, clips are dealt into folds "1".."5": by the hash of their path (`stratified_folds`), or, where clips share a
  group, so that no group is divided and every fold has all classes (`grouped_folds`).
- `start` and `stop` are seconds.
- `group` (or `speaker`, `recording`, `source`) names what several clips have in common. Scores are resampled by it,
  and folds never divide it. Without it, the segments of a file are a group.

A faulty row is a Problem and the others are used; a faulty file, a misspelt split or a path that leads out is an
InputError.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reproduce.datasets.index import DEFAULT_HEAD, ClipIndex
from reproduce.datasets.locations import expand_home
from reproduce.datasets.readers.annotation_csv import read_table
from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder, ListedClip
from reproduce.datasets.readers.folds import grouped_folds, stratified_folds
from reproduce.datasets.readers.labels import note_similar_labels
from reproduce.datasets.readers.scan import FileLookup, list_folder, split_suffix
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.datasets.splits import KNOWN_SPLITS, is_fold, split_of
from reproduce.errors import InputError

NEEDED = ("path", "label")
# Column -> unit of resampling, the first that is there counts.
UNITS = {"group": "group", "speaker": "speaker", "recording": "recording", "source": "recording"}
OPTIONAL = ("split", "fold", "start", "stop", *UNITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One usable row.

    Args:
        line: in the CSV.
        path: as written.
        labels: distinct class names in the order written.
        split: "train", "val", "test" or a fold number; "" where the CSV has no such column.
        start: seconds, NaN where absent.
        stop: seconds, NaN where absent.
        group: as written; "" where the CSV has no such column.
    """

    line: int
    path: str
    labels: tuple[str, ...]
    split: str
    start: float
    stop: float
    group: str

    @property
    def clip_id(self) -> str:
        """The path as written, with `#start-stop` where the clip is a segment."""
        if math.isnan(self.start) and math.isnan(self.stop):
            return self.path
        return f"{self.path}#{_seconds(self.start)}-{_seconds(self.stop)}"

    @property
    def fold_group(self) -> str:
        """What a fold must not divide: the group, or all segments and formats of a recording."""
        return self.group or split_suffix(self.path)[0]


class _BadRow(Exception):
    """A row that is left out: (clip id, reason, what is wrong)."""


@dataclass(frozen=True)
class _Manifest:
    """The CSV being read: its path, the positions of its columns, and where problems go."""

    table: Path
    columns: Mapping[str, int]
    builder: ClipIndexBuilder
    group_column: str
    lines_of_splits: dict[str, int] = field(default_factory=dict)

    def problem(self, clip_id: str, reason: str, line: int, what: str) -> None:
        """Note what is wrong with the row at `line`."""
        self.builder.problem(clip_id, reason, f"{self.table} row {line}: {what}")


def read_csv(root: str | Path, classes: Sequence[str] | None = None, follow_outside: bool = False) -> ClipIndex:
    """Clips of the CSV `root`, or of the only CSV in the folder `root`.

    A clip's id is its path as written, with `#start-stop` where it is a segment.

    Args:
        classes: class names in index order; without them, the classes are the sorted labels.
        follow_outside: read files outside of the CSV's folder.

    Raises:
        InputError: the file as a whole cannot be used, or names files outside of its folder.
    """
    table = _find_table(expand_home(root).absolute())
    columns, lines = read_table(table, NEEDED)
    builder = ClipIndexBuilder([DEFAULT_HEAD])
    _check_columns(table, columns, builder)
    manifest = _Manifest(table, columns, builder, next((name for name in UNITS if name in columns), ""))
    rows = []
    for line, fields in lines:
        try:
            rows.append(_parse_row(manifest, line, fields))
        except _BadRow as error:
            clip_id, reason, message = error.args
            manifest.problem(clip_id, reason, line, message)
    _refuse_mixed_splits(manifest)
    rows = _without_repeats(manifest, rows)
    names = tuple(classes) if classes is not None else tuple(sorted({label for row in rows for label in row.labels}))
    rows = _without_unknown_labels(manifest, rows, names)
    if not rows:
        why = f"; {builder.problems[0].message}" if builder.problems else ""
        raise InputError(f"{table}: no usable row below the header{why}")
    note_similar_labels(str(table), names, builder)
    builder.unit = _unit(manifest, rows)
    _note_divided_groups(manifest, rows)
    _add_rows(manifest, rows, names, follow_outside)
    multilabel = any(len(row.labels) > 1 for row in rows)
    return builder.index("csv", table.parent, {DEFAULT_HEAD: names}, multilabel=multilabel)


def _find_table(root: Path) -> Path:
    if not root.is_dir():
        return root
    tables = [name for name in list_folder(root)[1] if name.lower().endswith(".csv")]
    if len(tables) != 1:
        counted = f"{len(tables)} CSV files ({', '.join(tables[:3])})" if tables else "no CSV file"
        raise InputError(f"{root}: {counted}; give the CSV file itself (--data csv=FILE.csv)")
    return root / tables[0]


def _check_columns(table: Path, columns: Mapping[str, int], builder: ClipIndexBuilder) -> None:
    if "split" in columns and "fold" in columns:
        raise InputError(f"{table} row 1: has both a split and a fold column; keep one")
    units = [name for name in UNITS if name in columns]
    for name in columns:
        if name in (*NEEDED, *OPTIONAL) and name not in units[1:]:
            continue
        # A column of the user's own is ignored; a misspelt one would silently lose the split or the segments.
        meant = difflib.get_close_matches(name.lower(), OPTIONAL, n=1)
        if meant and name not in units:
            raise InputError(f"{table} row 1: unknown column {name!r}; did you mean {meant[0]!r}? Rename it")
        builder.problem("", "column", f"{table} row 1: column {name!r} is not used", fatal=False)


def _parse_row(manifest: _Manifest, line: int, fields: Sequence[str]) -> Row:
    """The row; _BadRow for one that is left out, InputError for an unknown split."""
    columns = manifest.columns
    if len(fields) != len(columns):
        counts = f"{len(fields)} columns where the header has {len(columns)}"
        raise _BadRow("", "columns", f"{counts}; quote fields that hold commas")
    value = {name: fields[i].strip() for name, i in columns.items()}
    path = value["path"]
    labels = tuple(dict.fromkeys(label.strip() for label in value["label"].split(";")))
    if not path:
        raise _BadRow("", "path", "empty path")
    if not all(labels):
        raise _BadRow(path, "label", "empty label" + (f" in {value['label']!r}" if any(labels) else ""))
    split_column = next((name for name in ("split", "fold") if name in columns), "")
    for name in (split_column, manifest.group_column):
        if name and not value[name]:
            raise _BadRow(path, "split" if name == split_column else "group", f"empty {name}")
    split = _split(manifest, line, split_column, value[split_column]) if split_column else ""
    start, stop = _segment(path, value.get("start", ""), value.get("stop", ""))
    group = value.get(manifest.group_column, "")
    return Row(line=line, path=path, labels=labels, split=split, start=start, stop=stop, group=group)


def _split(manifest: _Manifest, line: int, column: str, text: str) -> str:
    split = split_of(text)
    if split is None or (column == "fold" and not is_fold(split)):
        known = "a number" if column == "fold" else f"one of {KNOWN_SPLITS}"
        raise InputError(f"{manifest.table} row {line}: {column} {text!r} is not {known}; mend it")
    manifest.lines_of_splits.setdefault(split, line)
    return split


def _refuse_mixed_splits(manifest: _Manifest) -> None:
    folds = {split: line for split, line in manifest.lines_of_splits.items() if is_fold(split)}
    named = {split: line for split, line in manifest.lines_of_splits.items() if split not in folds}
    if folds and named:
        (fold, fold_line), (split, line) = next(iter(folds.items())), next(iter(named.items()))
        raise InputError(
            f"{manifest.table}: split {split!r} (row {line}) beside fold {fold} (row {fold_line}); "
            f"use named splits or fold numbers throughout: {KNOWN_SPLITS}"
        )


def _segment(path: str, start_text: str, stop_text: str) -> tuple[float, float]:
    """(start, stop) in seconds, NaN where the field is empty; _BadRow for what is no segment."""
    times = []
    for name, text in (("start", start_text), ("stop", stop_text)):
        try:
            seconds = float(text) if text else math.nan
        except ValueError:
            raise _BadRow(path, "segment", f"{name} {text!r} is not a number of seconds") from None
        if text and not (math.isfinite(seconds) and seconds >= 0):
            raise _BadRow(path, "segment", f"{name} {text!r} must be 0 or more seconds")
        times.append(seconds)
    start, stop = times
    if stop <= (0.0 if math.isnan(start) else start):
        raise _BadRow(path, "segment", f"stop {stop_text} is not after start {start_text or 0}")
    return start, stop


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def _without_repeats(manifest: _Manifest, rows: Sequence[Row]) -> list[Row]:
    """Keep the first of equal clips; drop all of those that contradict each other."""
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
                message = f"{clip_id} has other {what} in row {other.line}; keep one"
                manifest.problem(clip_id, "conflict", row.line, message)
            continue
        for row in same[1:]:
            manifest.problem(clip_id, "duplicate", row.line, f"{clip_id} is already in row {first.line}")
        kept.append(first)
    return kept


def _without_unknown_labels(manifest: _Manifest, rows: Sequence[Row], names: tuple[str, ...]) -> list[Row]:
    known, kept = set(names), []
    for row in rows:
        unknown = [label for label in row.labels if label not in known]
        if unknown:
            message = f"label {unknown[0]!r} is none of the {len(names)} classes"
            manifest.problem(row.clip_id, "label", row.line, message)
        else:
            kept.append(row)
    return kept


def _unit(manifest: _Manifest, rows: Sequence[Row]) -> str:
    """Of resampling: what the group column names, the file where one has several segments, or the clip."""
    if manifest.group_column:
        return UNITS[manifest.group_column]
    return "recording" if len({row.path for row in rows}) < len(rows) else "clip"


def _note_divided_groups(manifest: _Manifest, rows: Sequence[Row]) -> None:
    """Warn of groups on both sides of a split: the test clips are then not of unknown speakers or recordings."""
    if not manifest.group_column:
        return
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.group, set()).add(row.split)
    divided = [group for group, names in splits.items() if len(names) > 1]
    if divided:
        message = (
            f"{manifest.table}: {len(divided)} of {len(splits)} groups (column {manifest.group_column!r}) have clips "
            f"in several splits, e.g. {divided[0]!r}; scores on them are not of unknown groups"
        )
        manifest.builder.problem("", "divided-groups", message, fatal=False)


def _folds(rows: Sequence[Row]) -> dict[str, str]:
    """Fold of every group; groups of several clips, such as speakers, are dealt so that classes stay balanced."""
    if len({row.fold_group for row in rows}) == len(rows):
        return stratified_folds((row.fold_group, row.labels[0]) for row in rows)
    return grouped_folds((row.clip_id, row.fold_group, row.labels[0]) for row in rows)


def _add_rows(manifest: _Manifest, rows: Sequence[Row], names: Sequence[str], follow_outside: bool) -> None:
    table, builder = manifest.table, manifest.builder
    class_of = {name: i for i, name in enumerate(names)}
    folds = {} if rows[0].split else _folds(rows)
    files = FileLookup(table.parent)
    for row in rows:
        clip = ListedClip(
            clip_id=row.clip_id,
            split=row.split or folds[row.fold_group],
            labels={DEFAULT_HEAD: tuple(sorted(class_of[label] for label in row.labels))},
            start=row.start,
            stop=row.stop,
            group=row.fold_group,
        )
        path = files.find(row.path)
        if path is None:
            builder.missing(clip, f"{table} row {row.line}: no file {row.path}")
        elif not follow_outside and files.is_outside(path):
            raise InputError(
                f"{table} row {row.line}: {row.path} leads out of {table.parent}; "
                "move the file there, or allow it with --follow-outside"
            )
        else:
            builder.add(clip, path)


register_dataset(
    DatasetSpec(
        name="csv",
        title="Own CSV",
        read=read_csv,
        names_paths=True,
    )
)
