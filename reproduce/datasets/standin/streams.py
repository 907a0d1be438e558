"""Actions that last: strokes over a surface, rolling, pouring, tearing, engines, air and weather."""

from __future__ import annotations

import numpy as np

from reproduce.datasets.standin.excitation import (
    Excitation,
    Range,
    envelope,
    grains,
    pulses,
    random_levels,
    scatter,
    single,
    spans,
    steady_times,
    strengths,
)
from reproduce.datasets.standin.materials import SAMPLE_RATE
from reproduce.datasets.standin.notes import harmonics, tone

_GLIDE_STEPS = 6  # resonators that a gliding resonance is cross-faded over


def crumple(rng: np.random.Generator, samples: int, length: Range = (0.5, 1.4)) -> Excitation:
    """Creases giving way: crackles of very unequal strength (a power law) in irregular clusters."""
    curve = envelope(samples, *spans(rng, samples, length, (0.1, 0.5)), rise=rng.uniform(0.2, 0.8))
    curve *= 0.25 + 0.75 * random_levels(rng, samples)
    where = np.flatnonzero(rng.random(samples, dtype=np.float32) < curve * 90.0 / SAMPLE_RATE)
    force = np.minimum(rng.pareto(1.4, len(where)) + 0.1, 12) * rng.choice([-1, 1], len(where))
    return single(pulses(samples, where / SAMPLE_RATE, force))


def scrape(
    rng: np.random.Generator,
    samples: int,
    stroke: Range = (0.35, 0.8),
    gap: Range = (0.08, 0.3),
) -> Excitation:
    """One-way strokes over a rough surface, each swelling and stopping short."""
    return single(grains(rng, envelope(samples, *spans(rng, samples, stroke, gap), rise=0.7), 2500))


def saw(rng: np.random.Generator, samples: int, rate: Range = (1.6, 2.6)) -> Excitation:
    """To and fro without a pause: teeth ticking past, the push strong and high, the pull weak and lower."""
    period = 1 / rng.uniform(*rate)
    cycle = np.arange(samples) / SAMPLE_RATE / period + rng.uniform()
    speed = np.abs(np.sin(np.pi * cycle)) ** 0.7
    push = (np.floor(cycle) % 2 == 0).astype(np.float32)
    teeth_passed = np.floor(np.cumsum(speed) * rng.uniform(70, 110) / SAMPLE_RATE)
    ticks = np.diff(teeth_passed, prepend=0) * np.exp(rng.normal(0, 0.3, samples))
    rough = 0.25 * grains(rng, speed, 1500)
    force = ticks * speed + rough
    return Excitation(
        np.stack([force * push, 0.5 * force * (1 - push)]).astype(np.float32), np.array([1.1, 0.8]), (None, None)
    )


def rub(rng: np.random.Generator, samples: int, hz: Range = (280, 420)) -> Excitation:
    """Slow stick-slip: a squeak whose pitch swells and sinks with the speed of the hand."""
    cycle = np.arange(samples) / SAMPLE_RATE * rng.uniform(0.9, 1.4) + rng.uniform(0, 0.3)
    speed = np.abs(np.sin(np.pi * cycle))
    squeak = tone(rng.uniform(*hz) * (0.6 + 0.5 * speed), harmonics(16, 0.8))
    return single((squeak + 0.05 * rng.standard_normal(samples)) * speed**1.5)


def roll(rng: np.random.Generator, samples: int) -> Excitation:
    """A rolling thing: dense small impacts, stronger once per turn, slowing down as it runs out."""
    turning = np.zeros(samples, np.float32)
    for start, span in zip(*spans(rng, samples, (1.8, 3.5), (0.2, 0.6)), strict=True):
        first, count = round(start * SAMPLE_RATE), round(span * SAMPLE_RATE)
        position = np.linspace(0, 1, count)
        wobble = 0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(3.0, 6.0) * span * (position - 0.3 * position**2))
        curve = (0.12 + 0.88 * wobble**2) * np.minimum(1, position * 12) * (1 - 0.75 * position)
        last = min(first + count, samples)
        turning[first:last] = curve[: max(last - first, 0)]
    return single(grains(rng, turning, 900))


def pour(rng: np.random.Generator, samples: int, rate: float = 220, glide: float = 0.0) -> Excitation:
    """A stream of many small impacts.

    Args:
        rate: impacts per second, of a stream without a glide.
        glide: nepers by which the resonance rises (or falls) over each pour, as the air column of a vessel does while
            it fills (or empties).
    """
    if not glide:
        flow = 0.5 + 0.5 * random_levels(rng, samples)
        times = np.flatnonzero(rng.random(samples) < rate / SAMPLE_RATE * flow) / SAMPLE_RATE
        return scatter(rng, samples, times, rng.exponential(1, len(times)), spread=0.5, sizes=5)
    position = np.full(samples, -1.0)
    for start, span in zip(*spans(rng, samples, (2.6, 4.2), (0.3, 0.7)), strict=True):
        first, count = round(start * SAMPLE_RATE), round(span * SAMPLE_RATE)
        position[first : first + count] = np.linspace(0, 1, count)[: max(samples - first, 0)]
    stream = grains(rng, (position >= 0).astype(np.float32), 2500)
    steps = np.linspace(0, 1, _GLIDE_STEPS)
    weights = np.maximum(0, 1 - np.abs(position - steps[:, None]) * (_GLIDE_STEPS - 1))
    return Excitation((stream * weights).astype(np.float32), np.exp(glide * (steps - 0.5)), (None,) * _GLIDE_STEPS)


