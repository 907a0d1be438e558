"""Which of a corpus' listed clips can be used: every clip is decoded once, and what is found is counted.

    findings = check_clips(index, "runs/audit/vggsound/clips.jsonl")
    report = summarise(index, findings)

What the counts mean, per split:

- listed: clips of the annotation files, each id once. `listed_again` counts ids that a list repeats; they are left out.
- present: listed clips whose file (or pack) is on disk; missing: the others. listed = present + missing.
- unusable, one reason a clip: zero-byte, no audio track, truncated (less audio than the file promises), unreadable (any
  other reason why it does not decode: not audio, empty, NaN samples, permissions). usable = present - these four, and
  is exactly what training and evaluation keep.
- short, silent, duplicate: warnings about usable clips, which stay in use. One clip may carry several.
  - short: decodes to SHORT_TOLERANCE_S or more below its length: that of the listed segment where the index cuts one
    out of a longer file, and the corpus' usual clip length otherwise. (AudioSet lists 362 eval clips below 10 s: they
    count here, as a cut file does not say that it was meant so.) Not asked of `folder` and `csv`, where no length is
    usual.
  - silent: the mean over its channels never swings by one 16-bit step (`reproduce.audio.is_silent`).
  - duplicate: decodes to the very samples, channels and rate of a clip earlier in the index, under another id. By
    decoded samples, so that a wav and its flac copy are the same and tags do not matter; another lossy encoding is not
    recognised. Silent clips do not count: they would all be each other's.

Memory: some 40 bytes a clip over the index itself. Each finding is appended to a JSONL file, keyed by clip id, path,
segment, and the file's size and time stamp, so a killed audit goes on where it was, and an unchanged clip is never
decoded twice. Missing and unreadable clips are looked at again each time, as mending these need not touch the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BufferedRandom
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from reproduce.audio.decoding import stream_audio
from reproduce.audio.errors import AUDIO_REASONS, AudioError
from reproduce.audio.packs import SEPARATOR, is_packed
from reproduce.audio.waveforms import SILENCE, to_mono
from reproduce.datasets import Clip, ClipIndex, dataset_spec, read_dataset
from reproduce.datasets.standin_marker import standin_marker
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError
from reproduce.paper import load_paper

RULES_VERSION = 2  # raise it whenever the same file would give another finding
SHORT_TOLERANCE_S = 0.5
WITHOUT_USUAL_LENGTH = frozenset({"folder", "csv"})
USABLE = "usable"
STATUSES = (USABLE, *AUDIO_REASONS)
# AUDIO_REASONS that get a column of their own; the rest are "unreadable", and "missing" is no matter of decoding.
OWN_COLUMN = ("zero-byte", "no audio track", "truncated")
LOOKED_AT_AGAIN = frozenset({"missing", "unreadable"})
_BLOCK = 8  # clips a thread takes at a time: handing over single ones costs more than looking up a known finding
WIDEST_PROTOCOL: Mapping[str, str] = {"audioset": "full"}
# The class list with which the paper's clip counts agree (RECIPES.md section 5).
PAPER_PROTOCOL: Mapping[str, str] = {"kinetics_sounds": "ks32"}


def read_for_audit(name: str, root: str | Path, variant: str | None = None) -> ClipIndex:
    """The corpus as its reader finds it, under the protocol that lists most clips unless told otherwise."""
    spec = dataset_spec(name)
    if variant is not None and variant not in spec.variants:
        known = ", ".join(spec.variants) or "none: it has one form only"
        raise InputError(f"--variant {variant}: not a protocol of {name} ({known})")
    variant = variant or WIDEST_PROTOCOL.get(name)
    return read_dataset(name, root, variant=variant) if variant else read_dataset(name, root)


# --- looking at one clip ---------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """Of one clip. `status`: place in STATUSES. `content`: 64-bit hash of what it decodes to, 0 if it does not."""

    status: int
    seconds: float = 0.0
    silent: bool = False
    content: int = 0


def examine(clip: Clip) -> tuple[Finding, str]:
    """Decode one clip: what was found, and the message where it cannot be used."""
    digest, seconds, extremes = None, 0.0, []
    try:
        for samples, rate in stream_audio(clip.path, clip.start, clip.stop):
            digest = digest or hashlib.blake2b(f"{rate} Hz, {samples.shape[1]} channels".encode(), digest_size=8)
            digest.update(np.ascontiguousarray(samples).data)
            mono = to_mono(samples)
            extremes += [mono.min(), mono.max()]
            seconds += len(samples) / rate
    except AudioError as error:
        return Finding(STATUSES.index(error.reason)), str(error)
    silent = bool(np.ptp(extremes) < SILENCE)
    return Finding(0, seconds, silent, int.from_bytes(digest.digest(), "little") if digest else 0), ""


def _hash64(*parts: bytes | memoryview) -> int:
    # 64 bits: with two million clips, the chance that any two different ones collide is 1e-7.
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


# --- what is known from earlier runs ---------------------------------------------------------------------------------


class Identity(NamedTuple):
    """A clip as it lies on disk: any change of it calls for another look."""

    clip: str
    path: str
    start: float | None
    stop: float | None
    size: int
    mtime_ns: int

    def key(self) -> int:
        return _hash64(repr((RULES_VERSION, *self)).encode())


class KnownFindings:
    """The findings in a state file, in columns: 21 bytes each."""

    def __init__(self, file: Path) -> None:
        """Reads `file` if it is there; a torn last line, left by a kill, is cut off. InputError if it is no state."""
        keys, contents = array("Q"), array("Q")
        statuses, seconds, silent = bytearray(), array("f"), bytearray()
        if file.exists():
            with file.open("r+b") as stream:
                for identity, finding in _read_state(file, stream):
                    if STATUSES[finding.status] not in LOOKED_AT_AGAIN:
                        keys.append(identity.key())
                        contents.append(finding.content)
                        statuses.append(finding.status)
                        seconds.append(finding.seconds)
                        silent.append(finding.silent)
        keys_found = np.frombuffer(keys, np.uint64)
        order = np.argsort(keys_found, kind="stable")
        self._keys = keys_found[order]
        self._contents = np.frombuffer(contents, np.uint64)[order]
        self._statuses = np.frombuffer(statuses, np.uint8)[order]
        self._seconds = np.frombuffer(seconds, np.float32)[order]
        self._silent = np.frombuffer(silent, np.uint8)[order]

    def get(self, key: int) -> Finding | None:
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        if at == len(self._keys) or int(self._keys[at]) != key:
            return None
        return Finding(
            int(self._statuses[at]), float(self._seconds[at]), bool(self._silent[at]), int(self._contents[at])
        )


def _read_state(file: Path, stream: BufferedRandom) -> Iterator[tuple[Identity, Finding]]:
    whole = 0
    for number, line in enumerate(stream, start=1):
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        try:
            row = json.loads(line)
            identity = Identity(*(row[name] for name in Identity._fields))
            finding = Finding(STATUSES.index(row["status"]), row["seconds"], row["silent"], int(row["content"], 16))
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} row {number}: no line of an audit; delete the file and audit again") from None
        yield identity, finding
    stream.truncate(whole)


def _state_line(identity: Identity, finding: Finding, message: str) -> str:
    row = {
        **identity._asdict(),
        "status": STATUSES[finding.status],
        "seconds": finding.seconds,
        "silent": finding.silent,
        "content": f"{finding.content:016x}",
        "message": message,
    }
    return json.dumps(row) + "\n"


# --- looking at all of them ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Findings:
    """Of the n clips of an index, in its order. See `Finding`.

    Args:
        status: (n,) uint8. seconds: (n,) float32. silent: (n,) bool. content: (n,) uint64.
    """

    status: np.ndarray
    seconds: np.ndarray
    silent: np.ndarray
    content: np.ndarray

    def has_status(self, *names: str) -> np.ndarray:
        """(n,) bool."""
        return np.isin(self.status, [STATUSES.index(name) for name in names])


def check_clips(
    index: ClipIndex, state: str | Path, workers: int | None = None, on_clip: Callable[[], object] = lambda: None
) -> Findings:
    """Look at every clip of `index` once, except those that `state` knows already.

    Args:
        state: JSONL file that findings are appended to, made if it is not there.
        workers: decoding threads, by default one a core; libsndfile, FFmpeg and hashing release the GIL.
        on_clip: called after every clip, for a progress bar.

    Raises:
        InputError: `state` is something else or cannot be written, or a clip needs a library that is not installed.
    """
    file = Path(state)
    known = KnownFindings(file)
    stat = lru_cache(maxsize=1024)(_stat)  # a pack or a long video holds many clips

    def look(clip: Clip) -> tuple[Finding, str]:
        """The finding, and the line to append if it is new."""
        on_disk = stat(str(clip.path).rpartition(SEPARATOR)[0] if is_packed(clip.path) else str(clip.path))
        if on_disk is None:
            return Finding(STATUSES.index("missing")), ""
        identity = Identity(clip.clip_id, str(clip.path), clip.start, clip.stop, *on_disk)
        found = known.get(identity.key())
        if found is not None:
            return found, ""
        found, message = examine(clip)
        return found, _state_line(identity, found, message)

    count = len(index)
    columns = Findings(
        np.zeros(count, np.uint8), np.zeros(count, np.float32), np.zeros(count, bool), np.zeros(count, np.uint64)
    )
    with _open_state(file) as log:
        for i, (found, line) in enumerate(_in_order(index, look, workers or os.cpu_count() or 1)):
            if line:
                log.write(line)
            columns.status[i], columns.seconds[i], columns.silent[i], columns.content[i] = found
            on_clip()
    return columns


def _open_state(file: Path) -> TextIO:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("a", encoding="utf-8", buffering=1)  # a line is written as a whole, at once
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; give a folder that can be written (--out DIR)") from None


def _stat(path: str) -> tuple[int, int] | None:
    """(bytes, time stamp), or None where there is nothing (any more)."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:  # reading it will tell what the matter is
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _in_order(
    index: ClipIndex, look: Callable[[Clip], tuple[Finding, str]], workers: int
) -> Iterator[tuple[Finding, str]]:
    """`look` at every clip on threads; a few clips per thread are under way or waiting, never the whole index."""

    def look_at(clips: list[Clip]) -> list[tuple[Finding, str]]:
        return [look(clip) for clip in clips]

    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[list[tuple[Finding, str]]]] = deque()
        for first in range(0, len(index), _BLOCK):
            clips = [index.clip(i) for i in range(first, min(first + _BLOCK, len(index)))]
            pending.append(pool.submit(look_at, clips))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


