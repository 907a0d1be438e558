"""The clips of a corpus with their waveforms, from memory or from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import decode_many, load_waveform
from reproduce.data.clip_problems import clip_warnings, unusable_clip
from reproduce.data.content import UNREADABLE, clip_digests, content_sha256
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError
from reproduce.machine import available_memory_bytes, decoding_threads

FLOAT32_BYTES = 4
PROBED_FILES = 64  # files whose headers are read to estimate the length of all


# --- where waveforms come from --------------------------------------------------------------------------------------


class Waveforms(Protocol):
    """Waveforms by position: (samples,) float32 each, 16 kHz or the front end's rate, mean removed."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> np.ndarray:
        """Read one waveform.

        Raises:
            AudioError: the clip cannot be used.
        """
        ...

    def take(self, positions: np.ndarray) -> Waveforms:
        """The waveforms at `positions`, in that order."""
        ...

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        """Bytes that all waveforms need in memory, trimmed to the first `spec.samples` or whole."""
        ...


class DecodedWaveforms(tuple[np.ndarray, ...]):
    """Waveforms in memory."""

    def take(self, positions: np.ndarray) -> DecodedWaveforms:
        """The waveforms at `positions`, in that order; nothing is copied."""
        return DecodedWaveforms(self[i] for i in positions)

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        """Bytes that the waveforms take as they are."""
        return sum(waveform.nbytes for waveform in self)


@dataclass(frozen=True)
class FileWaveforms:
    """Waveforms that are decoded from the corpus' files on every access, for corpora larger than memory.

    Args:
        index: the clips.
        spec: front end.
        warned: receives what there is to know about clips that are read: silent, very short, and so on.
        head: of a recording of more than minutes, only so many samples are kept; None keeps all.
    """

    index: ClipIndex
    spec: AudioSpec
    warned: list[Problem] = field(default_factory=list, compare=False)
    head: int | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int, /) -> np.ndarray:
        clip, warnings = self.index.clip(int(position)), list[AudioWarning]()
        waveform = load_waveform(clip.path, self.spec, clip.start, clip.stop, head=self.head, warnings=warnings)
        self.warned.extend(clip_warnings(clip.clip_id, warnings))
        return waveform

    def take(self, positions: np.ndarray) -> FileWaveforms:
        """The waveforms at `positions`, in that order; nothing is read."""
        return FileWaveforms(self.index.take(positions), self.spec, self.warned, self.head)

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        """Bytes that all waveforms need in memory: an upper bound where clips are trimmed, an estimate where not.

        The length of a whole clip is that of its listed stretch. Where none is listed, it is the mean over a sample of
        the files of what their headers state.
        """
        if not whole or not len(self):
            return len(self) * spec.samples * FLOAT32_BYTES
        listed = (self.index.stop - np.nan_to_num(self.index.start)) * spec.sample_rate
        unlisted = np.flatnonzero(np.isnan(listed))
        probed = unlisted[np.linspace(0, len(unlisted) - 1, min(PROBED_FILES, len(unlisted))).astype(int)]
        samples = float(np.nansum(np.maximum(listed, spec.samples)))
        if len(probed):
            samples += len(unlisted) * float(np.mean([self._samples_in_header(int(i)) for i in probed]))
        return int(samples) * FLOAT32_BYTES

    def _samples_in_header(self, position: int) -> float:
        """Samples of a clip from its start on, by the file's header; at least, and failing that, the input's length."""
        clip = self.index.clip(position)
        try:
            seconds = soundfile.info(str(clip.path)).duration - (clip.start or 0.0)
        except (soundfile.SoundFileError, OSError, TypeError, ZeroDivisionError):  # the decoder reports what is wrong
            return self.spec.samples
        return max(seconds * self.spec.sample_rate, self.spec.samples)


@dataclass(frozen=True)
class WaveformStore:
    """The clips of a corpus and their waveforms, position by position.

    Args:
        index: the n clips; of a decoded corpus exactly those that decoded.
        spec: front end.
        waveforms: see `Waveforms`.
        problems: of the whole corpus, as far as they are known.
        standin: the `standin_marker` of a synthetic corpus, None for any other.
        digests: (n,) bytes, see `clip_digests`; None until `with_digests` or shards provide them.
        warned: warnings about clips that were read since `take_warnings`; where `problems` cannot have them.
    """

    index: ClipIndex
    spec: AudioSpec
    waveforms: Waveforms
    problems: tuple[Problem, ...]
    standin: Mapping[str, Any] | None = None
    digests: np.ndarray | None = None
    warned: list[Problem] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return len(self.waveforms)

    def memory_bytes(self, whole: bool) -> int:
        """Bytes that all waveforms need in memory, trimmed to the front end's input or whole."""
        return self.waveforms.memory_bytes(self.spec, whole)

    def where_split(self, *names: str) -> WaveformStore:
        """The clips of the named splits; the problems stay those of the whole corpus.

        Raises:
            InputError: no clip of these splits can be used.
        """
        positions = self.index.positions_of(*names)
        if not len(positions):
            listed = sum(self.index.listed.get(name, 0) for name in names)
            raise InputError(
                f"{self.index.root}: none of the {listed} listed clips in split {', '.join(names)} can be used; "
                "mend or replace their files"
            )
        return self.take(positions)

    def take(self, positions: np.ndarray) -> WaveformStore:
        """The clips at `positions`, in that order; the problems stay those of the whole corpus."""
        return replace(
            self,
            index=self.index.take(positions),
            waveforms=self.waveforms.take(positions),
            digests=None if self.digests is None else self.digests[positions],
        )

    def read(self, position: int) -> np.ndarray | Problem:
        """One whole waveform, (samples,) float32, or why it cannot be used."""
        try:
            return self.waveforms[position]
        except AudioError as error:
            return unusable_clip(str(self.index.clip_ids[position]), error)

    def take_warnings(self) -> list[Problem]:
        """Warnings about the clips that were read since the last call, by name; threads may read on meanwhile."""
        taken = [self.warned.pop() for _ in range(len(self.warned))]
        return sorted(taken, key=lambda problem: problem.message)

    def with_digests(
        self, cache: Path | None, workers: int | None = None, on_file: Callable[[], object] = lambda: None
    ) -> WaveformStore:
        """This store with its digests; see `clip_digests`. A store of shards has them already and reads nothing."""
        if self.digests is not None:
            return self
        return replace(self, digests=clip_digests(self.index, cache, workers, on_file))

    @property
    def has_content(self) -> bool:
        """Whether hashes of the sound are known; shards of an earlier version have none."""
        return self.digests is not None and bool((self.digests != UNREADABLE).any())

    def content_sha256(self) -> str:
        """Identity of the sound of the clips, in whatever order: their ids with the hashes of their files.

        Raises:
            ValueError: the digests are not known yet.
        """
        if self.digests is None:
            raise ValueError("the digests of the clips are not known: call with_digests first")
        return content_sha256(self.index, self.digests)


