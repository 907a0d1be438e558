"""Samples that a program already holds, as the waveform that the front end takes. No torch here."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduce.audio.blocks import MAX_CHANNELS, MAX_RATE, MIN_RATE, check_values
from reproduce.audio.waveforms import remove_mean, resample, to_mono
from reproduce.errors import InputError

_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "int8": 2.0**7}


def waveform_of_array(samples: Any, sample_rate: int | float | None, to_rate: int, name: str = "array") -> np.ndarray:
    """(samples,) float32 at `to_rate` Hz, mono, its mean removed.

    Args:
        samples: (samples,), (samples, channels) or (channels, samples): the shorter axis is the channels'. An array, a
            torch tensor or nested lists; floats with full scale 1, or integers (8, 16 or 32 bits, as WAV has them).
        sample_rate: of `samples`, Hz.
        to_rate: Hz.
        name: for messages.

    Raises:
        InputError: no sample, no sample rate, or values, axes or types that are not sound.
        AudioError: values that are not finite, or not on a scale of 1.
    """
    if sample_rate is None:
        raise InputError(f"{name}: pass sample_rate, the rate of its samples in Hz")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise InputError(f"{name}: sample_rate {sample_rate} is not between {MIN_RATE:,} and {MAX_RATE:,} Hz")
    values = np.asarray(samples.detach().cpu() if hasattr(samples, "detach") else samples)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise InputError(f"{name}: shape {values.shape}: pass (samples,), (samples, channels) or (channels, samples)")
    if values.shape[0] < values.shape[1]:
        values = values.T
    if not values.size:
        raise InputError(f"{name}: no sample")
    if values.shape[1] > MAX_CHANNELS:
        raise InputError(f"{name}: {values.shape[1]} channels: pass a list for several sounds")
    mono = to_mono(_to_float(values, name))
    return remove_mean(resample(mono, round(sample_rate), to_rate))


def _to_float(values: np.ndarray, name: str) -> np.ndarray:
    """float32 with full scale 1."""
    kind = values.dtype.name
    if kind in _FULL_SCALE:
        return values.astype(np.float32) * np.float32(1 / _FULL_SCALE[kind])
    if kind == "uint8":
        return (values.astype(np.float32) - 128) * np.float32(2**-7)
    if values.dtype.kind != "f":
        raise InputError(f"{name}: values of type {kind}: pass floats with full scale 1, or integers of up to 32 bits")
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite, which `check_values` refuses
        result = values.astype(np.float32)
    check_values(name, result)
    return result
