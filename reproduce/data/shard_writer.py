"""A corpus as WebDataset tar shards: few large files, read in sequence, instead of millions of small ones.

A shard is a plain tar. Each clip is two members under one key, its row in the `ClipIndex` that was sharded:
`000000042.flac`, the waveform at 16 kHz, mono, and `000000042.json`, its description. `index.json` describes the corpus
and holds the count and SHA-256 of every shard. `reproduce.data.shard_reader` reads them back.

The cost of 16 bits: none for a 16-bit, 16 kHz, mono recording; half a step (2**-16) per sample for a resampled,
mixed-down or float one, a whole step at full scale. The log-mels of ESC-10 (44.1 kHz) then move by 0.01 on average:
cells above -4 by less than 0.05, above -8 by less than 0.25, those near the floor of -15.9 by up to 4. The mean is
removed on reading, as with files. A waveform that exceeds full scale, as float files and decoded mp3 may, is divided by
a power of two, which the reader multiplies by again.

The same clips always give the same bytes, so a killed run can be resumed: finished shards are verified and kept, unless
the file of one of their clips has changed, or a clip that could not be used can be used now.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.audio.waveforms import load_clip
from reproduce.data.clip_problems import clip_warnings, unusable_clip
from reproduce.data.content import clip_digests, content_sha256
from reproduce.data.shard_codec import CODEC, SAMPLE_RATE, ClipDescription, encode_waveform
from reproduce.data.shard_index import INDEX_NAME, Shard, ShardIndex, shard_damage, write_shard_index
from reproduce.data.shard_journal import open_journal
from reproduce.data.shard_plan import PlannedShard, plan_sha256, plan_shards
from reproduce.datasets.index import ClipIndex, Problem
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError
from reproduce.files import write_whole
from reproduce.pool import ordered_map

CLIPS_PER_SHARD = 1000  # ten-second clips: about 150 MiB


def write_shards(
    index: ClipIndex,
    out: Path,
    clips_per_shard: int = CLIPS_PER_SHARD,
    workers: int | None = None,
    on_clips: Callable[[int], object] = lambda clips: None,
    cache: Path | None = None,
) -> ShardIndex:
    """Write the clips of `index` as shards into the folder `out`.

    Shards of an earlier run, finished or not, are verified and kept; only what is missing, damaged or out of date is
    written. A clip that cannot be decoded is left out and is in the `problems` of the result.

    Args:
        index: the clips.
        out: the folder; made if it is absent.
        clips_per_shard: most clips in a shard.
        workers: decoding threads, by default one per core.
        on_clips: called with a number of finished clips, for a progress bar.
        cache: of the files' digests, see `clip_digests`.

    Returns:
        The content of index.json.

    Raises:
        InputError: `out` holds other shards or cannot be written, another run is at work on it, an option is out of
            range, or webdataset is not installed.
    """
    if clips_per_shard < 1:
        raise InputError(f"--clips-per-shard {clips_per_shard}: give at least 1")
    if not len(index):
        raise InputError(f"{index.root}: no clip found, so nothing to shard; `data audit` lists what is missing")
    _check_webdataset()
    out, planned = Path(out), plan_shards(index, clips_per_shard)
    source = _Source(index, workers or os.cpu_count() or 1, cache)
    try:
        with open_journal(out, plan_sha256(index, clips_per_shard)) as journal:
            for shard in planned:
                done = journal.finished.get(shard.file)
                if done is not None and shard_damage(out, done) is None and source.is_unchanged(done, shard):
                    on_clips(len(shard.positions))
                else:
                    journal.add(_write_shard(out, shard, source, on_clips))
            result = _describe(index, clips_per_shard, [journal.finished[shard.file] for shard in planned])
            write_shard_index(out / INDEX_NAME, result)
    except OSError as error:
        raise InputError(f"{error.filename or out}: {error.strerror or error}; mend it and run again") from error
    return result


def _check_webdataset() -> None:
    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise InputError('writing shards needs webdataset; run `pip install -e ".[shards]"`') from None


# --- the clips of a shard -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _EncodedClip:
    """A clip ready for its tar (`members` by suffix), or left out of it (None), and its problem or warnings."""

    key: str
    members: Mapping[str, bytes] | None
    problems: tuple[Problem, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class _Source:
    """The corpus that is sharded, and how it is read; see `write_shards`."""

    index: ClipIndex
    workers: int
    cache: Path | None

    def digests(self, shard: PlannedShard) -> np.ndarray:
        """(clips,) digests of the files of a shard's clips."""
        return clip_digests(self.index.take(shard.positions), self.cache, self.workers)

    def content(self, shard: PlannedShard, digests: np.ndarray) -> str:
        """`content_sha256` of a shard's clips."""
        return content_sha256(self.index.take(shard.positions), digests)

    def encode(self, shard: PlannedShard, digests: np.ndarray) -> Iterator[_EncodedClip]:
        """The clips of a shard in order, decoded and encoded on threads."""

        def encode(row: int) -> _EncodedClip:
            return _encode_clip(self.index, int(shard.positions[row]), digests[row].decode())

        return ordered_map(encode, range(len(digests)), self.workers)

    def is_unchanged(self, done: Shard, shard: PlannedShard) -> bool:
        """Whether writing a finished shard again would give the same: same files, same problems."""
        if done.content and done.content != self.content(shard, self.digests(shard)):
            return False
        ids = {problem.clip_id for problem in done.problems}
        suspects = [int(i) for i in shard.positions if str(self.index.clip_ids[i]) in ids] if ids else []
        return done.problems == tuple(p for i in suspects for p in _encode_clip(self.index, i, "").problems)


