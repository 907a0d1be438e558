"""Sounds that a program hands over: paths of files, arrays, tensors, or lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.arrays import waveform_of_array
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_waveform, stream_waveform
from reproduce.data.waveform_store import FLOAT32_BYTES, Waveforms
from reproduce.errors import InputError


@dataclass(frozen=True)
class GivenSounds:
    """Sounds by position, as `Waveforms` gives them.

    Args:
        sounds: paths, or samples as `waveform_of_array` takes them.
        sample_rate: of the samples, Hz; None where all are files.
        spec: front end.
    """

    sounds: tuple[Any, ...]
    sample_rate: float | None
    spec: AudioSpec

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, position: int, /) -> np.ndarray:
        """The whole waveform, (samples,) float32, its mean removed.

        Raises:
            AudioError, InputError: it cannot be used.
        """
        sound = self.sounds[position]
        if is_path(sound):
            return load_waveform(Path(sound), self.spec)
        return self._of_array(position)

    def _of_array(self, position: int) -> np.ndarray:
        rate, name = self.spec.sample_rate, str(name_of(self.sounds[position], position))
        return waveform_of_array(self.sounds[position], self.sample_rate, rate, name)

    def blocks(self, position: int) -> Iterator[np.ndarray]:
        """The sound in blocks, at the front end's rate."""
        sound = self.sounds[position]
        if is_path(sound):
            yield from stream_waveform(Path(sound), self.spec.sample_rate)
        else:
            yield self._of_array(position)

    def take(self, positions: np.ndarray) -> Waveforms:
        """The sounds at `positions`, in that order."""
        return GivenSounds(tuple(self.sounds[i] for i in positions), self.sample_rate, self.spec)

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        """An upper bound where clips are trimmed."""
        return len(self) * spec.samples * FLOAT32_BYTES


def is_path(sound: Any) -> bool:
    """Whether a sound is a file rather than samples."""
    return isinstance(sound, (str, os.PathLike))


def are_several(sounds: Any) -> bool:
    """Whether `sounds` is a list of sounds; a list of numbers is one sound."""
    return isinstance(sounds, (list, tuple)) and not (sounds and isinstance(sounds[0], (int, float)))


def require_no_folder(sounds: Iterable[Any]) -> None:
    """Check that no sound is the path of a folder.

    Raises:
        InputError: one is; the message says how to list its files.
    """
    for sound in sounds:
        if is_path(sound) and os.path.isdir(sound):
            raise InputError(
                f"{os.fspath(sound)}: a folder: pass its files, such as "
                f"sorted(Path({os.fspath(sound)!r}).rglob('*.wav'))"
            )


def name_of(sound: Any, position: int) -> Path:
    """How messages call the sound at `position` of a list."""
    return Path(sound) if is_path(sound) else Path(f"array {position}")
