"""An audit's results as counts per split and class, beside the paper's, and as a list of faults. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from reproduce.audio.errors import WARNING_REASONS
from reproduce.data.audit_examine import STATUSES, USABLE, has_status, has_warning
from reproduce.datasets import ClipIndex, dataset_spec
from reproduce.datasets.standin_marker import standin_marker
from reproduce.datasets.strings import Strings
from reproduce.experiments.paper_studies import ClipCount, paper_studies
from reproduce.paper import load_paper

SHORT_TOLERANCE_S = 0.5
WITHOUT_USUAL_LENGTH = frozenset({"folder", "csv"})
# Reasons with a column of their own; all others are "unreadable". "missing" is not a result of decoding.
OWN_COLUMN = ("zero-byte", "no audio track", "truncated")
SILENT = ("silent", "channels cancel")
FAULT_COLUMNS = ("split", "clip_id", "fault", "path", "same_as")
# The class list with which the paper's clip counts agree (RECIPES.md section 5).
PAPER_VARIANT: Mapping[str, str] = {"kinetics_sounds": "ks32"}


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """The counts of one split; the docstring of `reproduce.data.audit` defines them.

    Args:
        unreadable_by_reason: the parts of `unreadable`.
        warned_by_reason: usable clips with each of WARNING_REASONS; `silent` counts two of them.
        duplicate_across_splits: the part of `duplicate` whose earlier copy is in another split: a leak.
        hours: of usable audio.
        labels: head -> labels over all listed clips.
        listed_ids_sha256: identity of the set of listed clips (`ClipIndex.ids_sha256`).
        usable_ids_sha256: identity of the set of usable clips.
    """

    listed: int
    present: int
    missing: int
    usable: int
    zero_byte: int
    no_audio_track: int
    truncated: int
    unreadable: int
    short: int
    silent: int
    duplicate: int
    duplicate_across_splits: int
    unreadable_by_reason: Mapping[str, int]
    warned_by_reason: Mapping[str, int]
    hours: float
    labels: Mapping[str, int]
    listed_ids_sha256: str
    usable_ids_sha256: str


@dataclass(frozen=True)
class ClassCounts:
    """The clips of one class in one split."""

    split: str
    head: str
    name: str
    listed: int
    present: int
    usable: int


@dataclass(frozen=True, kw_only=True)
class PaperCount:
    """The paper's counts of one of its sets beside ours; ours are None where one of its splits is not listed."""

    name: str
    splits: tuple[str, ...]
    listed: int | None
    usable: int | None
    paper_listed: int | None
    paper_kept: int


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The result of an audit.

    Args:
        dataset: registered name.
        title: of the data set, or of its stand-in.
        variant: of the data set.
        root: its folder.
        standin: whether it is synthetic.
        listed_again: rows that list a clip a second time.
        splits: split -> counts.
        paper: the paper's counts.
        classes: counts per class.
        notes: what the reader reports about lists and folders, a line each.
    """

    dataset: str
    title: str
    variant: str
    root: str
    standin: bool
    listed_again: int
    splits: Mapping[str, SplitCounts]
    paper: tuple[PaperCount, ...]
    classes: tuple[ClassCounts, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _ClipColumns:
    """Everything about the n clips of an index that is counted.

    Args:
        present: (n,) bool.
        usable: (n,) bool.
        short: (n,) bool.
        silent: (n,) bool.
        original: (n,) int64, see `duplicates`.
    """

    present: np.ndarray
    usable: np.ndarray
    short: np.ndarray
    silent: np.ndarray
    original: np.ndarray

    @classmethod
    def of(cls, index: ClipIndex, examinations: np.ndarray) -> _ClipColumns:
        usable = has_status(examinations, USABLE)
        return cls(
            present=~has_status(examinations, "missing"),
            usable=usable,
            short=usable & (examinations["seconds"] <= _expected_seconds(index) - SHORT_TOLERANCE_S),
            silent=has_warning(examinations, *SILENT),
            original=duplicates(examinations),
        )


def summarise(index: ClipIndex, examinations: np.ndarray) -> AuditReport:
    """Count the (n,) `examinations` of the n clips of `index` per split and class."""
    marker = standin_marker(index.root)
    columns = _ClipColumns.of(index, examinations)
    splits = {split: _count_split(index, examinations, columns, split) for split in index.listed}
    return AuditReport(
        dataset=index.dataset,
        title=str(marker["title"]) if marker else dataset_spec(index.dataset).title,
        variant=index.variant,
        root=str(index.root),
        standin=marker is not None,
        listed_again=sum(problem.reason == "duplicate" for problem in index.problems),
        splits=splits,
        paper=_paper_counts(index, splits),
        classes=tuple(row for split in splits for row in _count_classes(index, columns, split)),
        notes=tuple(problem.message for problem in index.problems if not problem.clip_id),
    )


def duplicates(examinations: np.ndarray) -> np.ndarray:
    """The first clip in the index that decodes to the same samples, (n,) int64; -1 for a clip that is the first."""
    original = np.full(len(examinations), -1, np.int64)
    audible = np.flatnonzero(has_status(examinations, USABLE) & ~has_warning(examinations, *SILENT))
    order = audible[np.argsort(examinations["content"][audible], kind="stable")]
    content = examinations["content"][order]
    begins = np.concatenate([[True], content[1:] != content[:-1]])[: len(order)]
    first = order[begins][np.cumsum(begins) - 1]
    original[order[~begins]] = first[~begins]
    return original


def _expected_seconds(index: ClipIndex) -> np.ndarray:
    """(n,) float64, NaN where no length is expected."""
    usual = np.nan if index.dataset in WITHOUT_USUAL_LENGTH else dataset_spec(index.dataset).clip_seconds
    listed = index.stop - np.nan_to_num(index.start)
    return np.where(np.isnan(listed), usual, listed)


def _count_split(index: ClipIndex, examinations: np.ndarray, columns: _ClipColumns, split: str) -> SplitCounts:
    here = index.splits == split
    usable = here & columns.usable
    present = int((here & columns.present).sum())
    counts = np.bincount(examinations["status"][here], minlength=len(STATUSES))
    reasons = Counter({name: int(n) for name, n in zip(STATUSES, counts, strict=True) if n and name != USABLE})
    warned = {name: int(has_warning(examinations[here], name).sum()) for name in WARNING_REASONS}
    others = {reason: n for reason, n in reasons.items() if reason not in (*OWN_COLUMN, "missing")}
    copies = np.flatnonzero(here & (columns.original >= 0))
    absent = index.missing_ids[index.missing_splits == split]
    listed_ids = replace(index, clip_ids=Strings.concatenate([index.clip_ids[here], absent]))
    return SplitCounts(
        listed=index.listed[split],
        present=present,
        missing=index.listed[split] - present,
        usable=int(usable.sum()),
        zero_byte=reasons["zero-byte"],
        no_audio_track=reasons["no audio track"],
        truncated=reasons["truncated"],
        unreadable=sum(others.values()),
        short=int((here & columns.short).sum()),
        silent=int((here & columns.silent).sum()),
        duplicate=len(copies),
        duplicate_across_splits=int((index.splits[copies] != index.splits[columns.original[copies]]).sum()),
        unreadable_by_reason=others,
        warned_by_reason={reason: n for reason, n in warned.items() if n},
        hours=float(examinations["seconds"][usable].sum(dtype=np.float64)) / 3600,
        labels={head: int(n.sum()) for (owner, head), n in index.listed_per_class.items() if owner == split},
        listed_ids_sha256=listed_ids.ids_sha256(),
        usable_ids_sha256=index.take(np.flatnonzero(usable)).ids_sha256(),
    )


def _count_classes(index: ClipIndex, columns: _ClipColumns, split: str) -> Iterator[ClassCounts]:
    here = index.splits == split
    for head, names in index.classes.items():
        listed = index.listed_per_class[split, head]
        per_class = [
            np.bincount(index.labels[head].take(np.flatnonzero(here & mask)).values, minlength=len(names))
            for mask in (columns.present, columns.usable)
        ]
        for name, *counts in zip(names, listed, *per_class, strict=True):
            yield ClassCounts(split, head, name, *map(int, counts))


# --- the paper's counts ---------------------------------------------------------------------------------------------


def _paper_counts(index: ClipIndex, splits: Mapping[str, SplitCounts]) -> tuple[PaperCount, ...]:
    """The parts of the paper's studies of this data set, each once."""
    if index.variant != PAPER_VARIANT.get(index.dataset, index.variant):
        return ()
    studies = (study for study in paper_studies() if study.dataset == index.dataset)
    parts = dict.fromkeys(count for study in studies for count in study.clips if count.used)
    return tuple(_paper_count(part, splits) for part in sorted(parts, key=lambda part: part.part == "test"))


