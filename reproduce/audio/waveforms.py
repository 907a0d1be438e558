"""From a sound file to the mono waveform that the front end takes. No torch here.

`stream_audio` -> `to_mono` -> resampled (`load_clip`) -> `remove_mean` (`load_waveform`) -> `crop`.
"""

from __future__ import annotations

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
_MAX_SAMPLES = 120_000_000  # of a waveform: 458 MiB, the longest clip at 16 kHz
_MARGIN_SECONDS = 0.5  # decoded past a bound, so that the resampling filter gives what it gives inside the whole file


class LoadedClip(NamedTuple):
    """A clip and what there is to know about it.

    Args:
        waveform: (samples,) float32, mono.
        warnings: see `reproduce.audio.errors.WARNING_REASONS`.
    """

    waveform: np.ndarray
    warnings: tuple[AudioWarning, ...] = ()


# --- load ---


def load_waveform(
    path: str | Path,
    spec: AudioSpec,
    start: float | None = None,
    stop: float | None = None,
    max_samples: int | None = None,
    warnings: list[AudioWarning] | None = None,
) -> np.ndarray:
    """Load a clip as AST takes it: (samples,) float32, mono, at `spec.sample_rate` Hz, its mean removed.

    The clip keeps its length and is not scaled by 2**15. The arguments and errors are those of `load_clip`; `warnings`
    receives the clip's.
    """
    clip = load_clip(path, spec.sample_rate, start, stop, max_samples)
    if warnings is not None:
        warnings += clip.warnings
    return _centre(clip.waveform)


def load_clip(
    path: str | Path,
    sample_rate: int,
    start: float | None = None,
    stop: float | None = None,
    max_samples: int | None = None,
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

    Raises:
        AudioError, InputError: as `stream_audio`; AudioError too long for more than 120 million samples.
    """
    warnings: list[AudioWarning] = []
    if max_samples is not None:
        bound = (start or 0.0) + max_samples / sample_rate + _MARGIN_SECONDS
        stop = bound if stop is None else min(stop, bound)
    signal = _MonoSignal(stream_audio(path, start, stop, warnings))
    parts, count = [], 0
    for part in _resampled(iter(signal), sample_rate):
        parts.append(part)
        count += len(part)
        if count > _MAX_SAMPLES:
            raise AudioError(path, "too long", f"more than {count // sample_rate // 60} min")
    waveform = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if max_samples is not None:
        waveform = waveform[:max_samples]
    if not len(waveform):
        raise AudioError(path, "empty", f"{signal.samples} samples at {signal.rate} Hz leave none at {sample_rate} Hz")
    if is_silent(waveform):
        reason = "channels cancel" if signal.channels_sound else "silent"
        warnings.append(AudioWarning(Path(path), reason))
    if len(waveform) < SHORT_SECONDS * sample_rate:
        warnings.append(AudioWarning(Path(path), "very short", f"{1000 * len(waveform) / sample_rate:.1f} ms"))
    return LoadedClip(waveform, tuple(warnings))


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