def _encode_clip(index: ClipIndex, position: int, source: str) -> _EncodedClip:
    clip, key = index.clip(position), f"{position:09d}"
    try:
        waveform, warnings, _ = load_clip(clip.path, SAMPLE_RATE, clip.start, clip.stop)
    except AudioError as error:
        return _EncodedClip(key, None, (_without_root(unusable_clip(clip.clip_id, error), index.root),))
    problems = tuple(_without_root(problem, index.root) for problem in clip_warnings(clip.clip_id, warnings))
    audio, scale = encode_waveform(waveform)
    description = ClipDescription(
        clip_id=clip.clip_id,
        labels=clip.labels,
        split=clip.split,
        start=clip.start,
        stop=clip.stop,
        samples=len(waveform),
        scale=scale,
        source=source,
        group=None if index.groups is None else index.groups[position],
    )
    members = {CODEC: audio, "json": description.to_json()}
    return _EncodedClip(key, members, problems, len(waveform) / SAMPLE_RATE)


def _without_root(problem: Problem, root: Path) -> Problem:
    """Name files as the corpus does: shards are copied to machines where its root does not exist."""
    if root == Path("."):
        return problem
    return replace(problem, message=problem.message.replace(f"{root}/", "").replace(str(root), root.name))


# --- the files ------------------------------------------------------------------------------------------------------


def _write_shard(out: Path, planned: PlannedShard, source: _Source, on_clips: Callable[[int], object]) -> Shard:
    """Write one shard completely or not at all."""
    from webdataset import TarWriter

    digests = source.digests(planned)
    seconds: list[float] = []
    problems: list[Problem] = []
    hashing = _HashingFile()

    def write(file: IO[bytes]) -> None:
        hashing.raw = file
        with TarWriter(hashing, user="", group="", mtime=0, encoder=False) as tar:
            for clip in source.encode(planned, digests):
                on_clips(1)
                problems.extend(clip.problems)
                if clip.members is not None:
                    tar.write({"__key__": clip.key, **clip.members})
                    seconds.append(clip.seconds)

    write_whole(out / planned.file, write, "the shard cannot be written", "free disk space and run again")
    return Shard(
        file=planned.file,
        split=planned.split,
        clips=len(seconds),
        seconds=round(sum(seconds), 3),
        bytes=hashing.bytes,
        sha256=hashing.digest.hexdigest(),
        problems=tuple(problems),
        content=source.content(planned, digests),
    )


class _HashingFile:
    """A file to write to that keeps the SHA-256 and the number of bytes written."""

    raw: IO[bytes]

    def __init__(self) -> None:
        self.digest, self.bytes = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        self.digest.update(data)
        self.bytes += len(data)
        return self.raw.write(data)


def _describe(index: ClipIndex, clips_per_shard: int, shards: list[Shard]) -> ShardIndex:
    unusable = {problem.clip_id for shard in shards for problem in shard.problems if problem.fatal}
    ids_sha256 = {}
    for split in index.split_names():
        positions = index.positions_of(split)
        usable = [i for i in positions if str(index.clip_ids[i]) not in unusable] if unusable else positions
        ids_sha256[split] = index.take(np.asarray(usable)).ids_sha256()
    missing = {
        split: tuple(index.missing_ids[index.missing_splits == split].tolist())
        for split in index.listed
        if (index.missing_splits == split).any()
    }
    return ShardIndex(
        dataset=index.dataset,
        variant=index.variant,
        multilabel=index.multilabel,
        classes=index.classes,
        sample_rate=SAMPLE_RATE,
        clips_per_shard=clips_per_shard,
        plan_sha256=plan_sha256(index, clips_per_shard),
        listed=index.listed,
        missing=missing,
        ids_sha256=ids_sha256,
        shards=tuple(shards),
        reading_problems=tuple(_without_root(problem, index.root) for problem in index.problems),
        standin=standin_marker(index.root),
        unit=index.unit,
    )
