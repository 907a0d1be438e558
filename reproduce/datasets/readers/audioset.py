"""AudioSet: 527 classes, several labels per clip, mAP.

Protocols: "balanced" trains on `balanced_train`, "full" on the union of `balanced_train` and `unbalanced_train`; both
test on `eval`. A clip's id is its YouTube id, whatever the source, so that the kept clips of two copies compare.

What is listed comes, per split, from the first of
- the official `<split>_segments.csv`: comment lines, then `YTID, start_seconds, end_seconds, "mid,mid"`;
- a JSON file as YuanGongND/ast takes it: `{"data": [{"video_id", "wav", "labels": "mid,mid"}]}`; its
  `whole_train_data.json` is a split of its own, "whole_train", and stands for both train splits;
- HDF5 packs of PANNs (qiuqiangkong/audioset_tagging_cnn) or PaSST (kkoutini/PaSST), named after the split.
The audio of a split comes from its packs where there are any, and from files otherwise (see `youtube_files`). The
classes come from `class_labels_indices.csv`, which has to lie beside the lists in every case.

Two million rows are read into columns; no Python object per clip outlives its row.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.packs import SEPARATOR
from reproduce.audio.spec import AUDIOSET_MEAN, AUDIOSET_STD
from reproduce.datasets.index import STRING, ClipIndex, Problem
from reproduce.datasets.readers.annotation_csv import existing_folder, read_rows, read_table
from reproduce.datasets.readers.listing import (
    Listing,
    ListingBuilder,
    Located,
    assemble,
    find_annotation,
    join_labels,
    locate,
    without_repeats,
)
from reproduce.datasets.readers.packs import Pack, open_pack
from reproduce.datasets.readers.scan import split_suffix
from reproduce.datasets.readers.youtube_files import (
    YouTubeFiles,
    are_video_ids,
    is_video_id,
    parse_stem,
    scan_youtube_files,
)
from reproduce.datasets.registry import DatasetSpec, register_dataset
from reproduce.errors import InputError

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "balanced": ("balanced_train", "eval"),
    "full": ("balanced_train", "unbalanced_train", "eval"),
}


WHOLE_TRAIN = "whole_train"
CLASS_TABLE = "class_labels_indices.csv"
_FORM = 'YTID, start_seconds, end_seconds, "mid,mid"'
_JSON_BLOCK = 1 << 20
_ROWS = 256  # small enough to stay in the processor's cache
_NAMES: Mapping[str, tuple[str, ...]] = {
    **{split: (f"{split}_segments.csv", f"{split}_data.json", f"{split}.json") for split in VARIANTS["full"]},
    WHOLE_TRAIN: (f"{WHOLE_TRAIN}_data.json", f"{WHOLE_TRAIN}.json"),
}


def read_audioset(root: str | Path, variant: str = "balanced", annotations: str | Path | None = None) -> ClipIndex:
    """Clips under `root`, with the lists in `annotations` (or in `root`, or a folder of it such as `metadata`).

    Raises InputError for an unknown protocol, no class table, no list at all, or a mangled one.
    """
    if variant not in VARIANTS:
        raise InputError(f"AudioSet has no protocol {variant!r}; choose one of {', '.join(VARIANTS)}")
    folder = existing_folder(root)
    place = existing_folder(annotations) if annotations is not None else None
    table = find_annotation(folder, [CLASS_TABLE], place)
    if table is None:
        raise InputError(
            f"{place or folder}: no {CLASS_TABLE}; put AudioSet's class table (index,mid,display_name) there"
        )
    mids, classes = read_classes(table)
    listings, elsewhere, problems = _read_tables(_find_tables(folder, place, variant), mids)
    files = scan_youtube_files(folder, elsewhere)
    packs = _packs_by_split(folder, files, VARIANTS[variant])
    for split in VARIANTS[variant]:
        if split in listings or (WHOLE_TRAIN in listings and split != "eval"):
            continue
        if split in packs:
            listings[split] = _list_packs(split, packs[split], len(classes))
        else:
            message = f"{place or folder}: no {split}_segments.csv, JSON list or pack of {split}, so no such clips"
            problems.append(Problem("", "no-annotation", message))
    if not listings:
        raise InputError(
            f"{place or folder}: none of {', '.join(_NAMES['eval'])} nor a pack; put AudioSet's lists there"
        )
    in_order = [listings[split] for split in (*VARIANTS["full"], WHOLE_TRAIN) if split in listings]
    kept, repeats = without_repeats(in_order, str(place or folder))
    located = [_locate_in_packs(folder, part, packs[part.split]) for part in kept if part.split in packs]
    located += locate([part for part in kept if part.split not in packs], files)
    everything = [*problems, *repeats, *files.problems]
    return assemble("audioset", folder, located, classes, multilabel=True, problems=everything, variant=variant)


def _find_tables(root: Path, place: Path | None, variant: str) -> dict[str, Path]:
    """Split -> its list; a list of the whole train set stands in where the unbalanced one is absent."""
    tables = {split: table for split in VARIANTS[variant] if (table := find_annotation(root, _NAMES[split], place))}
    whole = find_annotation(root, _NAMES[WHOLE_TRAIN], place) if variant == "full" else None
    if whole and "unbalanced_train" not in tables:
        tables.pop("balanced_train", None)  # it is part of the whole
        tables[WHOLE_TRAIN] = whole
    return tables


def _read_tables(
    tables: Mapping[str, Path], mids: Mapping[str, int]
) -> tuple[dict[str, Listing], list[Path], list[Problem]]:
    """(split -> what it lists, folders that lists name besides the root, problems)."""
    listings: dict[str, Listing] = {}
    folders: set[Path] = set()
    problems: list[Problem] = []
    for split, table in tables.items():
        if table.suffix == ".json":
            listings[split], named = read_ast_json(table, split, mids)
            folders |= named
        else:
            listings[split], notes = read_segments(table, split, mids)
            problems += notes
    return listings, sorted(folders), problems


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


# --- lists ---


def read_segments(table: Path, split: str, mids: Mapping[str, int]) -> tuple[Listing, list[Problem]]:
    """The clips of an official segments CSV; InputError names the first row that is not of its form."""
    builder = ListingBuilder(split)
    declared, count = None, 0
    lines = read_rows(table, skipinitialspace=True)
    while block := list(islice(lines, _ROWS)):
        rows = [row for _, row in block if row[0][:1] != "#"]
        if len(rows) < len(block):
            declared = _declared_segments(block) or declared
        if not rows:
            continue
        try:
            # Column by column, since row by row takes three times as long over two million rows.
            videos, starts, stops, labels = zip(*rows, strict=True)
            start, stop = array("d", map(float, starts)), array("d", map(float, stops))
            values = array("i", map(mids.__getitem__, ",".join(labels).split(",")))
        except (ValueError, KeyError):
            raise _first_bad_segment(table, block, mids) from None
        if not (are_video_ids(videos) and _are_spans(start, stop)):
            raise _first_bad_segment(table, block, mids)
        builder.extend(videos, start, stop, labels, values)
        count += len(rows)
    if not count:
        raise InputError(f"{table}: no row of the form {_FORM}; download the official file again")
    problems = []
    if declared is not None and declared != count:
        message = f"{table}: its head declares {declared} segments but {count} follow; was the download cut off?"
        problems.append(Problem("", "truncated-list", message))
    return builder.listing(), problems


def _declared_segments(block: Sequence[tuple[int, list[str]]]) -> int | None:
    for _, row in block:
        match = re.search(r"num_segs=(\d+)", ",".join(row)) if row[0][:1] == "#" else None
        if match:
            return int(match[1])
    return None


def _are_spans(start: Sequence[float], stop: Sequence[float]) -> bool:
    first, last = np.asarray(start), np.asarray(stop)
    return bool(((first >= 0) & (last > first) & np.isfinite(last)).all())


def _first_bad_segment(table: Path, block: Sequence[tuple[int, list[str]]], mids: Mapping[str, int]) -> InputError:
    for line, row in block:
        if row[0][:1] != "#" and not _is_good_segment(row, mids):
            return _bad_segment(table, line, row, mids)
    raise AssertionError(f"{table}: every row of the refused block is good")


def _is_good_segment(row: list[str], mids: Mapping[str, int]) -> bool:
    try:
        video, start, stop, labels = row
        span = _are_spans([float(start)], [float(stop)])
    except ValueError:
        return False
    return span and is_video_id(video) and all(mid in mids for mid in labels.split(","))


def _bad_segment(table: Path, line: int, row: list[str], mids: Mapping[str, int]) -> InputError:
    """Says what is wrong with a row that `read_segments` could not take."""
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
    """The clips of a JSON list of YuanGongND/ast, and the folders that its `wav` paths name and that exist here.

    `video_id` or else the file's name has to hold the YouTube id. Raises InputError for the first item that is not so.
    """
    builder, parents = ListingBuilder(split), set()
    items = enumerate(iter_json_list(file, "data"), start=1)
    while block := list(islice(items, _ROWS)):
        videos, labels, values = [], [], array("i")
        for number, item in block:
            video = _video_of(item)
            try:
                values.extend([mids[mid] for mid in item["labels"].split(",")])
                labels.append(item["labels"])
                parents.add(item["wav"].rpartition("/")[0])
            except (TypeError, AttributeError, KeyError):
                raise _bad_item(file, number, item, mids) from None
            if video is None:
                raise _bad_item(file, number, item, mids)
            videos.append(video)
        unknown = array("d", [np.nan]) * len(block)
        builder.extend(videos, unknown, unknown, labels, values)
    listing = builder.listing()
    if not len(listing):
        raise InputError(f"{file}: its data list is empty; give AST's full list")
    return listing, {folder for parent in parents if (folder := file.parent / parent).is_dir()}


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
    """Says what is wrong with an item that `read_ast_json` could not take."""
    where = f"{file} item {number}"
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("labels", "wav")):
        return InputError(f'{where}: must be {{"video_id": ..., "wav": ..., "labels": "mid,mid"}}; mend the list')
    unknown = next((mid for mid in item["labels"].split(",") if mid not in mids), None)
    if unknown is not None:
        return InputError(f"{where}: unknown class {unknown!r}, not in {CLASS_TABLE}; mend the list")
    return InputError(f"{where}: neither video_id nor wav holds a YouTube id of 11 characters; mend the list")


def iter_json_list(file: Path, key: str) -> Iterator[Any]:
    """The items of the list under `key` of a JSON object, one at a time: AST's full list is 300 MB."""
    decoder = json.JSONDecoder()
    try:
        with file.open(encoding="utf-8-sig") as stream:
            text = stream.read(_JSON_BLOCK)
            head = re.match(r'\s*\{\s*"' + re.escape(key) + r'"\s*:\s*\[', text)
            if head is None:
                raise InputError(f'{file}: must begin with {{"{key}": [ as AST\'s lists do; mend the file')
            at, count, more = head.end(), 0, text
            while True:
                at = _skip(text, at)
                if more and len(text) - at < _JSON_BLOCK // 2:
                    more = stream.read(_JSON_BLOCK)
                    text = text[at:] + more
                    at = _skip(text, 0)
                if text[at : at + 1] == "]":
                    return
                try:
                    item, at = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    raise InputError(f"{file} item {count + 1}: {error.msg}; the file is cut off or no JSON") from None
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