# --- counting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitCounts:
    """Of one split; the module's docstring says what each count means.

    Args:
        unreadable_by_reason: the parts of `unreadable`.
        duplicate_across_splits: the part of `duplicate` whose earlier copy lies in another split: a leak.
        hours: of usable audio.
        labels: head -> labels over all listed clips.
        listed_ids_sha256, usable_ids_sha256: identity of these sets of clips (`ClipIndex.ids_sha256`).
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
    hours: float
    labels: Mapping[str, int]
    listed_ids_sha256: str
    usable_ids_sha256: str


@dataclass(frozen=True)
class ClassCounts:
    """Clips of one class in one split."""

    split: str
    head: str
    name: str
    listed: int
    present: int
    usable: int


@dataclass(frozen=True)
class PaperCount:
    """The paper's count of one of its sets beside ours; ours is None where one of its splits is not listed here."""

    name: str
    splits: tuple[str, ...]
    listed: int | None
    usable: int | None
    paper_listed: int | None
    paper_kept: int


@dataclass(frozen=True)
class AuditReport:
    """What an audit found. `notes`: what the reader had to say of the lists and the tree, a line each."""

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


def summarise(index: ClipIndex, findings: Findings) -> AuditReport:
    """Count `findings` per split and class."""
    marker = standin_marker(index.root)
    on_disk = ~findings.has_status("missing")
    usable = findings.has_status(USABLE)
    original = duplicates(findings)
    short = usable & (findings.seconds <= _expected_seconds(index) - SHORT_TOLERANCE_S)
    splits = {}
    classes: list[ClassCounts] = []
    for split in index.listed:
        here = index.splits == split
        splits[split] = _count_split(index, findings, split, here, on_disk, usable, short, original)
        classes += _count_classes(index, split, here & on_disk, here & usable)
    return AuditReport(
        dataset=index.dataset,
        title=str(marker["title"]) if marker else dataset_spec(index.dataset).title,
        variant=index.variant,
        root=str(index.root),
        standin=marker is not None,
        listed_again=sum(problem.reason == "duplicate" for problem in index.problems),
        splits=splits,
        paper=_beside_paper(index, splits),
        classes=tuple(classes),
        notes=tuple(problem.message for problem in index.problems if not problem.clip_id),
    )


