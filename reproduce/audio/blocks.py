"""Sound as it is decoded: blocks of samples, a stretch of seconds, and the limits that every file is held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reproduce.audio.errors import AudioError

BLOCK_SAMPLES = 1 << 20  # per channel and block: 24 s at 44.1 kHz
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz
MAX_CHANNELS = 64
_FOREVER_S = 1e9  # keeps sample numbers finite
MAX_SECONDS = 7200  # per clip
MAX_DECODED = 1 << 30  # samples times channels per clip
# Full scale is 1. Recorders in float may exceed it; by 60 dB none does, and samples of 16-bit integers do.
MAX_VALUE = 1e3
_INTEGERS_FROM = 16.0  # a block that reaches this and holds integers alone was never scaled to full scale


class Block(NamedTuple):
    """Consecutive samples of a stream.

    Args:
        samples: (n, channels) float32, full scale = 1.
        sample_rate: Hz.
    """

    samples: np.ndarray
    sample_rate: int


@dataclass(frozen=True)
class Stretch:
    """The part of a file from `start` to `stop` seconds; None stands for the file's own start or end.

    Args:
        limited: refuse what is longer than a clip may be; False for readers that hold one block at a time.
    """

    start: float | None = None
    stop: float | None = None
    limited: bool = True

    def first(self, rate: int) -> int:
        """Index of its first sample."""
        return 0 if self.start is None else round(min(self.start, _FOREVER_S) * rate)

    def last(self, rate: int) -> int | None:
        """Index behind its last sample, None for the file's end."""
        return None if self.stop is None else round(min(self.stop, _FOREVER_S) * rate)

    def cut(self, path: Path | str, blocks: Iterator[Block]) -> Iterator[Block]:
        """Keep of `blocks`, which begin with a file's first sample, those samples that lie in the stretch."""
        position, rate = 0, 1
        for samples, rate in blocks:
            first, last = self.first(rate), self.last(rate)
            kept = samples[max(0, first - position) : None if last is None else max(0, last - position)]
            position += len(samples)
            if len(kept):
                yield Block(kept, rate)
            if last is not None and position >= last:
                return
        if 0 < position <= self.first(rate):
            raise self.beyond(path, position / rate)

    def beyond(self, path: Path | str, end_s: float) -> AudioError:
        """The error of a stretch that starts at or after the end of its file."""
        return AudioError(path, "empty", f"segment starts at {self.start:g} s, beyond the end at {end_s:g} s")


def check_format(path: Path | str, rate: int, channels: int) -> None:
    """Raise AudioError for a sample rate or channel count that no recording has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            path, "unsupported format", f"sample rate of {rate} Hz, not between {MIN_RATE:,} and {MAX_RATE:,}"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(path, "unsupported format", f"{channels} channels")


def check_length(path: Path | str, samples: int, channels: int, rate: int) -> None:
    """Raise AudioError where a clip has more samples than are decoded."""
    if samples * channels > MAX_DECODED or samples > MAX_SECONDS * rate:
        raise AudioError(path, "too long", f"{samples / rate / 60:.0f} min")


def check_values(path: Path | str, samples: np.ndarray) -> None:
    """Raise AudioError for samples that are not finite, or so large that they are not on a scale of 1."""
    if not samples.size:
        return
    low, high = float(samples.min()), float(samples.max())  # NaN if any sample is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise AudioError(
            path, "NaN samples", f"{int((~np.isfinite(samples)).sum())} of {samples.size} not finite in float32"
        )
    peak = max(-low, high)
    if peak >= _INTEGERS_FROM and not (samples % 1).any() and peak <= 1 << 31:
        scale = 1 << (15 if peak <= 1 << 15 else 31)
        raise AudioError(path, "absurd values", f"integers up to {peak:.0f} stored as floats: divide them by {scale}")
    if peak > MAX_VALUE:
        scaled = f", a recording scaled by {1 << 15}?" if MAX_VALUE < peak <= 2 << 15 else ""
        raise AudioError(path, "absurd values", f"up to {peak:.3g} where full scale is 1{scaled}")
