"""A corpus as WebDataset tar shards: few large files, read in sequence, where two million small ones would crawl.

A shard is a plain tar. Each clip is two members under one key, its row in the `ClipIndex` it came from:
`000000042.flac` (or `.ogg`), the waveform at 16 kHz, mono, and `000000042.json`, its id, labels and split.
`index.json` describes the corpus and holds every shard's count and SHA-256. Clips are dealt to shards by a hash of
their id, so that one shard is a fair sample of its split. `reproduce.shard_reader` reads them back.

What 16 bits cost: a 16-bit, 16 kHz, mono recording nothing; a resampled, mixed-down or float one half a step (2**-16)
a sample, a whole one at full scale. In ESC-10 (44.1 kHz) log-mels then move by 0.01 on average: cells above -4 by less
than 0.05, above -8 by less than 0.25, those near the floor of -15.9 by up to 4. The mean is removed on reading, as with
files. A waveform that exceeds full scale, as float files and decoded mp3 may, is divided by the power of two in its
`scale`, which the reader multiplies by again. Vorbis (`ogg`) is lossy.

The same clips always give the same bytes, so a run that was killed goes on: finished shards are verified and kept,
unless a clip that one had to do without has been mended since.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.audio.waveforms import is_silent, load_mono
from reproduce.data.shard_codec import CODECS, SAMPLE_RATE, encode_waveform
from reproduce.data.shard_index import (
    FORMAT,
    INDEX_NAME,
    JOURNAL_NAME,
    VERSION,
    Shard,
    ShardIndex,
    read_shard_index,
    write_shard_index,
)
from reproduce.datasets.index import ClipIndex, Problem
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError

CLIPS_PER_SHARD = 1000  # ten-second clips: some 150 MiB as flac
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Encoded:
    """A clip ready for its tar, or the problem that keeps it out; `problem` may also be a mere warning."""

    key: str
    members: Mapping[str, bytes] | None
    seconds: float = 0.0
    problem: Problem | None = None


def _encode_clip(index: ClipIndex, position: int, codec: str) -> _Encoded:
    clip, key = index.clip(position), f"{position:09d}"
    try:
        waveform = load_mono(clip.path, SAMPLE_RATE, clip.start, clip.stop)
    except AudioError as error:
        problem = Problem(clip.clip_id, error.reason, str(error))
        return _Encoded(key, None, problem=_without_root(problem, index.root))
    silent = None
    if is_silent(waveform):
        message = f"{clip.path}: silent; used as it is, check the recording"
        silent = _without_root(Problem(clip.clip_id, "silent", message, fatal=False), index.root)
    audio, scale = encode_waveform(waveform, codec)
    description = {
        "clip_id": clip.clip_id,
        "labels": clip.labels,
        "split": clip.split,
        "start": clip.start,
        "stop": clip.stop,
        "samples": len(waveform),
        "scale": scale,
    }
    text = json.dumps(description, sort_keys=True, ensure_ascii=False)
    return _Encoded(key, {codec: audio, "json": text.encode()}, len(waveform) / SAMPLE_RATE, silent)


def _without_root(problem: Problem, root: Path) -> Problem:
    """Shards travel: a message names a file as the corpus does, not where it lay on the machine that wrote them."""
    if root == Path("."):
        return problem
    return replace(problem, message=problem.message.replace(f"{root}/", "").replace(str(root), root.name))


# --- the whole corpus ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PlannedShard:
    file: str
    split: str
    positions: np.ndarray


def plan_shards(index: ClipIndex, clips_per_shard: int) -> list[_PlannedShard]:
    """Which clips go into which shard: split by split, in the order of the SHA-256 of their ids."""
    planned = []
    for split in index.split_names():
        positions = index.positions_of(split)
        digests = [hashlib.sha256(str(index.clip_ids[i]).encode()).digest()[:8] for i in positions]
        positions = positions[np.argsort(np.array(digests, "S8").view(">u8"), kind="stable")]
        for number, first in enumerate(range(0, len(positions), clips_per_shard)):
            # A split may be called anything; what is no plain character is percent-encoded.
            file = f"{index.dataset}-{quote(split, safe='')}-{number:06d}.tar"
            planned.append(_PlannedShard(file, split, positions[first : first + clips_per_shard]))
    return planned


def _plan_sha256(index: ClipIndex, clips_per_shard: int, codec: str) -> str:
    """Over all that shapes the shards' bytes, save the recordings themselves."""
    settings: list[Any] = [FORMAT, VERSION, index.dataset, index.variant, SAMPLE_RATE, codec, clips_per_shard]
    settings.append(standin_marker(index.root))  # its seed decides what the same ids sound like
    digest = hashlib.sha256(json.dumps([settings, {h: list(c) for h, c in index.classes.items()}]).encode())
    for column in (index.clip_ids, index.splits):
        for first in range(0, len(column), 1 << 16):
            digest.update(json.dumps(column[first : first + (1 << 16)].tolist()).encode())
    numbers = [index.start, index.stop]
    for _, rows in sorted(index.labels.items()):
        numbers += [rows.offsets, rows.values]
    for array in numbers:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_shards(
    index: ClipIndex,
    out: Path,
    clips_per_shard: int = CLIPS_PER_SHARD,
    codec: str = "flac",
    workers: int | None = None,
    on_clips: Callable[[int], object] = lambda clips: None,
) -> ShardIndex:
    """Write the clips of `index` under `out` and return what its index.json says.

    Shards that an earlier, unfinished run left are verified and kept; so is a finished folder, where only what is
    missing, damaged or was short of a clip that has been mended is written again. A clip that cannot be decoded is left
    out and reported in `problems`.

    Args:
        codec: one of CODECS.
        workers: decoding threads, by default one a core.
        on_clips: called with a number of clips done, for a progress bar.

    Raises:
        InputError: `out` holds other shards or cannot be written, another run is at work on it, an option is out of
            range, or webdataset is not installed.
    """
    if codec not in CODECS:
        raise InputError(f"--codec {codec}: choose one of {', '.join(CODECS)}")
    if clips_per_shard < 1:
        raise InputError(f"--clips-per-shard {clips_per_shard}: give at least 1")
    if not len(index):
        raise InputError(f"{index.root}: no clip found, so nothing to shard; `data audit` says what is missing")
    out, plan = Path(out), _plan_sha256(index, clips_per_shard, codec)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _journal(out, plan) as (file, finished):
            for planned in plan_shards(index, clips_per_shard):
                done = finished.get(planned.file)
                if done is not None and shard_damage(out, done) is None and not _is_mended(done, planned, index):
                    on_clips(len(planned.positions))
                    continue
                finished[planned.file] = _write_shard(planned, index, out, codec, workers, on_clips)
                _append(file, asdict(finished[planned.file]))
            result = _describe(index, clips_per_shard, codec, plan, finished)
            write_shard_index(out / INDEX_NAME, result)
            (out / JOURNAL_NAME).unlink()
    except OSError as error:
        raise InputError(f"{error.filename or out}: {error.strerror or error}; mend it and run again") from error
    return result