def duplicates(findings: Findings) -> np.ndarray:
    """(n,) int64: the first clip in the index that decodes to the same, or -1 for a clip that is the first itself."""
    original = np.full(len(findings.status), -1, np.int64)
    sounding = np.flatnonzero(findings.has_status(USABLE) & ~findings.silent)
    order = sounding[np.argsort(findings.content[sounding], kind="stable")]
    content = findings.content[order]
    begins = np.concatenate([[True], content[1:] != content[:-1]])[: len(order)]
    first = order[begins][np.cumsum(begins) - 1]
    original[order[~begins]] = first[~begins]
    return original


def _expected_seconds(index: ClipIndex) -> np.ndarray:
    """(n,) float64, NaN where no length is expected."""
    usual = np.nan if index.dataset in WITHOUT_USUAL_LENGTH else dataset_spec(index.dataset).clip_seconds
    listed = index.stop - np.nan_to_num(index.start)
    return np.where(np.isnan(listed), usual, listed)


def _count_split(
    index: ClipIndex,
    findings: Findings,
    split: str,
    here: np.ndarray,
    on_disk: np.ndarray,
    usable: np.ndarray,
    short: np.ndarray,
    original: np.ndarray,
) -> SplitCounts:
    reasons = Counter({STATUSES[i]: int(n) for i, n in enumerate(np.bincount(findings.status[here])) if i and n})
    others = {reason: n for reason, n in reasons.items() if reason not in (*OWN_COLUMN, "missing")}
    copies = np.flatnonzero(here & (original >= 0))
    absent = index.missing_ids[index.missing_splits == split]
    listed_ids = replace(index, clip_ids=Strings.concatenate([index.clip_ids[here], absent]))
    return SplitCounts(
        listed=index.listed[split],
        present=int((here & on_disk).sum()),
        missing=index.listed[split] - int((here & on_disk).sum()),
        usable=int((here & usable).sum()),
        zero_byte=reasons["zero-byte"],
        no_audio_track=reasons["no audio track"],
        truncated=reasons["truncated"],
        unreadable=sum(others.values()),
        short=int((here & short).sum()),
        silent=int((here & usable & findings.silent).sum()),
        duplicate=len(copies),
        duplicate_across_splits=int((index.splits[copies] != index.splits[original[copies]]).sum()),
        unreadable_by_reason=others,
        hours=float(findings.seconds[here & usable].sum(dtype=np.float64)) / 3600,
        labels={head: int(counts.sum()) for (owner, head), counts in index.listed_per_class.items() if owner == split},
        listed_ids_sha256=listed_ids.ids_sha256(),
        usable_ids_sha256=index.take(np.flatnonzero(here & usable)).ids_sha256(),
    )


