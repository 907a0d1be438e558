"""Clips out of the shards of `data.shard_writer`: the `WaveformStore` that their files would have given.

Every shard is checked against its SHA-256 once, before the first clip is taken from it; on the way the place of every
clip is noted. From then on a clip is one seek and one read, so that an epoch takes the clips of shards in the same
order, with the same partners and on the same processes as it would take them from files.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from reproduce.audio.errors import AudioError
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import remove_mean
from reproduce.data.shard_codec import decode_waveform
from reproduce.data.shard_index import Shard, ShardIndex, read_shard_index
from reproduce.data.shard_writer import shard_damage
from reproduce.data.waveform_store import DecodedWaveforms, WaveformStore, check_memory
from reproduce.datasets.index import ClipIndex, Labels
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError


@dataclass(frozen=True)
class ShardWaveforms:
    """Clips where they lie in their tars; see `Waveforms`.

    Args:
        folder: of the shards.
        files: (n,) shard of each clip.
        offsets, sizes: (n,) int64, where its encoded audio lies in that file, in bytes.
        scales: (n,) float64, see `reproduce.data.shard_writer`.
    """

    folder: Path
    files: Strings
    offsets: np.ndarray
    sizes: np.ndarray
    scales: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int, /) -> np.ndarray:
        path = self.folder / str(self.files[position])
        try:
            with open(path, "rb") as file:
                file.seek(int(self.offsets[position]))
                audio = file.read(int(self.sizes[position]))
            return remove_mean(decode_waveform(audio, float(self.scales[position])))
        except soundfile.LibsndfileError as error:
            raise AudioError(path, "unreadable", f"clip {position}: {error}; run `data shard` again") from None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; copy the shard again") from None

    def take(self, positions: np.ndarray) -> ShardWaveforms:
        numbers = (self.offsets, self.sizes, self.scales)
        return ShardWaveforms(self.folder, self.files[positions], *(column[positions] for column in numbers))


@dataclass(frozen=True)
class _Member:
    """One clip of a shard: its row in the index that was sharded, its description, and where its audio lies."""

    row: int
    description: dict[str, Any]
    offset: int
    size: int


def open_shards(folder: str | Path, spec: AudioSpec, on_clip: Callable[[], object] = lambda: None) -> WaveformStore:
    """The clips of a folder of shards, in the order of the files' own index; waveforms are read when asked for.

    Args:
        on_clip: called for every clip whose shard was verified, for a progress bar.

    Raises:
        InputError: an unfinished folder, a shard that is missing or damaged, or a front end of another sample rate.
    """
    folder = Path(folder)
    about = read_shard_index(folder)
    if spec.sample_rate != about.sample_rate:
        raise InputError(
            f"{folder}: shards hold {about.sample_rate} Hz, the front end takes {spec.sample_rate} Hz; "
            "read the files instead"
        )
    members: list[_Member] = []
    files: list[str] = []
    # Hashing and reading release the GIL, so shards are verified side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for shard, found in zip(
            about.shards, pool.map(lambda s: _verified(folder, s, about), about.shards), strict=True
        ):
            members += found
            files += [shard.file] * len(found)
            for _ in found:
                on_clip()
    order = np.argsort([member.row for member in members], kind="stable")
    waveforms = ShardWaveforms(
        folder,
        Strings.of(files),
        np.array([member.offset for member in members], np.int64),
        np.array([member.size for member in members], np.int64),
        np.array([member.description["scale"] for member in members], np.float64),
    ).take(order)
    index = _clip_index(folder, about, [members[i].description for i in order], waveforms.files)
    return WaveformStore(index, spec, waveforms, about.problems, about.standin)


def in_memory(store: WaveformStore, on_clip: Callable[[], object] = lambda: None, whole: bool = False) -> WaveformStore:
    """The same with every waveform decoded once; longer clips are cut to `spec.samples` unless `whole`.

    Raises:
        InputError: a clip that cannot be decoded, or too little memory.
    """
    check_memory(len(store), store.spec)
    waveforms = []
    for position in range(len(store)):
        waveform = store.waveforms[position]
        waveforms.append(waveform if whole else waveform[: store.spec.samples].copy())
        on_clip()
    return replace(store, waveforms=DecodedWaveforms(waveforms))


def _verified(folder: Path, shard: Shard, about: ShardIndex) -> list[_Member]:
    damage = shard_damage(folder, shard)
    if damage is not None:
        raise InputError(
            f"{folder / shard.file}: {damage}; copy it again, or run the same `data shard`, which mends it"
        )
    return list(_members(folder / shard.file, about.codec))


def _members(path: Path, codec: str) -> Iterator[_Member]:
    description: dict[str, Any] | None = None
    audio: tuple[int, int] | None = None
    with tarfile.open(path, "r:") as tar:
        for member in tar:  # a clip's two members follow each other, in either order
            key, _, suffix = member.name.partition(".")
            if suffix == codec:
                audio = (member.offset_data, member.size)
            else:
                stream = tar.extractfile(member)
                assert stream is not None, f"{path}: {member.name} is no file"  # the checksum vouches for it
                description = json.loads(stream.read())
            if description is not None and audio is not None:
                yield _Member(int(key), description, *audio)
                description = audio = None


def _clip_index(folder: Path, about: ShardIndex, clips: list[dict[str, Any]], files: Strings) -> ClipIndex:
    missing = [(clip_id, split) for split, ids in about.missing.items() for clip_id in ids]
    return ClipIndex(
        dataset=about.dataset,
        classes=about.classes,
        multilabel=about.multilabel,
        root=folder,
        clip_ids=Strings.of(clip["clip_id"] for clip in clips),
        paths=files,
        splits=Strings.of(clip["split"] for clip in clips),
        # Part of the clips' identity, as with files. Nothing is decoded by them: each stretch was cut on writing.
        start=np.array([clip["start"] for clip in clips], np.float64),  # None becomes NaN
        stop=np.array([clip["stop"] for clip in clips], np.float64),
        labels={head: Labels.from_rows(clip["labels"][head] for clip in clips) for head in about.classes},
        problems=about.problems,
        listed=about.listed,
        variant=about.variant,
        missing_ids=Strings.of(clip_id for clip_id, _ in missing),
        missing_splits=Strings.of(split for _, split in missing),
    )