def _paper_count(part: ClipCount, splits: Mapping[str, SplitCounts]) -> PaperCount:
    listed = next((names for names in part.splits if all(split in splits for split in names)), None)
    counts = [splits[split] for split in listed or ()]
    return PaperCount(
        name=part.part,
        splits=listed or part.splits[0],
        listed=sum(count.listed for count in counts) if listed else None,
        usable=sum(count.usable for count in counts) if listed else None,
        paper_listed=_paper_number(part.listed) if part.listed else None,
        paper_kept=_paper_number(part.used),
    )


def _paper_number(key: str) -> int:
    return int(load_paper().fact(key).value)


# --- the faults by clip -----------------------------------------------------------------------------------------------


def iter_faults(index: ClipIndex, examinations: np.ndarray) -> Iterator[tuple[str, ...]]:
    """A row of FAULT_COLUMNS for every fault and warning of every clip, the missing ones first.

    Paths are relative to the index's root; `same_as` is the earlier clip that a duplicate repeats.
    """
    for split, clip_id in zip(index.missing_splits, index.missing_ids, strict=True):
        yield str(split), str(clip_id), "missing", "", ""
    for problem in index.problems:
        if problem.reason == "duplicate":
            yield "", problem.clip_id, "listed again", "", ""
    columns = _ClipColumns.of(index, examinations)
    warned = examinations["warnings"] > 0
    for i in np.flatnonzero(~columns.usable | columns.short | warned | (columns.original >= 0)):
        clip, path = (str(index.splits[i]), str(index.clip_ids[i])), str(index.paths[i])
        if not columns.usable[i]:
            yield *clip, STATUSES[examinations["status"][i]], path, ""
        if columns.short[i]:
            yield *clip, "short", path, ""
        for reason in WARNING_REASONS:
            if has_warning(examinations[i], reason):
                yield *clip, reason, path, ""
        if columns.original[i] >= 0:
            yield *clip, "duplicate", path, str(index.clip_ids[columns.original[i]])