def _count_classes(index: ClipIndex, split: str, present: np.ndarray, usable: np.ndarray) -> Iterator[ClassCounts]:
    for head, names in index.classes.items():
        listed = index.listed_per_class[split, head]
        per_class = [
            np.bincount(index.labels[head].take(np.flatnonzero(mask)).values, minlength=len(names))
            for mask in (present, usable)
        ]
        for name, *counts in zip(names, listed, *per_class, strict=True):
            yield ClassCounts(split, head, name, *map(int, counts))


# --- the paper's counts ----------------------------------------------------------------------------------------------

# What the paper calls the set, its splits (alternatives, the first that is listed), its facts: kept and listed.
_PaperSet = tuple[str, tuple[tuple[str, ...], ...], str, str | None]


_PAPER_SETS: Mapping[str, tuple[_PaperSet, ...]] = {
    "kinetics_sounds": (
        ("train", (("train",),), "clips_kinetics_sounds_train", None),
        ("test", (("val",),), "clips_kinetics_sounds_test", None),
    ),
    "vggsound": (
        ("train", (("train",),), "clips_vggsound_train", None),
        ("test", (("test",),), "clips_vggsound_test", None),
    ),
    "audioset": (
        ("balanced train", (("balanced_train",),), "clips_audioset_balanced", "clips_listed_audioset_balanced"),
        # Table 5's "full" is taken to be balanced and unbalanced together (RECIPES.md section 5).
        ("full train", (("balanced_train", "unbalanced_train"), ("whole_train",)), "clips_audioset_full", None),
        ("test", (("eval",),), "clips_audioset_test", "clips_listed_audioset_test"),
    ),
}