def _write_shard(
    planned: _PlannedShard,
    index: ClipIndex,
    out: Path,
    codec: str,
    workers: int | None,
    on_clips: Callable[[int], object],
) -> Shard:
    """One shard, whole under its own name or not there at all."""
    try:
        from webdataset import TarWriter
    except ImportError:
        raise InputError('writing shards needs webdataset; run `pip install -e ".[shards]"`') from None
    temporary, clips, seconds = out / f".{planned.file}.tmp", 0, 0.0
    problems: list[Problem] = []
    with open(temporary, "wb") as raw:
        file = _HashingFile(raw)
        with TarWriter(file, user="", group="", mtime=0, encoder=False) as tar:
            for encoded in _encode_all(index, planned.positions, codec, workers or os.cpu_count() or 1):
                on_clips(1)
                if encoded.problem is not None:
                    problems.append(encoded.problem)
                if encoded.members is not None:
                    tar.write({"__key__": encoded.key, **encoded.members})
                    clips, seconds = clips + 1, seconds + encoded.seconds
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(temporary, out / planned.file)
    digest = file.digest.hexdigest()
    return Shard(planned.file, planned.split, clips, round(seconds, 3), file.bytes, digest, tuple(problems))


def _encode_all(index: ClipIndex, positions: np.ndarray, codec: str, workers: int) -> Iterator[_Encoded]:
    """Encoded clips in order, on threads: decoding, resampling and encoding release the GIL. Few are held at once."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[_Encoded]] = deque()
        for position in positions:
            pending.append(pool.submit(_encode_clip, index, int(position), codec))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _is_mended(done: Shard, planned: _PlannedShard, index: ClipIndex) -> bool:
    """Whether a clip that a finished shard reports a problem of would be reported otherwise, or not at all, now."""
    known = {problem.clip_id: problem for problem in done.problems}
    if not known:
        return False
    suspects = [int(i) for i in planned.positions if str(index.clip_ids[i]) in known]
    return any(_encode_clip(index, i, "flac").problem != known[str(index.clip_ids[i])] for i in suspects)


class _HashingFile:
    """A file to write to that keeps the SHA-256 and the count of what went by."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.digest, self.bytes = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self.raw.write(data)


