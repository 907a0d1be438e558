"""Corruptions of a waveform: noise, low-pass, shift, repetition. Arrays in, arrays out; SciPy is imported late."""

from __future__ import annotations

import hashlib

import numpy as np

LOW_PASS_ORDER = 8  # of the Butterworth filter, run forwards and backwards: 16 in effect, and no delay


def add_noise(waveform: np.ndarray, snr_db: float, clip_id: str, seed: int = 0) -> np.ndarray:
    """Add white Gaussian noise at a signal-to-noise ratio, (samples,) float32.

    The noise of a clip is the same whoever asks and whatever the level: it depends on the id and the seed alone. A
    silent clip stays silent, for no noise has a ratio to it.

    Args:
        waveform: (samples,).
        snr_db: power of the whole waveform over that of the noise, in dB.
        clip_id: whose noise is drawn.
        seed: of the noise.
    """
    digest = hashlib.sha256(f"{seed} {clip_id}".encode()).digest()
    noise = np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(len(waveform))
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return (waveform + noise * np.sqrt(power / 10 ** (snr_db / 10))).astype(np.float32)


def low_pass(waveform: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is above a frequency, without delay, (samples,) float32; -6 dB at the cut-off itself.

    Raises:
        ValueError: the cut-off is not below half of the sample rate.
    """
    from scipy.signal import butter, sosfiltfilt

    sections = butter(LOW_PASS_ORDER, cutoff_hz, fs=sample_rate, output="sos")
    padding = min(len(waveform) - 1, 3 * (2 * len(sections) + 1))
    if padding < 1:
        return waveform
    return np.asarray(sosfiltfilt(sections, waveform.astype(np.float64), padlen=padding), np.float32)


def shift(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Move a waveform to the right; what leaves at the end comes in at the start, so that nothing is lost."""
    return np.roll(waveform, samples)


def repeated(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a waveform until it has `samples` samples; a longer one is returned as it is."""
    if not len(waveform) or len(waveform) >= samples:
        return waveform
    return np.tile(waveform, -(-samples // len(waveform)))[:samples]