def _beside_paper(index: ClipIndex, splits: Mapping[str, SplitCounts]) -> tuple[PaperCount, ...]:
    if index.variant != PAPER_PROTOCOL.get(index.dataset, index.variant):
        return ()
    return tuple(_paper_count(entry, splits) for entry in _PAPER_SETS.get(index.dataset, ()))


def _paper_count(entry: _PaperSet, splits: Mapping[str, SplitCounts]) -> PaperCount:
    name, alternatives, kept, listed = entry
    found = next((names for names in alternatives if all(split in splits for split in names)), None)
    parts = [splits[split] for split in found or ()]
    return PaperCount(
        name=name,
        splits=found or alternatives[0],
        listed=sum(part.listed for part in parts) if found else None,
        usable=sum(part.usable for part in parts) if found else None,
        paper_listed=_paper_number(listed) if listed else None,
        paper_kept=_paper_number(kept),
    )


def _paper_number(key: str) -> int:
    return int(load_paper().fact(key).value)


# --- the clips by name -----------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """A clip and what is the matter with it. `same_as`: the earlier clip that a duplicate repeats."""

    split: str
    clip_id: str
    fault: str
    path: str
    same_as: str


def iter_faults(index: ClipIndex, findings: Findings) -> Iterator[Fault]:
    """Every fault and warning of every clip, the missing ones first. Paths are relative to the index's root."""
    for split, clip_id in zip(index.missing_splits, index.missing_ids, strict=True):
        yield Fault(str(split), str(clip_id), "missing", "", "")
    for problem in index.problems:
        if problem.reason == "duplicate":
            yield Fault("", problem.clip_id, "listed again", "", "")
    original = duplicates(findings)
    usable = findings.has_status(USABLE)
    short = usable & (findings.seconds <= _expected_seconds(index) - SHORT_TOLERANCE_S)
    for i in np.flatnonzero(~usable | short | findings.silent | (original >= 0)):
        about = (str(index.splits[i]), str(index.clip_ids[i]))
        path = str(index.paths[i])
        if not usable[i]:
            yield Fault(*about, STATUSES[findings.status[i]], path, "")
        if short[i]:
            yield Fault(*about, "short", path, "")
        if findings.silent[i]:
            yield Fault(*about, "silent", path, "")
        if original[i] >= 0:
            yield Fault(*about, "duplicate", path, str(index.clip_ids[original[i]]))
