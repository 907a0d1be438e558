"""The clips of a folder of shards, as the `WaveformStore` that their files would give.

Every shard is checked against its SHA-256 once, when the folder is opened, and the offset of every clip is noted. From
then on a clip is one seek and one read, so epochs take the clips in the same order, with the same partners and on the
same ranks as from files.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import remove_mean
from reproduce.data.content import DIGEST_BYTES
from reproduce.data.shard_codec import CODEC, ClipDescription, decode_waveform
from reproduce.data.shard_index import Shard, ShardIndex, read_shard_index, shard_damage
from reproduce.data.waveform_store import FLOAT32_BYTES, DecodedWaveforms, WaveformStore, check_memory, trimmed
from reproduce.datasets.index import ClipIndex, Labels
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError
from reproduce.machine import available_memory_bytes
from reproduce.pool import ordered_map

MENDS = "copy it again, or run the same `data shard`, which writes it again"
MOST_DESCRIPTION_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ShardWaveforms:
    """Waveforms that are read from their shards on every access; see `Waveforms`.

    Args:
        folder: of the shards.
        files: (n,) name of each clip's shard.
        offsets: (n,) int64, first byte of its encoded audio in that file.
        sizes: (n,) int64, bytes of its encoded audio.
        samples: (n,) int64, length of its waveform.
        scales: (n,) float64, power of two that its decoded samples are multiplied by.
    """

    folder: Path
    files: Strings
    offsets: np.ndarray
    sizes: np.ndarray
    samples: np.ndarray
    scales: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int, /) -> np.ndarray:
        path = self.folder / str(self.files[position])
        try:
            with open(path, "rb") as file:
                file.seek(int(self.offsets[position]))
                audio = file.read(int(self.sizes[position]))
            return remove_mean(decode_waveform(audio, int(self.samples[position]), float(self.scales[position])))
        except ValueError as error:
            raise AudioError(path, "unreadable", f"clip {position}: {error}; run `data shard` again") from None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; copy the shard again") from None

    def take(self, positions: np.ndarray) -> ShardWaveforms:
        """The waveforms at `positions`, in that order; nothing is read."""
        columns = ("files", "offsets", "sizes", "samples", "scales")
        return replace(self, **{name: getattr(self, name)[positions] for name in columns})

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        """Bytes that all waveforms need in memory, trimmed to the first `spec.samples` or whole."""
        samples = self.samples if whole else np.minimum(self.samples, spec.samples)
        return int(samples.sum()) * FLOAT32_BYTES


@dataclass(frozen=True, kw_only=True)
class _ShardedClip:
    """One clip of a shard.

    Args:
        row: of the clip in the index that was sharded.
        file: name of the shard.
        description: of the clip.
        offset: first byte of its encoded audio.
        size: bytes of its encoded audio.
        digest: of its source file, or of its place in the shard where the shard does not hold that.
    """

    row: int
    file: str
    description: ClipDescription
    offset: int
    size: int
    digest: bytes


def open_shards(folder: str | Path, spec: AudioSpec, on_clip: Callable[[], object] = lambda: None) -> WaveformStore:
    """Open a folder of shards: its clips in the order of the index that was sharded, read on every access.

    Args:
        folder: the shards and their index.json.
        spec: front end.
        on_clip: called for every clip of a verified shard, for a progress bar.

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

    def verified(shard: Shard) -> list[_ShardedClip]:
        return _verified_clips(folder, shard, about)

    clips: list[_ShardedClip] = []
    # Hashing and reading release the GIL, so shards are verified side by side.
    for in_shard in ordered_map(verified, about.shards, os.cpu_count() or 1):
        clips += in_shard
        for _ in in_shard:
            on_clip()
    clips.sort(key=lambda clip: clip.row)
    if len({clip.row for clip in clips}) < len(clips):
        raise InputError(f"{folder}: two shards hold the same clip; run the same `data shard` again")
    waveforms = ShardWaveforms(
        folder=folder,
        files=Strings.of([clip.file for clip in clips]),
        offsets=np.array([clip.offset for clip in clips], np.int64),
        sizes=np.array([clip.size for clip in clips], np.int64),
        samples=np.array([clip.description.samples for clip in clips], np.int64),
        scales=np.array([clip.description.scale for clip in clips], np.float64),
    )
    index = _clip_index(folder, about, [clip.description for clip in clips], waveforms.files)
    for split, expected in about.ids_sha256.items():
        if index.where_split(split).ids_sha256() != expected:
            raise InputError(f"{folder}: the ids of split {split} are not those in index.json; {MENDS}")
    digests = np.array([clip.digest for clip in clips], f"S{2 * DIGEST_BYTES}")
    return WaveformStore(index, spec, waveforms, about.problems, about.standin, digests)


