"""The examination of one clip by decoding it: usable or why not, length, silence, a hash of its samples."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from reproduce.audio.decoding import read_audio
from reproduce.audio.errors import AUDIO_REASONS, AudioError
from reproduce.audio.waveforms import is_silent, to_mono
from reproduce.datasets import Clip

RULES_VERSION = 2  # raise it whenever the same file would give another examination
USABLE = "usable"
STATUSES = (USABLE, *AUDIO_REASONS)
MISSING = STATUSES.index("missing")


class Examination(NamedTuple):
    """The result for one clip; a row of COLUMNS.

    Args:
        status: index into STATUSES.
        seconds: decoded length; 0 for a clip that cannot be used.
        silent: see `is_silent`.
        content: 64-bit hash of rate, channels and samples; 0 for a clip that cannot be used.
    """

    status: int
    seconds: float = 0.0
    silent: bool = False
    content: int = 0


COLUMNS = np.dtype([("status", np.uint8), ("seconds", np.float32), ("silent", bool), ("content", np.uint64)])


def has_status(examinations: np.ndarray, name: str) -> np.ndarray:
    """(n,) bool: which of the (n,) COLUMNS have this one of STATUSES."""
    return examinations["status"] == STATUSES.index(name)


def examine(clip: Clip) -> tuple[Examination, str]:
    """Decode one clip. Returns the result, and the message about a clip that cannot be used ("" otherwise)."""
    try:
        samples, rate = read_audio(clip.path, clip.start, clip.stop)[:2]
    except AudioError as error:
        return Examination(STATUSES.index(error.reason)), str(error)
    form = f"{rate} Hz, {samples.shape[1]} channels".encode()
    content = hash64(form, np.ascontiguousarray(samples).data)
    return Examination(0, len(samples) / rate, is_silent(to_mono(samples)), content), ""


def hash64(*parts: bytes | memoryview) -> int:
    """64-bit BLAKE2b over `parts`: among two million clips, the chance that two different ones collide is 1e-7."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")