def shard_damage(folder: Path, shard: Shard) -> str | None:
    """What is wrong with a shard on disk, or None."""
    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{size} bytes where {INDEX_NAME} says {shard.bytes}"
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest.hexdigest() == shard.sha256 else f"checksum differs from {INDEX_NAME}"


# --- the journal and the index ---------------------------------------------------------------------------------------


@contextmanager
def _journal(out: Path, plan: str) -> Iterator[tuple[IO[bytes], dict[str, Shard]]]:
    """The journal, locked and ready for appending, and the shards that are finished by it or by index.json.

    Its first line names the plan; each further line is one finished shard. A line that a kill cut off is dropped.
    """
    with open(out / JOURNAL_NAME, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another run is writing shards here; wait for it or choose another OUT") from None
        file.seek(0)
        lines = file.readall().split(b"\n")[:-1]  # what follows the last line end was cut off
        file.truncate(sum(len(line) + 1 for line in lines))
        finished: dict[str, Shard] = {}
        if (out / INDEX_NAME).exists():
            earlier = read_shard_index(out)
            _check_plan(out, earlier.plan_sha256, plan)
            finished = {shard.file: shard for shard in earlier.shards}
        if lines:
            try:
                found, *shards = map(json.loads, lines)
                finished |= {shard["file"]: Shard.from_dict(shard) for shard in shards}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{out / JOURNAL_NAME}: damaged ({error}); delete it and run again") from None
            _check_plan(out, found["plan"], plan)
        else:
            _append(file, {"plan": plan})
        yield file, finished


def _check_plan(out: Path, found: str, plan: str) -> None:
    if found != plan:
        raise InputError(
            f"{out}: holds shards of other clips, labels or settings; choose another OUT or delete this folder"
        )


def _append(file: IO[bytes], value: Any) -> None:
    file.write(json.dumps(value).encode() + b"\n")
    os.fsync(file.fileno())


def _describe(
    index: ClipIndex, clips_per_shard: int, codec: str, plan: str, finished: Mapping[str, Shard]
) -> ShardIndex:
    planned = plan_shards(index, clips_per_shard)
    unusable = {p.clip_id for shard in finished.values() for p in shard.problems if p.fatal}
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
        codec=codec,
        clips_per_shard=clips_per_shard,
        plan_sha256=plan,
        listed=index.listed,
        missing=missing,
        ids_sha256=ids_sha256,
        shards=tuple(finished[shard.file] for shard in planned),
        reading_problems=tuple(_without_root(problem, index.root) for problem in index.problems),
        standin=standin_marker(index.root),
    )