def in_memory(
    store: WaveformStore,
    on_clip: Callable[[], object] = lambda: None,
    whole: bool = False,
    memory_limit: int | None = None,
) -> WaveformStore:
    """The same store with every waveform decoded into memory.

    Args:
        store: of shards.
        on_clip: called after every clip, for a progress bar.
        whole: keep longer clips whole instead of their first `spec.samples`.
        memory_limit: bytes that the waveforms may take, by default the free memory.

    Raises:
        InputError: a clip that cannot be decoded, or too little memory.
    """
    limit = available_memory_bytes() if memory_limit is None else memory_limit
    check_memory(len(store), store.memory_bytes(whole), limit)
    waveforms = []
    for position in range(len(store)):
        waveforms.append(trimmed(store.waveforms[position], store.spec, whole))
        on_clip()
    return replace(store, waveforms=DecodedWaveforms(waveforms))


# --- the members of a shard -------------------------------------------------------------------------------------------


def _verified_clips(folder: Path, shard: Shard, about: ShardIndex) -> list[_ShardedClip]:
    """The clips of a shard whose checksum and members are right.

    Raises:
        InputError: the shard is missing, damaged, or holds something other than the index describes.
    """
    path = folder / shard.file
    damage = shard_damage(folder, shard)
    if damage is None:
        try:
            clips = list(_clips(path, shard))
            _check_clips(clips, shard, about)
            return clips
        # What tarfile raises for headers that are none, though the checksum is right: the shard was written damaged.
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            damage = f"damaged ({error})"
    raise InputError(f"{path}: {damage}; {MENDS}")


def _clips(path: Path, shard: Shard) -> Iterator[_ShardedClip]:
    """Every pair of members, in either order, as a clip."""
    descriptions: dict[int, ClipDescription] = {}
    audio: dict[int, tuple[int, int]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            stream = tar.extractfile(member) if member.isreg() and not member.issparse() else None
            if stream is None or not (key.isascii() and key.isdecimal()) or suffix not in (CODEC, "json"):
                raise ValueError(f"its member {member.name[:40]!r}")
            row = int(key[:12])
            if suffix == CODEC:
                audio[row] = (member.offset_data, member.size)
            else:
                descriptions[row] = ClipDescription.from_json(stream.read(MOST_DESCRIPTION_BYTES))
            if row in descriptions and row in audio:
                description, (offset, size) = descriptions.pop(row), audio.pop(row)
                yield _ShardedClip(
                    row=row,
                    file=shard.file,
                    description=description,
                    offset=offset,
                    size=size,
                    digest=description.source.encode() or _place_digest(shard, row),
                )
    if descriptions or audio:
        raise ValueError("a clip lacks one of its two members")


def _place_digest(shard: Shard, row: int) -> bytes:
    """For a clip without a digest of its source file: derived from the shard's checksum."""
    return hashlib.blake2b(f"{shard.sha256} {row}".encode(), digest_size=DIGEST_BYTES).hexdigest().encode()


def _check_clips(clips: list[_ShardedClip], shard: Shard, about: ShardIndex) -> None:
    if len(clips) != shard.clips:
        raise ValueError(f"{len(clips)} clips, index.json lists {shard.clips}")
    for clip in clips:
        labels = clip.description.labels
        fits = labels.keys() == about.classes.keys() and all(
            index < len(about.classes[head]) for head, row in labels.items() for index in row
        )
        if not fits or clip.description.split != shard.split or clip.offset + clip.size > shard.bytes:
            raise ValueError(f"clip {clip.row} has other classes, another split or more bytes than index.json lists")


def _clip_index(folder: Path, about: ShardIndex, clips: list[ClipDescription], files: Strings) -> ClipIndex:
    missing = [(clip_id, split) for split, ids in about.missing.items() for clip_id in ids]
    grouped = any(clip.group is not None for clip in clips)
    return ClipIndex(
        dataset=about.dataset,
        classes=about.classes,
        multilabel=about.multilabel,
        root=folder,
        clip_ids=Strings.of([clip.clip_id for clip in clips]),
        paths=files,
        splits=Strings.of([clip.split for clip in clips]),
        # The times are part of the clips' identity; the stretches were cut when the shards were written.
        start=np.array([clip.start for clip in clips], np.float64),  # None becomes NaN
        stop=np.array([clip.stop for clip in clips], np.float64),
        labels={head: Labels.from_rows(clip.labels[head] for clip in clips) for head in about.classes},
        problems=about.problems,
        listed=about.listed,
        variant=about.variant,
        missing_ids=Strings.of([clip_id for clip_id, _ in missing]),
        missing_splits=Strings.of([split for _, split in missing]),
        unit=about.unit if grouped else "clip",
        groups=Strings.of([clip.group or clip.clip_id for clip in clips]) if grouped else None,
    )