# --- opening a corpus -------------------------------------------------------------------------------------------------


def load_waveforms(
    index: ClipIndex,
    spec: AudioSpec,
    on_clip: Callable[[], object] = lambda: None,
    workers: int | None = None,
    whole: bool = False,
    memory_limit: int | None = None,
) -> WaveformStore:
    """Decode every clip of `index` into memory. A clip that cannot be used is left out and reported.

    Args:
        index: the clips.
        spec: front end; longer clips are trimmed to their first `spec.samples`.
        on_clip: called after every clip, for a progress bar.
        workers: decoding threads, by default two per core.
        whole: keep longer clips whole, for random or several crops.
        memory_limit: bytes that the waveforms may take, by default the free memory.

    Raises:
        InputError: no clip can be used, or the waveforms need more memory.
    """
    limit = available_memory_bytes() if memory_limit is None else memory_limit
    check_memory(len(index), FileWaveforms(index, spec).memory_bytes(spec, whole), limit)
    clips = (index.clip(i) for i in range(len(index)))
    sources = ((clip.path, clip.start, clip.stop) for clip in clips)
    kept: list[int] = []
    waveforms: list[np.ndarray] = []
    problems, bytes_decoded = list(index.problems), 0
    for i, decoded in enumerate(decode_many(sources, spec, workers or decoding_threads())):
        on_clip()
        clip_id = str(index.clip_ids[i])
        if isinstance(decoded, AudioError):
            problems.append(unusable_clip(clip_id, decoded))
            continue
        problems += clip_warnings(clip_id, decoded.warnings)
        kept.append(i)
        waveforms.append(trimmed(decoded.waveform, spec, whole))
        bytes_decoded += waveforms[-1].nbytes
        if limit is not None and bytes_decoded > limit:  # headers stated less than was decoded
            check_memory(len(index), bytes_decoded * len(index) // (i + 1), limit)
    if not kept:
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips can be used{first}")
    usable = index.take(np.asarray(kept))
    return WaveformStore(usable, spec, DecodedWaveforms(waveforms), tuple(problems), standin_marker(index.root))


def trimmed(waveform: np.ndarray, spec: AudioSpec, whole: bool) -> np.ndarray:
    """`waveform`, or a copy of its first `spec.samples`: a view would keep the whole recording in memory."""
    return waveform if whole or len(waveform) <= spec.samples else waveform[: spec.samples].copy()


def stream_waveforms(index: ClipIndex, spec: AudioSpec, head: int | None = None) -> WaveformStore:
    """Decode the clips of `index` on every access; nothing is read yet.

    A clip that turns out to be unusable has weight 0 in its batch and is reported with the run.

    Args:
        index: the clips.
        spec: front end.
        head: see `FileWaveforms`, for those who take a clip's start alone.

    Raises:
        InputError: `index` has no clip.
    """
    if not len(index):
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips has a file")
    waveforms = FileWaveforms(index, spec, head=head)
    marker = standin_marker(index.root)
    return WaveformStore(index, spec, waveforms, index.problems, marker, warned=waveforms.warned)


def check_memory(clips: int, needed: int, limit: int | None) -> None:
    """Refuse waveforms that need more than `limit` bytes.

    Raises:
        InputError: `needed` is more than `limit`; None is no limit.
    """
    if limit is not None and needed > limit:
        raise InputError(
            f"{clips} clips need {needed / 2**30:.1f} GiB of memory as waveforms, {limit / 2**30:.1f} GiB are free: "
            "use --stream, fewer clips or a larger machine"
        )


def fits_in_memory(needed: int, processes: int, limit: int | None = None) -> bool:
    """Whether each of `processes` may hold `needed` bytes and half of the free memory (or of `limit`) stays free."""
    limit = available_memory_bytes() if limit is None else limit
    return limit is None or 2 * processes * needed < limit
