"""From a sound file to the mono waveform that the front end takes. No torch here.

`stream_audio` -> `to_mono` -> resampled (`load_clip`) -> `remove_mean` (`load_waveform`) -> `crop`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from reproduce.audio.blocks import Block
from reproduce.audio.decoding import stream_audio
from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.audio.spec import AudioSpec
from reproduce.pool import ordered_map

SILENCE = 2.0**-15  # one 16-bit step, peak to peak
SHORT_SECONDS = 0.1
LONG_SAMPLES = 4_800_000  # 18 MiB, 5 min at 16 kHz: what is shorter is held whole
_MAX_SAMPLES = 120_000_000  # of a waveform: 458 MiB, the longest clip at 16 kHz
_MARGIN_SECONDS = 0.5  # decoded past a bound, so that the resampling filter gives what it gives inside the whole file


class LoadedClip(NamedTuple):
    """A clip and what there is to know about it.

    Args:
        waveform: (samples,) float32, mono.
        warnings: see `reproduce.audio.errors.WARNING_REASONS`.
        mean: of the whole clip, where `waveform` is its start alone; otherwise None.
    """

    waveform: np.ndarray
    warnings: tuple[AudioWarning, ...] = ()
    mean: float | None = None


# --- load ---


def load_waveform(
    path: str | Path,
    spec: AudioSpec,
    start: float | None = None,
    stop: float | None = None,
    max_samples: int | None = None,
    *,
    head: int | None = None,
    warnings: list[AudioWarning] | None = None,
) -> np.ndarray:
    """Load a clip as AST takes it: (samples,) float32, mono, at `spec.sample_rate` Hz, its mean removed.

    The clip keeps its length and is not scaled by 2**15. The arguments and errors are those of `load_clip`; `warnings`
    receives the clip's.
    """
    clip = load_clip(path, spec.sample_rate, start, stop, max_samples, head=head)
    if warnings is not None:
        warnings += clip.warnings
    return _centre(clip.waveform) if clip.mean is None else clip.waveform - np.float32(clip.mean)


def load_clip(
    path: str | Path,
    sample_rate: int,
    start: float | None = None,
    stop: float | None = None,
    max_samples: int | None = None,
    *,
    head: int | None = None,
) -> LoadedClip:
    """Load a clip block by block: mixed down to mono and resampled; shards store it so.

    Its mean is not removed: 16-bit recordings stay exact.

    Args:
        path: a sound file, or "FILE.h5::KEY" for a clip inside a pack.
        sample_rate: Hz of the result.
        start: seconds into the file.
        stop: seconds into the file.
        max_samples: keep the first so many samples of the result; little more is decoded. They are the very samples
            of the whole clip.
        head: keep the first so many samples of a clip longer than LONG_SAMPLES; all of it is decoded, for its mean and
            its warnings, but only a block is held.

    Raises:
        AudioError, InputError: as `stream_audio`; AudioError too long for more than 120 million samples.
    """
    warnings: list[AudioWarning] = []
    if max_samples is not None:
        bound = (start or 0.0) + max_samples / sample_rate + _MARGIN_SECONDS
        stop = bound if stop is None else min(stop, bound)
    signal = _MonoSignal(stream_audio(path, start, stop, warnings))
    kept = _Kept(head)
    for part in _resampled(iter(signal), sample_rate):
        kept.add(part)
        if kept.count > _MAX_SAMPLES:
            raise AudioError(path, "too long", f"more than {kept.count // sample_rate // 60} min")
    waveform = kept.joined()
    if max_samples is not None:
        waveform = waveform[:max_samples]
    if not len(waveform):
        raise AudioError(path, "empty", f"{signal.samples} samples at {signal.rate} Hz leave none at {sample_rate} Hz")
    if kept.peak_to_peak < SILENCE if kept.is_head else is_silent(waveform):
        reason = "channels cancel" if signal.channels_sound else "silent"
        warnings.append(AudioWarning(Path(path), reason))
    if not kept.is_head and len(waveform) < SHORT_SECONDS * sample_rate:
        warnings.append(AudioWarning(Path(path), "very short", f"{1000 * len(waveform) / sample_rate:.1f} ms"))
    return LoadedClip(waveform, tuple(warnings), kept.sum / kept.count if kept.is_head else None)


class _Kept:
    """The blocks of a clip; of one longer than LONG_SAMPLES its start, and what is to know about the rest.

    Args:
        head: samples of that start; None keeps all.
    """

    def __init__(self, head: int | None) -> None:
        self.head, self.parts, self.count, self.is_head = head, list[np.ndarray](), 0, False
        self.sum, self.low, self.high = 0.0, math.inf, -math.inf

    def add(self, part: np.ndarray) -> None:
        """Take the next block."""
        self.count += len(part)
        if not self.is_head:
            self.parts.append(part)
            if self.head is None or self.count <= max(LONG_SAMPLES, self.head):
                return
            self.is_head, part = True, np.concatenate(self.parts)
            self.parts = [part[: self.head].copy()]
        self.sum += float(part.sum(dtype=np.float64))
        self.low, self.high = min(self.low, float(part.min())), max(self.high, float(part.max()))

    @property
    def peak_to_peak(self) -> float:
        """Of the whole clip, where its start is kept."""
        return self.high - self.low

    def joined(self) -> np.ndarray:
        """What is kept, as one array."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)


