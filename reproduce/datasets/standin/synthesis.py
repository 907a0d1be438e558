"""From an action and a material to a recorded waveform: excitation * object * room + microphone noise.

Convolutions are products of spectra, in single precision: a ten-second clip takes tens of milliseconds on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import fft

from reproduce.datasets.standin.excitation import Excitation
from reproduce.datasets.standin.materials import SAMPLE_RATE, Resonator

Action = Callable[[np.random.Generator, int], Excitation]


_ROOM_SAMPLES = int(0.8 * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Sound:
    """A class of sounds.

    Args:
        action: `action(rng, samples) -> Excitation`.
        material: name in MATERIALS of what is excited.
        softness: factor on the contact time: a hand touches for longer than a stick and sounds duller.
    """

    action: Action
    material: str
    softness: float = 1.0

    def perform(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """One performance of one source: (samples,) float32, dry, with unit level in its loud parts."""
        excitation = self.action(rng, samples)
        objects = {name or self.material: Resonator.draw(rng, name or self.material) for name in excitation.materials}
        responses = [
            objects[name or self.material].impulse_response(float(pitch), self.softness)
            for name, pitch in zip(excitation.materials, excitation.pitches, strict=True)
        ]
        size = fft.next_fast_len(samples + max(map(len, responses)), real=True)
        spectrum = np.zeros(size // 2 + 1, np.complex64)
        for track, response in zip(excitation.tracks, responses, strict=True):
            spectrum += fft.rfft(track, size) * fft.rfft(response, size)
        return level(fft.irfft(spectrum, size)[:samples])


def level(waveform: np.ndarray) -> np.ndarray:
    """Scale so that the loudest tenth of 50 ms windows has unit RMS; sparse and dense sounds get comparable levels."""
    window = SAMPLE_RATE // 20
    usable = len(waveform) // window * window
    power = np.mean(waveform[:usable].reshape(-1, window) ** 2, axis=1)
    loud = np.sort(power)[-max(len(power) // 10, 1) :].mean()
    return (waveform / max(float(np.sqrt(loud)), 1e-9)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """The acoustics of a recording: room, microphone and background noise.

    Args:
        response: (samples,) impulse response, direct sound first.
        colour: dB at octaves from 62.5 Hz to 8 kHz, of the microphone.
        noise_db: level of the background under the sound's loud parts.
        noise_slope: the background falls by this many dB per octave.
        gain_db: level of the loud parts relative to full scale.
    """

    response: np.ndarray
    colour: np.ndarray
    noise_db: float
    noise_slope: float
    gain_db: float

    @classmethod
    def draw(cls, rng: np.random.Generator, noise_db: tuple[float, float] = (-46.0, -24.0)) -> Scene:
        """A random scene with a background level in the range `noise_db`."""
        time = np.arange(_ROOM_SAMPLES) / SAMPLE_RATE
        tail = rng.standard_normal(_ROOM_SAMPLES) * np.exp(-6.9 * time / rng.uniform(0.12, 0.6))
        tail[: int(rng.uniform(0.002, 0.012) * SAMPLE_RATE)] = 0
        response = tail * 10 ** (rng.uniform(-22, -7) / 20) / np.sqrt(np.sum(tail**2))
        response[0] = 1.0
        slope = rng.uniform(-1.2, 1.2) * np.arange(-4, 4)
        colour = slope + rng.normal(0, 2.0, 8)
        return cls(
            response.astype(np.float32), colour, rng.uniform(*noise_db), rng.uniform(1.5, 5.0), rng.uniform(-28, -16)
        )

    def record(self, rng: np.random.Generator, dry: np.ndarray) -> np.ndarray:
        """Record `dry`, (samples,) of unit level, in this scene: (samples,) float32 within full scale."""
        size = fft.next_fast_len(len(dry) + _ROOM_SAMPLES, real=True)
        octave = np.log2(np.maximum(fft.rfftfreq(size, 1 / SAMPLE_RATE), 31.25) / 62.5)
        microphone = 10 ** (np.interp(octave, np.arange(8), self.colour) / 20)
        wet = fft.irfft(fft.rfft(dry, size) * fft.rfft(self.response, size) * microphone.astype(np.float32), size)
        wet = level(wet[: len(dry)]) if dry.any() else wet[: len(dry)]
        hiss = np.exp(1j * rng.uniform(0, 2 * np.pi, len(octave)).astype(np.float32))
        hiss *= (10 ** (-self.noise_slope * octave / 20)).astype(np.float32)
        noise = fft.irfft(hiss, size)[: len(dry)]
        wet = wet + noise * np.float32(10 ** (self.noise_db / 20) / np.sqrt(np.mean(noise**2)))
        wet *= np.float32(10 ** (self.gain_db / 20))
        return wet * np.float32(min(1.0, 0.97 / max(float(np.abs(wet).max()), 1e-9)))


def to_pcm16(waveform: np.ndarray) -> np.ndarray:
    """(samples,) int16. Rounded here and not in the encoder, so that the samples depend on this code alone."""
    return np.rint(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
