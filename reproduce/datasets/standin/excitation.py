"""Building blocks of excitations: pulses, grains, strokes and their timing.

An action is called as `action(rng, samples, ...) -> Excitation`; its keyword arguments are ranges that one performance
draws from. Every action shows itself within half a second and also has structure at slower scales (strokes, phrases).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.datasets.standin.materials import SAMPLE_RATE

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Excitation:
    """Forces on one or more resonators over time.

    Args:
        tracks: (resonators, samples) float32.
        pitches: (resonators,) factor on the tuning of the object.
        materials: name in MATERIALS of each resonator; None for the sound's material.
    """

    tracks: np.ndarray
    pitches: np.ndarray
    materials: tuple[str | None, ...]


def single(track: np.ndarray) -> Excitation:
    """One resonator, of the sound's material and tuning."""
    return Excitation(track[None].astype(np.float32), np.ones(1), (None,))


def pulses(samples: int, times: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """(samples,) with a pulse of each strength at each time (seconds); times outside the clip are dropped."""
    at = np.round(np.asarray(times) * SAMPLE_RATE).astype(int)
    inside = (at >= 0) & (at < samples)
    return np.bincount(at[inside], weights=np.asarray(strengths)[inside], minlength=samples)


def grains(rng: np.random.Generator, envelope: np.ndarray, rate: float) -> np.ndarray:
    """Dense random micro-impacts: `rate` per second where the envelope is 1, louder and denser where it is high."""
    hits = rng.random(len(envelope), dtype=np.float32) < rate / SAMPLE_RATE * np.clip(envelope, 0, 1)
    track = np.zeros(len(envelope), np.float32)
    where = np.flatnonzero(hits)
    track[where] = rng.exponential(1.0, len(where)) * np.sqrt(envelope[where]) * rng.choice([-1, 1], len(where))
    return track


def envelope(samples: int, starts: Sequence[float], lengths: Sequence[float], rise: float = 0.5) -> np.ndarray:
    """Raised-cosine strokes, (samples,); `rise` is the position of the peak in the stroke (0 to 1)."""
    curve = np.zeros(samples, np.float32)
    for start, length in zip(starts, lengths, strict=True):
        first, count = round(start * SAMPLE_RATE), max(round(length * SAMPLE_RATE), 2)
        stroke = np.interp(np.linspace(0, 1, count), [0, rise, 1], [0, 0.5, 1])
        last = min(first + count, samples)
        if 0 <= first < last:
            curve[first:last] = np.maximum(curve[first:last], np.sin(np.pi * stroke[: last - first]))
    return curve


def spans(rng: np.random.Generator, samples: int, length: Range, gap: Range) -> tuple[list[float], list[float]]:
    """Starts and lengths (seconds) of phrases that fill the clip, each followed by a pause.

    A phrase never takes more than 90% of the clip, so a short clip still holds a whole one.
    """
    seconds = samples / SAMPLE_RATE
    starts, lengths = [], []
    now = rng.uniform(0, 0.1) * min(seconds, 3)
    while now < 0.95 * seconds:
        starts.append(now)
        lengths.append(min(rng.uniform(*length), 0.9 * seconds))
        now += lengths[-1] + rng.uniform(*gap)
    return starts, lengths


def steady_times(rng: np.random.Generator, samples: int, rate: Range, jitter: float) -> np.ndarray:
    """Times (seconds) of a pulse kept at a drawn rate (Hz), each off by `jitter` periods."""
    period = 1 / rng.uniform(*rate)
    count = int(samples / SAMPLE_RATE / period) + 1
    first = rng.uniform(0, min(period, 0.2 * samples / SAMPLE_RATE))
    return first + period * (np.arange(count) + rng.normal(0, jitter, count))


def strengths(rng: np.random.Generator, count: int, spread: float = 0.25) -> np.ndarray:
    """(count,) log-normal strengths around 1."""
    return np.exp(rng.normal(0, spread, count))


def random_levels(rng: np.random.Generator, samples: int) -> np.ndarray:
    """(samples,) level in 0..1 that changes every 0.1 s, with lines between."""
    knots = np.arange(0, samples + 1600, 1600)
    return np.interp(np.arange(samples), knots, rng.random(len(knots)))


def scatter(
    rng: np.random.Generator, samples: int, times: np.ndarray, force: np.ndarray, spread: float, sizes: int = 4
) -> Excitation:
    """Give each touch to one of `sizes` objects, tuned over `spread` nepers to either side.

    Args:
        times: (touches,) seconds.
        force: (touches,) strength of each.
    """
    which = rng.integers(sizes, size=len(times))
    tracks = np.stack([pulses(samples, times[which == k], force[which == k]) for k in range(sizes)])
    return Excitation(tracks.astype(np.float32), np.exp(spread * np.linspace(-1, 1, sizes)), (None,) * sizes)
