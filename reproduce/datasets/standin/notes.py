"""Actions with a pitch: melodies, plucked notes, chords, laughter, sirens and hum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reproduce.datasets.standin.excitation import Excitation, Range, pulses, single, spans, steady_times, strengths
from reproduce.datasets.standin.materials import SAMPLE_RATE

_SCALE = 2.0 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)  # a major scale


def harmonics(count: int, slope: float, even: float = 1.0) -> np.ndarray:
    """(count,) amplitudes falling as 1 / number ** slope; `even` scales the even ones (small for a closed pipe)."""
    number = np.arange(1, count + 1)
    return number**-slope * np.where(number % 2 == 0, even, 1.0)


def tone(hz: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """A periodic wave of unit peak whose pitch follows `hz` (samples,). Harmonics that would alias are left out."""
    usable = amplitudes[: max(int(0.46 * SAMPLE_RATE / hz.max()), 1)]
    grid = np.arange(2048) / 2048
    number = np.arange(1, len(usable) + 1)[:, None]
    table = (usable[:, None] * np.sin(2 * np.pi * number * grid)).sum(0)
    phase = np.cumsum(hz / SAMPLE_RATE)
    return (table / np.abs(table).max())[((phase % 1) * 2048).astype(int)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Melody:
    """A sustained melody (blown, bowed or sung); calling it plays it.

    Args:
        pitch: Hz, range of the key note.
        note: seconds per note.
        slope: harmonics fall as 1 / number ** slope.
        even: level of the even harmonics.
        breath: level of the noise.
        vibrato: depth in pitch (nepers), at 5 to 6.5 Hz.
        tremolo: depth in level, at the same rate.
        glide: seconds from note to note.
        attack: seconds until a note has its level.
        pauses: chance of a pause per note.
        chord: ratios that sound together.
        drone: level of an unchanging low note.
    """

    pitch: Range
    note: Range = (0.25, 0.9)
    slope: float = 1.0
    even: float = 1.0
    breath: float = 0.02
    vibrato: float = 0.0
    tremolo: float = 0.0
    glide: float = 0.01
    attack: float = 0.03
    pauses: float = 0.1
    chord: tuple[float, ...] = (1.0,)
    drone: float = 0.0

    def __call__(self, rng: np.random.Generator, samples: int) -> Excitation:
        key = np.exp(rng.uniform(*np.log(self.pitch)))
        count = int(samples / SAMPLE_RATE / self.note[0]) + 2
        edges = np.concatenate([[0], np.cumsum(rng.uniform(*self.note, count) * SAMPLE_RATE).astype(int)])
        degree = _wander(rng, count, len(_SCALE))
        which = np.searchsorted(edges, np.arange(samples), side="right") - 1
        line = _smooth(np.log(_SCALE[degree])[which], self.glide)
        loud = _smooth(((rng.random(count) >= self.pauses) * rng.uniform(0.6, 1, count))[which], self.attack)
        since = (np.arange(samples) - edges[which]) / SAMPLE_RATE
        loud *= 1 - 0.5 * np.exp(-since / max(self.attack, 1e-3))  # every note is begun anew
        wave = np.sin(2 * np.pi * rng.uniform(5, 6.5) * np.arange(samples) / SAMPLE_RATE)
        hz = key * np.exp(line + self.vibrato * wave * np.minimum(1, since / 0.25))
        overtones = harmonics(40, self.slope, self.even)
        sound = sum((tone(hz * ratio, overtones) for ratio in self.chord), np.zeros(samples)) * (
            1 + self.tremolo * wave
        )
        sound = (sound + self.breath * rng.standard_normal(samples)) * loud
        if self.drone:
            sound += self.drone * tone(np.full(samples, key / 2), overtones)
        return single(sound)


def _wander(rng: np.random.Generator, count: int, steps: int) -> np.ndarray:
    """A melody: a walk over 0..steps - 1 by one or two steps at a time, turned back at the ends."""
    walk = rng.integers(steps) + np.cumsum(rng.choice([-2, -1, 1, 2], count))
    return np.abs((walk + steps - 1) % max(2 * steps - 2, 1) - (steps - 1))


def _smooth(curve: np.ndarray, seconds: float) -> np.ndarray:
    """A moving average over `seconds`."""
    width = max(int(seconds * SAMPLE_RATE), 1)
    total = np.cumsum(np.concatenate([np.full(width, curve[0]), curve]))
    return (total[width:] - total[:-width]) / width


def pick(rng: np.random.Generator, samples: int, rate: Range = (2.5, 4.5), notes: int = 5) -> Excitation:
    """Single struck or plucked notes wandering over a scale."""
    times = steady_times(rng, samples, rate, 0.15 * 0.3)
    degrees = np.sort(rng.choice(8, notes, replace=False))
    which = _wander(rng, len(times), notes)
    force = strengths(rng, len(times))
    tracks = np.stack([pulses(samples, times[which == k], force[which == k]) for k in range(notes)])
    return Excitation(tracks.astype(np.float32), _SCALE[degrees], (None,) * notes)


def strum(rng: np.random.Generator, samples: int, spread: Range = (0.012, 0.03)) -> Excitation:
    """All strings of a chord at 1.3 to 1.9 Hz, `spread` of a period apart (0.2 plays them one by one)."""
    period = 1 / rng.uniform(1.3, 1.9)
    chord = np.array([1.0, 1.26, 1.5, 2.0, 2.52])
    strokes = np.arange(int(samples / SAMPLE_RATE / period) + 1) * period + rng.uniform(0, 0.1)
    lag = rng.uniform(*spread) * period
    order = rng.permuted(np.tile(np.arange(5), (len(strokes), 1)), axis=1)
    tracks = [pulses(samples, strokes + lag * order[:, k], strengths(rng, len(strokes))) for k in range(5)]
    return Excitation(np.stack(tracks).astype(np.float32), chord, (None,) * 5)


def laugh(rng: np.random.Generator, samples: int, reverse: bool = False) -> Excitation:
    """Phrases of voiced bursts that sink in pitch, slow and fade; reversed, they climb, quicken and swell."""
    key = np.exp(rng.uniform(*np.log((180, 340))))
    hz, level = np.full(samples, key), np.zeros(samples)
    for start, span in zip(*spans(rng, samples, (1.2, 2.2), (0.3, 0.7)), strict=True):
        position = np.linspace(0, 1, round(span * SAMPLE_RATE))
        bursts = np.sin(np.pi * ((6.0 * position - 1.5 * position**2) * span % 1)) ** 3 * (1 - 0.8 * position)
        fall = 1.35 - 0.6 * position
        if reverse:
            bursts, fall = bursts[::-1], fall[::-1]
        first = round(start * SAMPLE_RATE)
        last = min(first + len(position), samples)
        hz[first:last], level[first:last] = key * fall[: last - first], bursts[: last - first]
    voice = tone(hz, harmonics(30, 1.2)) + 0.12 * rng.standard_normal(samples)
    return single(voice * level)


def siren(rng: np.random.Generator, samples: int, reverse: bool = False) -> Excitation:
    """A tone that climbs an octave and a half and drops back at once (reversed: falls and jumps up)."""
    position = np.arange(samples) / SAMPLE_RATE / rng.uniform(1.2, 2.4) + rng.uniform(0, 0.15)
    position = position % 1
    hz = rng.uniform(350, 520) * 2 ** (1.5 * (1 - position if reverse else position))
    return single(tone(hz, harmonics(12, 1.5)) + 0.01 * rng.standard_normal(samples))


def hum(rng: np.random.Generator, samples: int) -> Excitation:
    """Mains hum: 50 Hz and its harmonics, unchanging."""
    return single(tone(np.full(samples, rng.uniform(49.8, 50.2)), harmonics(12, 0.6, rng.uniform(0.8, 2))))
