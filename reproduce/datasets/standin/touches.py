"""Actions of separate touches: blows, knocks, bounces, rattles and drops."""

from __future__ import annotations

import numpy as np

from reproduce.datasets.standin.excitation import (
    Excitation,
    Range,
    pulses,
    scatter,
    single,
    spans,
    steady_times,
    strengths,
)
from reproduce.datasets.standin.materials import SAMPLE_RATE


def strike(rng: np.random.Generator, samples: int, rate: Range = (0.8, 1.5), jitter: float = 0.08) -> Excitation:
    """Separate blows at a rate in Hz."""
    times = steady_times(rng, samples, rate, jitter)
    return single(pulses(samples, times, strengths(rng, len(times))))


def knock(rng: np.random.Generator, samples: int, rate: Range) -> Excitation:
    """Blows in threes, `rate` groups per second, 0.11 to 0.15 s between the blows of a group."""
    inner = rng.uniform(0.11, 0.15)
    groups = steady_times(rng, samples, rate, 0.05)
    times = (groups[:, None] + inner * np.arange(3)).ravel()
    return single(pulses(samples, times, strengths(rng, len(times))))


def bounce(rng: np.random.Generator, samples: int) -> Excitation:
    """A dropped thing: each bounce shorter and weaker than the last by the coefficient of restitution."""
    times: list[float] = []
    forces: list[float] = []
    now, seconds = rng.uniform(0, 0.05), samples / SAMPLE_RATE
    while now < seconds:
        restitution, interval, force = rng.uniform(0.68, 0.82), min(rng.uniform(0.35, 0.6), 0.35 * seconds), 1.0
        while interval > 0.02:
            times.append(now)
            forces.append(force)
            now, interval, force = now + interval, interval * restitution, force * restitution
        now += rng.uniform(0.4, 1.2)
    return single(pulses(samples, np.array(times), np.array(forces)))


def accelerate(
    rng: np.random.Generator,
    samples: int,
    interval: Range = (0.42, 0.55),
    length: Range = (2.4, 4.0),
    reverse: bool = False,
) -> Excitation:
    """Equal blows that come ever faster (or, reversed, ever slower), from `interval` seconds apart down to 0.06."""
    times: list[np.ndarray] = []
    for start, span in zip(*spans(rng, samples, length, (0.3, 0.8)), strict=True):
        slowest = min(rng.uniform(*interval), 0.3 * span)
        steps = np.geomspace(slowest, min(0.06, slowest / 3), max(round(span / (slowest * 0.45)), 3))
        ticks = np.concatenate([[0.0], np.cumsum(steps)])
        ticks *= span / ticks[-1]
        times.append(start + (span - ticks if reverse else ticks))
    flat = np.concatenate(times)
    return single(pulses(samples, flat, strengths(rng, len(flat), 0.15)))


def spin(rng: np.random.Generator, samples: int) -> Excitation:
    """A spun coin settling: the rattle quickens from 6 to 45 Hz while it dies away, then stops dead."""
    track = np.zeros(samples)
    for start, span in zip(*spans(rng, samples, (2.0, 3.5), (0.5, 1.0)), strict=True):
        grid = np.linspace(0, span, 400)
        phase = np.cumsum(rng.uniform(5, 7) * (45 / 6) ** (grid / span)) * span / 400
        ticks = np.interp(np.arange(1, int(phase[-1])), phase, grid)
        track += pulses(samples, start + ticks, (1.1 - ticks / span) * strengths(rng, len(ticks), 0.1))
    return single(track)


def shake(rng: np.random.Generator, samples: int) -> Excitation:
    """Loose bits thrown to and fro: a burst of small hits at each turn."""
    turns = steady_times(rng, samples, (3.0, 4.6), 0.04)
    times = (turns[:, None] + rng.normal(0, 0.022, (len(turns), 30))).ravel()
    return single(pulses(samples, times, rng.exponential(1, len(times)) * rng.choice([-1, 1], len(times))))


def drip(rng: np.random.Generator, samples: int) -> Excitation:
    """Drops of four sizes at irregular times."""
    period = 1 / rng.uniform(1.8, 3.2)
    times = rng.uniform(0, 0.15) + np.cumsum(
        rng.uniform(0.35, 1.65, 2 * int(samples / SAMPLE_RATE / period) + 2) * period
    )
    times -= times[0]
    return scatter(rng, samples, times + rng.uniform(0, 0.1), strengths(rng, len(times), 0.3), spread=0.35)


def drum_kit(rng: np.random.Generator, samples: int) -> Excitation:
    """A rock beat: bass drum on 1 and 3, snare on 2 and 4, cymbal on the quavers."""
    quaver = rng.uniform(0.19, 0.28)
    times = np.arange(int(samples / SAMPLE_RATE / quaver) + 1) * quaver
    slot = np.arange(len(times)) % 8
    played = [np.isin(slot, (0, 4, 5 if rng.random() < 0.5 else 3)), np.isin(slot, (2, 6)), np.ones(len(times), bool)]
    levels = (1.5, 1.2, 0.35)
    tracks = [
        pulses(samples, times[hit], level * strengths(rng, int(hit.sum()), 0.15))
        for hit, level in zip(played, levels, strict=True)
    ]
    return Excitation(np.stack(tracks).astype(np.float32), np.ones(3), ("skin", "snare", "cymbal"))


def chop(rng: np.random.Generator, samples: int) -> Excitation:
    """A heavy blow every second or so, and pieces tumbling after it."""
    blows = steady_times(rng, samples, (0.7, 1.0), 0.05)
    debris = (blows[:, None] + 0.2 + rng.exponential(0.06, (len(blows), 4))).ravel()
    tracks = [
        pulses(samples, blows, strengths(rng, len(blows))),
        pulses(samples, debris, 0.35 * rng.exponential(1, len(debris))),
    ]
    return Excitation(np.stack(tracks).astype(np.float32), np.ones(2), ("board", None))