def rip(rng: np.random.Generator, samples: int) -> Excitation:
    """Fibres snapping ever faster along a tear, then nothing."""
    starts, lengths = spans(rng, samples, (0.4, 1.1), (0.25, 0.8))
    track = np.zeros(samples, np.float32)
    for start, span in zip(starts, lengths, strict=True):
        curve = envelope(samples, [start], [span], rise=0.92) ** 2
        track += grains(rng, curve, 3000)
    return single(track)


def shuffle(rng: np.random.Generator, samples: int) -> Excitation:
    """A riffle: flaps of card at 50 Hz slowing to 18, again and again, each closed by a pat."""
    track = np.zeros(samples)
    for start, span in zip(*spans(rng, samples, (0.6, 1.0), (0.25, 0.5)), strict=True):
        phase = np.cumsum(np.geomspace(50, 18, 200)) * span / 200
        ticks = np.interp(np.arange(1, int(phase[-1])), phase, np.linspace(0, span, 200))
        track += pulses(samples, start + ticks + rng.normal(0, 0.001, len(ticks)), strengths(rng, len(ticks), 0.3))
        track += pulses(samples, np.array([start + span + 0.08]), np.array([3.0]))
    return single(track)


def squelch(rng: np.random.Generator, samples: int) -> Excitation:
    """Heavy steps, each a soft thud followed by a wet release half a step later."""
    steps = steady_times(rng, samples, (1.5, 2.2), 0.04)
    wet = envelope(samples, [s + 0.12 for s in steps], [0.2] * len(steps), rise=0.3)
    return single(3 * pulses(samples, steps, strengths(rng, len(steps), 0.15)) + 0.7 * grains(rng, wet, 500))


def motor(rng: np.random.Generator, samples: int) -> Excitation:
    """Firing strokes of a small engine, the speed hunting slowly, blades hissing at each stroke."""
    time = np.arange(samples) / SAMPLE_RATE
    speed = rng.uniform(19, 30) * (1 + 0.12 * np.sin(2 * np.pi * rng.uniform(0.15, 0.4) * time + rng.uniform(0, 6)))
    strokes = np.diff(np.floor(np.cumsum(speed) / SAMPLE_RATE), prepend=0) * np.exp(rng.normal(0, 0.25, samples))
    return single(strokes + 0.04 * rng.standard_normal(samples))


def puff(
    rng: np.random.Generator, samples: int, length: Range = (0.4, 0.8), gap: Range = (0.5, 1.2), buzz: float = 0.0
) -> Excitation:
    """Blown air; `buzz` adds the flutter of a soft valve at 60 to 110 Hz."""
    curve = envelope(samples, *spans(rng, samples, length, gap), rise=0.25)
    air = rng.standard_normal(samples)
    if buzz:
        flutter = rng.uniform(60, 110) * (0.7 + 0.5 * curve)
        air = (1 - buzz) * air + 4 * buzz * tone(flutter, harmonics(40, 0.3)) * (1 + 0.5 * air)
    return single(air * curve)


def weather(rng: np.random.Generator, samples: int, rate: float = 0.0) -> Excitation:
    """A bed of noise that swells over seconds (wind) or, with a `rate` in Hz, of countless small hits (rain)."""
    knots = np.arange(0, samples + SAMPLE_RATE, SAMPLE_RATE)
    level = np.interp(np.arange(samples), knots, rng.uniform(0.15 if not rate else 0.7, 1, len(knots)))
    return single(grains(rng, level, rate) if rate else rng.standard_normal(samples) * level**2)


def bowl_a_ball(rng: np.random.Generator, samples: int) -> Excitation:
    """A ball rolls down a lane for a second or two, then pins scatter."""
    rumble, crash = np.zeros(samples, np.float32), np.zeros(samples)
    for start, span in zip(*spans(rng, samples, (1.3, 2.2), (1.2, 2.0)), strict=True):
        rumble += grains(rng, envelope(samples, [start], [span], rise=0.8), 700)
        after = start + span + np.concatenate([[0.0], rng.exponential(0.15, 14)])
        crash += pulses(samples, after, 4 * rng.exponential(1, 15))
    return Excitation(np.stack([rumble, crash]).astype(np.float32), np.ones(2), (None, "pins"))
