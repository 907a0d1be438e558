"""Clips out of the shards that `reproduce.shards` wrote, verified, each once, however many processes share the work.

`ShardReader.clips` streams them; `load_shards` puts a corpus that fits into memory into the `WaveformStore` that its
files would have given, in the same order, so that training has the same epochs. A shard is checked against its SHA-256
before the first clip is taken from it.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch.utils.data import IterableDataset, get_worker_info

from reproduce.audio import fit, remove_mean
from reproduce.audio_spec import AudioSpec
from reproduce.datasets.base import STRING, ClipIndex, Labels
from reproduce.errors import InputError
from reproduce.loading import WaveformStore, check_memory
from reproduce.shards import Shard, ShardIndex, decode_waveform, read_shard_index, shard_damage

SHUFFLED_CLIPS = 1000  # encoded clips that a shuffling reader holds: some 150 MiB of ten-second clips as flac


@dataclass(frozen=True)
class ShardClip:
    """One clip: (samples,) float32 with its mean removed, and (classes,) multi-hot float32 targets per head.

    `position` is its row in the `ClipIndex` that was sharded; `start` and `stop`, in seconds, say which stretch of its
    recording it was, None for all of it. The waveform is that stretch.
    """

    clip_id: str
    position: int
    shard: str
    split: str
    start: float | None
    stop: float | None
    waveform: np.ndarray
    labels: dict[str, tuple[int, ...]]
    targets: dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """One of the processes that share an epoch: worker `worker` of `workers` on node `rank` of `world_size`."""

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.world_size and 0 <= self.worker < self.workers):
            raise ValueError(f"need 0 <= rank < world_size and 0 <= worker < workers, not {self}")

    def of(self, total: int) -> range:
        """Its stretch of `total` clips: all parts together cover each clip once, and differ by one clip at most."""
        slot, slots = self.rank * self.workers + self.worker, self.world_size * self.workers
        return range(total * slot // slots, total * (slot + 1) // slots)


class ShardReader:
    """Streams the clips of some splits (all by default) of a folder of shards.

    Raises:
        InputError: no finished index there, or no such split.
    """

    def __init__(self, folder: str | Path, *splits: str) -> None:
        self.folder = Path(folder)
        self.index: ShardIndex = read_shard_index(self.folder)
        unknown = sorted(set(splits) - set(self.index.splits()))
        if unknown:
            raise InputError(f"{self.folder}: no split {', '.join(unknown)}; it has {', '.join(self.index.splits())}")
        self.shards = tuple(shard for shard in self.index.shards if not splits or shard.split in splits)
        self._verified: set[str] = set()

    def __len__(self) -> int:
        return sum(shard.clips for shard in self.shards)

    def clips(self, part: Part = Part(), shuffle: tuple[int, int] | None = None) -> Iterator[ShardClip]:
        """The clips of one epoch that fall to `part`.

        The epoch is cut between clips, not between shards: no clip is dropped or given twice where there are fewer
        shards than workers or the counts do not divide. Parts that share a shard each skip through it.

        Args:
            shuffle: (seed, epoch), the same for all parts: the order of the shards, then of the clips within a
                window of SHUFFLED_CLIPS. None keeps the order of the shards.

        Raises:
            InputError: a shard is missing or damaged.
        """
        raw = self._members(part, shuffle)
        if shuffle is not None:
            raw = _shuffled(raw, np.random.default_rng((*shuffle, part.rank, part.worker)))
        for shard, key, description, audio in raw:
            yield self._decode(shard, key, description, audio)

    def _members(self, part: Part, shuffle: tuple[int, int] | None) -> Iterator[tuple[Shard, str, bytes, bytes]]:
        order = np.arange(len(self.shards))
        if shuffle is not None:
            order = np.random.default_rng(shuffle).permutation(order)
        own, first = part.of(len(self)), 0
        for shard in (self.shards[i] for i in order):
            wanted = range(max(own.start - first, 0), min(own.stop - first, shard.clips))
            first += shard.clips
            if wanted:
                self._verify(shard)
                for key, description, audio in _read_tar(self.folder / shard.file, self.index.codec, wanted):
                    yield shard, key, description, audio

    def _verify(self, shard: Shard) -> None:
        """Once for each reader: an epoch later the file is taken to be what it was."""
        if shard.file in self._verified:
            return
        damage = shard_damage(self.folder, shard)
        if damage is not None:
            raise InputError(
                f"{self.folder / shard.file}: {damage}; copy it again, or run the same `data shard`, which mends it"
            )
        self._verified.add(shard.file)

    def _decode(self, shard: Shard, key: str, description: bytes, audio: bytes) -> ShardClip:
        values: dict[str, Any] = json.loads(description)
        try:
            waveform = decode_waveform(audio, values["scale"])
        except soundfile.LibsndfileError as error:
            raise InputError(f"{self.folder / shard.file}: clip {key}: {error}; run `data shard` again") from None
        labels = {head: tuple(row) for head, row in values["labels"].items()}
        targets = {head: np.zeros(len(names), np.float32) for head, names in self.index.classes.items()}
        for head, row in labels.items():
            targets[head][list(row)] = 1.0
        return ShardClip(
            clip_id=values["clip_id"],
            position=int(key),
            shard=shard.file,
            split=values["split"],
            start=values["start"],
            stop=values["stop"],
            waveform=remove_mean(waveform),
            labels=labels,
            targets=targets,
        )


def _read_tar(path: Path, codec: str, wanted: range) -> Iterator[tuple[str, bytes, bytes]]:
    """Key, description and audio of the clips number `wanted` of a shard; the others are sought past, not read."""
    found: dict[str, bytes] = {}
    clip = 0
    with tarfile.open(path, "r:") as tar:
        for member in tar:  # a clip's two members follow each other
            key, _, suffix = member.name.partition(".")
            if clip in wanted:
                stream = tar.extractfile(member)
                assert stream is not None, f"{path}: {member.name} is no file"  # the checksum vouches for it
                found[suffix] = stream.read()
            else:
                found[suffix] = b""
            if len(found) == 2:
                if clip in wanted:
                    yield key, found["json"], found[codec]
                found, clip = {}, clip + 1
            if clip == wanted.stop:
                return


def _shuffled(items: Iterable[Any], rng: np.random.Generator) -> Iterator[Any]:
    """In an order that is random within a sliding window; every item once."""
    window: list[Any] = []
    for item in items:
        window.append(item)
        if len(window) == SHUFFLED_CLIPS:
            yield _pop(window, rng)
    while window:
        yield _pop(window, rng)


def _pop(window: list[Any], rng: np.random.Generator) -> Any:
    i = int(rng.integers(len(window)))
    window[i], window[-1] = window[-1], window[i]
    return window.pop()


class ShardDataset(IterableDataset[ShardClip]):
    """One epoch for a `torch.utils.data.DataLoader`, whose workers share it. Make a new one for each epoch."""

    def __init__(
        self, reader: ShardReader, rank: int = 0, world_size: int = 1, shuffle: tuple[int, int] | None = None
    ) -> None:
        self.reader, self.rank, self.world_size, self.shuffle = reader, rank, world_size, shuffle

    def __iter__(self) -> Iterator[ShardClip]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return self.reader.clips(Part(self.rank, self.world_size, worker, workers), self.shuffle)


def load_shards(folder: str | Path, spec: AudioSpec, on_clip: Callable[[], object] = lambda: None) -> WaveformStore:
    """All clips in memory, in the order of the files' own index: what `load_waveforms` gives, without the files.

    Raises:
        InputError: a damaged folder, a front end of another sample rate, or too little memory.
    """
    reader = ShardReader(folder)
    if spec.sample_rate != reader.index.sample_rate:
        raise InputError(
            f"{folder}: shards hold {reader.index.sample_rate} Hz, the front end takes {spec.sample_rate} Hz; "
            "read the files instead"
        )
    check_memory(len(reader), spec)
    clips, waveforms = [], []
    for clip in reader.clips():
        on_clip()
        waveforms.append(fit(clip.waveform, spec))
        clips.append(replace(clip, waveform=np.empty(0, np.float32), targets={}))
    order = np.argsort([clip.position for clip in clips])
    index = _clip_index(reader, [clips[i] for i in order])
    ordered = tuple(waveforms[i] for i in order)
    return WaveformStore(index, spec, ordered, reader.index.problems, reader.index.standin)


def _clip_index(reader: ShardReader, clips: list[ShardClip]) -> ClipIndex:
    about = reader.index
    missing = [(clip_id, split) for split, ids in about.missing.items() for clip_id in ids]
    return ClipIndex(
        dataset=about.dataset,
        classes=about.classes,
        multilabel=about.multilabel,
        root=reader.folder,
        clip_ids=np.array([clip.clip_id for clip in clips], STRING),
        paths=np.array([clip.shard for clip in clips], STRING),
        splits=np.array([clip.split for clip in clips], STRING),
        # Part of the clips' identity, as with files. Nothing is decoded by them: each stretch was cut on writing.
        start=np.array([clip.start for clip in clips], np.float64),  # None becomes NaN
        stop=np.array([clip.stop for clip in clips], np.float64),
        labels={head: Labels.from_rows(clip.labels[head] for clip in clips) for head in about.classes},
        problems=about.problems,
        listed=about.listed,
        protocol=about.protocol,
        missing_ids=np.array([clip_id for clip_id, _ in missing], STRING),
        missing_splits=np.array([split for _, split in missing], STRING),
    )