def stream_waveform(
    path: str | Path,
    sample_rate: int,
    start: float | None = None,
    stop: float | None = None,
    warnings: list[AudioWarning] | None = None,
) -> Iterator[np.ndarray]:
    """Decode a file of any length as (n,) float32 blocks, mono, at `sample_rate` Hz; one block is held at a time.

    The blocks are those that `load_clip` joins: their mean is not removed.

    Raises:
        AudioError, InputError: as `stream_audio`; the blocks before a damage are yielded.
    """
    yield from _resampled(iter(_MonoSignal(stream_audio(path, start, stop, warnings, limited=False))), sample_rate)


class _MonoSignal:
    """The mono blocks of a stream; notes on the way whether its channels sound where their mean is silent."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks
        self.samples, self.rate, self.channels_sound = 0, 0, False

    def __iter__(self) -> Iterator[Block]:
        for samples, rate in self.blocks:
            self.rate = rate
            mono = to_mono(samples)
            self.samples += len(mono)
            if samples.shape[1] > 1 and not self.channels_sound and is_silent(mono):
                self.channels_sound = bool((np.ptp(samples, axis=0) >= SILENCE).any())
            yield Block(mono, rate)


def _resampled(blocks: Iterator[Block], to_rate: int) -> Iterator[np.ndarray]:
    """(n,) float32 blocks at `to_rate` Hz; equal to `resample` of all blocks at once."""
    block = next(blocks)
    if block.sample_rate == to_rate:
        yield block.samples
        yield from (samples for samples, _ in blocks)
        return
    stream: soxr.ResampleStream | None = None
    for following in blocks:
        stream = stream or soxr.ResampleStream(block.sample_rate, to_rate, 1, dtype="float32", quality="HQ")
        yield stream.resample_chunk(block.samples)
        block = following
    if stream is None:
        yield resample(block.samples, block.sample_rate, to_rate)
    else:
        yield stream.resample_chunk(block.samples, last=True)


def decode_many(
    clips: Iterable[tuple[str | Path, float | None, float | None]],
    spec: AudioSpec,
    workers: int,
    max_samples: int | None = None,
) -> Iterator[LoadedClip | AudioError]:
    """Load (path, start, stop) clips on `workers` threads, in order, their means removed; a bad clip yields its error.

    libsndfile, FFmpeg and soxr release the GIL. At most `2 * workers` clips are held.
    """

    def load(clip: tuple[str | Path, float | None, float | None]) -> LoadedClip | AudioError:
        path, start, stop = clip
        try:
            loaded = load_clip(path, spec.sample_rate, start, stop, max_samples)
        except AudioError as error:
            return error
        return LoadedClip(_centre(loaded.waveform), loaded.warnings)

    return ordered_map(load, clips, workers)


# --- samples ---


def to_mono(samples: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,): the mean over channels. kaldi.fbank would silently take channel 0."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """(samples,) float32 at `to_rate` Hz, band-limited (soxr HQ), so nothing above the new Nyquist folds back."""
    if from_rate == to_rate:
        return samples
    return soxr.resample(samples, from_rate, to_rate, quality="HQ").astype(np.float32, copy=False)


def remove_mean(waveform: np.ndarray) -> np.ndarray:
    """(samples,) float32 around zero, as AST's loader leaves it."""
    return waveform - waveform.mean(dtype=np.float64).astype(np.float32)


def _centre(waveform: np.ndarray) -> np.ndarray:
    """`remove_mean`, in place where the array is whole; of a view it makes an array."""
    if waveform.base is not None:
        return remove_mean(waveform)
    return np.subtract(waveform, waveform.mean(dtype=np.float64).astype(np.float32), out=waveform)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether (samples,) never swing by one 16-bit step. Silent clips are valid input; callers report them."""
    return bool(np.ptp(waveform) < SILENCE)


def crop(waveform: np.ndarray, samples: int, offset: int = 0) -> np.ndarray:
    """At most `samples` samples of (n,) from `offset` on; `log_mel` pads what is shorter than the input.

    Raises:
        ValueError: no sample is left.
    """
    if not 0 <= offset < len(waveform):
        raise ValueError(f"offset {offset} is outside a waveform of {len(waveform)} samples")
    return waveform[offset : offset + samples]
