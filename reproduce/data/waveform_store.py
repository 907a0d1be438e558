"""The clips of a corpus and their waveforms, from memory or from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import decode_many, load_waveform
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError
from reproduce.machine import available_memory_bytes, decoding_threads

FLOAT32_BYTES = 4


# --- where waveforms come from --------------------------------------------------------------------------------------


class Waveforms(Protocol):
    """Clips by position, (samples,) float32 each, mean removed; reading one may raise AudioError."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> np.ndarray: ...

    def take(self, positions: np.ndarray) -> Waveforms:
        """Those at `positions`, in that order."""


class DecodedWaveforms(tuple[np.ndarray, ...]):
    """Held in memory."""

    def take(self, positions: np.ndarray) -> DecodedWaveforms:
        return DecodedWaveforms(self[i] for i in positions)


@dataclass(frozen=True)
class FileWaveforms:
    """Decoded from the corpus' own files whenever they are asked for: for corpora larger than memory."""

    index: ClipIndex
    spec: AudioSpec

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int, /) -> np.ndarray:
        clip = self.index.clip(int(position))
        return load_waveform(clip.path, self.spec, clip.start, clip.stop)

    def take(self, positions: np.ndarray) -> FileWaveforms:
        return FileWaveforms(self.index.take(positions), self.spec)


@dataclass(frozen=True)
class WaveformStore:
    """The clips of a corpus and their waveforms, position by position.

    Args:
        index: the clips; of a decoded corpus exactly those that decoded.
        spec: front end.
        waveforms: see `Waveforms`.
        problems: everything met on the way.
        standin: the `standin_marker` of a corpus that was synthesised, None for any other.
    """

    index: ClipIndex
    spec: AudioSpec
    waveforms: Waveforms
    problems: tuple[Problem, ...]
    standin: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.waveforms)

    def where_split(self, *names: str) -> WaveformStore:
        """The clips of these splits; the problems stay with the whole. InputError if none of them could be used."""
        positions = self.index.positions_of(*names)
        if not len(positions):
            listed = sum(self.index.listed.get(name, 0) for name in names)
            raise InputError(
                f"{self.index.root}: none of the {listed} listed clips in split {', '.join(names)} can be used; "
                "mend or replace their files"
            )
        return replace(self, index=self.index.take(positions), waveforms=self.waveforms.take(positions))

    def read(self, position: int) -> np.ndarray | Problem:
        """One whole waveform, or what was wrong with it."""
        try:
            return self.waveforms[position]
        except AudioError as error:
            return Problem(str(self.index.clip_ids[position]), error.reason, str(error))


def load_waveforms(
    index: ClipIndex,
    spec: AudioSpec,
    on_clip: Callable[[], object] = lambda: None,
    workers: int | None = None,
    whole: bool = False,
) -> WaveformStore:
    """Decode every clip of `index` once. A clip that cannot be used is left out and reported, never fatal to the rest.

    Args:
        index: what to decode.
        spec: front end; clips longer than it are cut to their first `spec.samples`.
        on_clip: called after every clip, for a progress bar.
        workers: decoding threads, by default two a core.
        whole: keep longer clips whole, for random or several crops.

    Raises:
        InputError: no clip could be used, or the waveforms would not fit into memory.
    """
    check_memory(len(index), spec)
    clips = (index.clip(i) for i in range(len(index)))
    sources = ((clip.path, clip.start, clip.stop) for clip in clips)
    kept, waveforms, problems = [], [], list(index.problems)
    for i, decoded in enumerate(decode_many(sources, spec, workers or decoding_threads())):
        on_clip()
        clip_id = str(index.clip_ids[i])
        if isinstance(decoded, AudioError):
            problems.append(Problem(clip_id, decoded.reason, str(decoded)))
            continue
        problems += [Problem(clip_id, warning.reason, str(warning), fatal=False) for warning in decoded.warnings]
        kept.append(i)
        # A view would keep the whole recording.
        waveforms.append(decoded.waveform if whole else decoded.waveform[: spec.samples].copy())
    if not kept:
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips can be used{first}")
    usable = index.take(np.asarray(kept))
    return WaveformStore(usable, spec, DecodedWaveforms(waveforms), tuple(problems), standin_marker(index.root))


def stream_waveforms(index: ClipIndex, spec: AudioSpec) -> WaveformStore:
    """The corpus as it lies on disk, decoded anew in every epoch; nothing is read yet.

    A clip that turns out to be unusable weighs nothing in its batch and is reported with the run.
    """
    if not len(index):
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips has a file")
    return WaveformStore(index, spec, FileWaveforms(index, spec), index.problems, standin_marker(index.root))


def check_memory(clips: int, spec: AudioSpec) -> None:
    """InputError if the waveforms of so many clips do not fit into the memory that is free."""
    needed, available = clips * spec.samples * FLOAT32_BYTES, available_memory_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"{clips} clips of {spec.seconds:.1f} s need {needed / 2**30:.1f} GiB of memory as waveforms, "
            f"{available / 2**30:.1f} GiB are free: use --stream, fewer clips or a larger machine"
        )


def fits_in_memory(clips: int, spec: AudioSpec, processes: int) -> bool:
    """Whether `processes` on this machine may each hold the waveforms and leave half of the free memory alone."""
    available = available_memory_bytes()
    return available is None or 2 * processes * clips * spec.samples * FLOAT32_BYTES < available
