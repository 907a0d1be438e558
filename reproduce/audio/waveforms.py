"""From samples to the mono waveform that a front end takes. No torch here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soxr

from reproduce.audio.decoding import read_audio
from reproduce.audio.errors import AudioError
from reproduce.audio.spec import AudioSpec

# --- waveforms -----------------------------------------------------------------------------------------------


def to_mono(samples: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,): the mean over channels. kaldi.fbank would silently take channel 0."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """(samples,) float32 at `to_rate` Hz, band-limited (soxr HQ), so nothing above the new Nyquist folds back."""
    if from_rate == to_rate:
        return samples
    return soxr.resample(samples, from_rate, to_rate, quality="HQ").astype(np.float32, copy=False)


def load_waveform(
    path: str | Path, spec: AudioSpec, start: float | None = None, stop: float | None = None
) -> np.ndarray:
    """A clip as AST takes it: (samples,) float32, mono, at `spec.sample_rate`, its mean removed.

    It keeps its own length (training cuts random stretches out of it: `crop`) and is not scaled by 2**15.

    Raises:
        AudioError, InputError: as `read_audio`.
    """
    return remove_mean(load_mono(path, spec.sample_rate, start, stop))


def load_mono(path: str | Path, sample_rate: int, start: float | None = None, stop: float | None = None) -> np.ndarray:
    """`load_waveform` before its mean is removed, which is what shards store: 16-bit recordings stay exact."""
    samples, rate = read_audio(path, start, stop)
    waveform = resample(to_mono(samples), rate, sample_rate)
    if not len(waveform):
        raise AudioError(path, "empty", f"{len(samples)} samples at {rate} Hz leave none at {sample_rate} Hz")
    return waveform


def remove_mean(waveform: np.ndarray) -> np.ndarray:
    """(samples,) float32 around zero, as AST's loader leaves it."""
    return waveform - waveform.mean(dtype=np.float64).astype(np.float32)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether a waveform never swings by one 16-bit step. Silent clips are valid input; callers report them."""
    return bool(np.ptp(waveform) < 2.0**-15)


def crop(waveform: np.ndarray, samples: int, offset: int = 0) -> np.ndarray:
    """At most `samples` samples of (n,) from `offset` on; `offset` must leave at least one."""
    if not 0 <= offset < len(waveform):
        raise ValueError(f"offset {offset} lies outside a waveform of {len(waveform)} samples")
    return waveform[offset : offset + samples]


def pad_or_trim(waveform: np.ndarray, spec: AudioSpec, offset: int = 0) -> np.ndarray:
    """(n,) cut from `offset` to at most `spec.samples`; where `spec.pad` is "repeat", tiled to exactly that."""
    waveform = crop(waveform, spec.samples, offset)
    if spec.pad == "repeat" and len(waveform) < spec.samples:
        return np.resize(waveform, spec.samples)  # np.resize repeats its input
    return waveform


def decode_many(
    clips: Iterable[tuple[str | Path, float | None, float | None]], spec: AudioSpec, workers: int
) -> Iterator[tuple[int, np.ndarray | AudioError]]:
    """Decode (path, start, stop) clips on `workers` threads, in order; a bad clip yields its error and never stops it.

    libsndfile and soxr release the GIL. At most `2 * workers` decoded clips are held.
    """

    def load(clip: tuple[str | Path, float | None, float | None]) -> np.ndarray | AudioError:
        try:
            return load_waveform(clip[0], spec, clip[1], clip[2])
        except AudioError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[int, Future[np.ndarray | AudioError]]] = deque()
        for i, clip in enumerate(clips):
            pending.append((i, pool.submit(load, clip)))
            if len(pending) == 2 * workers:
                j, future = pending.popleft()
                yield j, future.result()
        while pending:
            j, future = pending.popleft()
            yield j, future.result()
