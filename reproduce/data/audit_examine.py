"""The examination of one clip by decoding it: usable or why not, length, warnings, a hash of its samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from reproduce.audio.decoding import stream_audio
from reproduce.audio.errors import AUDIO_REASONS, WARNING_REASONS, AudioError, AudioWarning
from reproduce.audio.waveforms import SHORT_SECONDS, SILENCE, to_mono
from reproduce.data.same_sound import SoundHash
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
        warnings: bit i is set for WARNING_REASONS[i].
        content: 64-bit hash of rate, channels and samples; 0 for a clip that cannot be used.
    """

    status: int
    seconds: float = 0.0
    warnings: int = 0
    content: int = 0


COLUMNS = np.dtype([("status", np.uint8), ("seconds", np.float32), ("warnings", np.uint8), ("content", np.uint64)])


def has_status(examinations: np.ndarray, name: str) -> np.ndarray:
    """(n,) bool: which of the (n,) COLUMNS have this one of STATUSES."""
    return examinations["status"] == STATUSES.index(name)


def has_warning(examinations: np.ndarray, *reasons: str) -> np.ndarray:
    """(n,) bool: which of the (n,) COLUMNS have one of these WARNING_REASONS."""
    return (examinations["warnings"] & warning_bits(reasons)) > 0


def warning_bits(reasons: Iterable[str]) -> int:
    """A bit for each of these WARNING_REASONS."""
    return sum({1 << WARNING_REASONS.index(reason) for reason in reasons})


def examine(clip: Clip) -> tuple[Examination, str]:
    """Decode one clip, block by block.

    Returns:
        The result, and the message about a clip that cannot be used ("" otherwise).
    """
    warnings: list[AudioWarning] = []
    content, seconds = SoundHash(), 0.0
    ranges: list[np.ndarray] = []  # of each block: lowest and highest sample of its mean and of each channel
    try:
        for samples, rate in stream_audio(clip.path, clip.start, clip.stop, warnings):
            content.update(samples, rate)
            signals = np.column_stack((to_mono(samples), samples))
            ranges.append(np.stack((signals.min(axis=0), signals.max(axis=0))))
            seconds += len(samples) / rate
    except AudioError as error:
        return Examination(STATUSES.index(error.reason)), str(error)
    reasons = [warning.reason for warning in warnings]
    swings = np.ptp(np.concatenate(ranges), axis=0)
    if swings[0] < SILENCE:
        reasons.append("channels cancel" if (swings[1:] >= SILENCE).any() else "silent")
    if seconds < SHORT_SECONDS:
        reasons.append("very short")
    return Examination(0, seconds, warning_bits(reasons), content.value), ""


def hash64(*parts: bytes | memoryview) -> int:
    """64-bit BLAKE2b over `parts`: among two million clips, the chance that two different ones collide is 1e-7."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")