# --- packs ---


def _packs_by_split(root: Path, files: YouTubeFiles, splits: Sequence[str]) -> dict[str, list[Pack]]:
    """The packs met in the tree, by what their names say: `unbalanced_train_part07.h5`, `eval_segments_mp3.hdf`."""
    packs: dict[str, list[Pack]] = {}
    for name in files.packs:
        stem = split_suffix(name.rpartition("/")[2])[0]
        split = next((split for split in splits if stem.startswith(split)), None)
        pack = open_pack(root / name) if split else None
        if split and pack:
            packs.setdefault(split, []).append(pack)
    return packs


def _list_packs(split: str, packs: list[Pack], classes: int) -> Listing:
    videos = np.concatenate([pack.videos for pack in packs])
    unknown = np.full(len(videos), np.nan)
    labels = join_labels([pack.labels(classes) for pack in packs])
    return Listing(split, videos.astype(STRING), videos, unknown, unknown, labels)


def _locate_in_packs(root: Path, listing: Listing, packs: list[Pack]) -> Located:
    videos = np.concatenate([pack.videos for pack in packs])
    paths = np.concatenate(
        [
            np.strings.add(f"{pack.path.relative_to(root).as_posix()}{SEPARATOR}", pack.rows.astype(STRING))
            for pack in packs
        ]
    )
    order = np.argsort(videos, kind="stable")
    at = np.minimum(np.searchsorted(videos[order], listing.videos), len(videos) - 1)
    present = np.flatnonzero(videos[order[at]] == listing.videos)
    found = np.full(len(listing), "", STRING)
    found[present] = paths[order[at[present]]]
    return Located(listing, found)


register_dataset(
    DatasetSpec(
        name="audioset",
        title="AudioSet",
        read=read_audioset,
        clip_seconds=10.0,
        metric="mAP",
        mean=AUDIOSET_MEAN,
        std=AUDIOSET_STD,
        stats_source="YuanGongND/ast egs/audioset",
        train_splits=("balanced_train", "unbalanced_train", WHOLE_TRAIN),
        test_splits=("eval",),
        variants=tuple(VARIANTS),
    )
)
