"""What excites an object: each action is a pattern of touches, strokes or breaths over time.

An action is called as `action(rng, samples, ...) -> Excitation`; its keyword arguments are ranges that one performance
draws from. Every action shows itself within half a second and also has structure at slower scales (strokes, phrases).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.datasets.standin.materials import SAMPLE_RATE

Range = tuple[float, float]


_SCALE = 2.0 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)  # a major scale
_GLIDE_STEPS = 6  # resonators that a gliding resonance is cross-faded over


@dataclass(frozen=True, slots=True)
class Excitation:
    """Forces on one or more resonators.

    Args:
        tracks: (resonators, samples) float32.
        pitches: (resonators,) how many times higher than the object's own tuning each one is.
        materials: what each resonator is made of; None for the sound's own material.
    """

    tracks: np.ndarray
    pitches: np.ndarray
    materials: tuple[str | None, ...]


# --- building blocks ---


def single(track: np.ndarray) -> Excitation:
    return Excitation(track[None].astype(np.float32), np.ones(1), (None,))


def pulses(samples: int, times: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """(samples,) with a pulse of each strength at each time (seconds); times outside are dropped."""
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
    """Raised-cosine strokes, (samples,); `rise` is where in the stroke the peak lies (0 to 1)."""
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
    return np.exp(rng.normal(0, spread, count))


# --- touches ---


def strike(rng: np.random.Generator, samples: int, rate: Range = (0.8, 1.5), jitter: float = 0.08) -> Excitation:
    """Separate blows at a rate in Hz."""
    times = steady_times(rng, samples, rate, jitter)
    return single(pulses(samples, times, strengths(rng, len(times))))


def knock(rng: np.random.Generator, samples: int, rate: Range = (0.8, 1.3), group: int = 3) -> Excitation:
    """Blows in groups, `rate` groups per second, 0.11 to 0.15 s between the blows of a group."""
    inner = rng.uniform(0.11, 0.15)
    groups = steady_times(rng, samples, rate, 0.05)
    times = (groups[:, None] + inner * np.arange(group)).ravel()
    return single(pulses(samples, times, strengths(rng, len(times))))


def bounce(rng: np.random.Generator, samples: int, drop: Range = (0.35, 0.6), gap: Range = (0.4, 1.2)) -> Excitation:
    """A dropped thing: each bounce shorter and weaker than the last by the coefficient of restitution."""
    times: list[float] = []
    forces: list[float] = []
    now, seconds = rng.uniform(0, 0.05), samples / SAMPLE_RATE
    while now < seconds:
        restitution, interval, force = rng.uniform(0.68, 0.82), min(rng.uniform(*drop), 0.35 * seconds), 1.0
        while interval > 0.02:
            times.append(now)
            forces.append(force)
            now, interval, force = now + interval, interval * restitution, force * restitution
        now += rng.uniform(*gap)
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


def spin(rng: np.random.Generator, samples: int, length: Range = (2.0, 3.5)) -> Excitation:
    """A spun coin settling: the rattle quickens from 6 to 45 Hz while it dies away, then stops dead."""
    track = np.zeros(samples)
    for start, span in zip(*spans(rng, samples, length, (0.5, 1.0)), strict=True):
        grid = np.linspace(0, span, 400)
        phase = np.cumsum(rng.uniform(5, 7) * (45 / 6) ** (grid / span)) * span / 400
        ticks = np.interp(np.arange(1, int(phase[-1])), phase, grid)
        track += pulses(samples, start + ticks, (1.1 - ticks / span) * strengths(rng, len(ticks), 0.1))
    return single(track)


def shake(rng: np.random.Generator, samples: int, rate: Range = (3.0, 4.6), count: int = 30) -> Excitation:
    """Loose bits thrown to and fro: a burst of small hits at each turn."""
    turns = steady_times(rng, samples, rate, 0.04)
    times = (turns[:, None] + rng.normal(0, 0.022, (len(turns), count))).ravel()
    return single(pulses(samples, times, rng.exponential(1, len(times)) * rng.choice([-1, 1], len(times))))


def crumple(rng: np.random.Generator, samples: int, rate: float = 90, length: Range = (0.5, 1.4)) -> Excitation:
    """Creases giving way: crackles of very unequal strength (a power law) in irregular clusters."""
    curve = envelope(samples, *spans(rng, samples, length, (0.1, 0.5)), rise=rng.uniform(0.2, 0.8))
    curve *= 0.25 + 0.75 * (np.interp(np.arange(samples), np.arange(0, samples + 1600, 1600), _walk(rng, samples)))
    where = np.flatnonzero(rng.random(samples, dtype=np.float32) < curve * rate / SAMPLE_RATE)
    force = np.minimum(rng.pareto(1.4, len(where)) + 0.1, 12) * rng.choice([-1, 1], len(where))
    return single(pulses(samples, where / SAMPLE_RATE, force))


def _walk(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Random levels in 0..1, one per 0.1 s."""
    return rng.random(len(np.arange(0, samples + 1600, 1600)))


def drip(rng: np.random.Generator, samples: int, rate: Range = (1.8, 3.2)) -> Excitation:
    """Drops at irregular times, each one its own size."""
    period = 1 / rng.uniform(*rate)
    times = rng.uniform(0, 0.15) + np.cumsum(
        rng.uniform(0.35, 1.65, 2 * int(samples / SAMPLE_RATE / period) + 2) * period
    )
    times -= times[0]
    return _scatter(rng, samples, times + rng.uniform(0, 0.1), strengths(rng, len(times), 0.3), spread=0.35)


def _scatter(
    rng: np.random.Generator, samples: int, times: np.ndarray, force: np.ndarray, spread: float, sizes: int = 4
) -> Excitation:
    """Give each touch to one of `sizes` objects, tuned `spread` nepers apart."""
    which = rng.integers(sizes, size=len(times))
    tracks = np.stack([pulses(samples, times[which == k], force[which == k]) for k in range(sizes)])
    return Excitation(tracks.astype(np.float32), np.exp(spread * np.linspace(-1, 1, sizes)), (None,) * sizes)


# --- strokes and streams ---


def scrape(
    rng: np.random.Generator,
    samples: int,
    stroke: Range = (0.35, 0.8),
    gap: Range = (0.08, 0.3),
    rate: float = 2500,
) -> Excitation:
    """One-way strokes over a rough surface, each swelling and stopping short; `rate` is the grain density in Hz."""
    return single(grains(rng, envelope(samples, *spans(rng, samples, stroke, gap), rise=0.7), rate))


def saw(rng: np.random.Generator, samples: int, rate: Range = (1.6, 2.6), teeth: Range = (70, 110)) -> Excitation:
    """To and fro without a pause: teeth ticking past, the push strong and high, the pull weak and lower."""
    period = 1 / rng.uniform(*rate)
    cycle = np.arange(samples) / SAMPLE_RATE / period + rng.uniform()
    speed = np.abs(np.sin(np.pi * cycle)) ** 0.7
    push = (np.floor(cycle) % 2 == 0).astype(np.float32)
    teeth_passed = np.floor(np.cumsum(speed) * rng.uniform(*teeth) / SAMPLE_RATE)
    ticks = np.diff(teeth_passed, prepend=0) * np.exp(rng.normal(0, 0.3, samples))
    rough = 0.25 * grains(rng, speed, 1500)
    force = ticks * speed + rough
    return Excitation(
        np.stack([force * push, 0.5 * force * (1 - push)]).astype(np.float32), np.array([1.1, 0.8]), (None, None)
    )


def rub(rng: np.random.Generator, samples: int, rate: Range = (0.9, 1.4), hz: Range = (280, 420)) -> Excitation:
    """Slow stick-slip: a squeak whose pitch swells and sinks with the speed of the hand."""
    cycle = np.arange(samples) / SAMPLE_RATE * rng.uniform(*rate) + rng.uniform(0, 0.3)
    speed = np.abs(np.sin(np.pi * cycle))
    squeak = tone(rng.uniform(*hz) * (0.6 + 0.5 * speed), harmonics(16, 0.8))
    return single((squeak + 0.05 * rng.standard_normal(samples)) * speed**1.5)


def roll(rng: np.random.Generator, samples: int, turn: Range = (3.0, 6.0), length: Range = (1.8, 3.5)) -> Excitation:
    """A rolling thing: dense small impacts, stronger once per turn, slowing down as it runs out."""
    turning = np.zeros(samples, np.float32)
    for start, span in zip(*spans(rng, samples, length, (0.2, 0.6)), strict=True):
        first, count = round(start * SAMPLE_RATE), round(span * SAMPLE_RATE)
        place = np.linspace(0, 1, count)
        wobble = 0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(*turn) * span * (place - 0.3 * place**2))
        curve = (0.12 + 0.88 * wobble**2) * np.minimum(1, place * 12) * (1 - 0.75 * place)
        last = min(first + count, samples)
        turning[first:last] = curve[: max(last - first, 0)]
    return single(grains(rng, turning, 900))


def pour(rng: np.random.Generator, samples: int, rate: float = 220, glide: float = 0.0) -> Excitation:
    """A stream of many small impacts. `glide` nepers: how far the resonance rises (or falls) over each pour, as the
    air column of a vessel does while it fills (or empties)."""
    if not glide:
        flow = 0.5 + 0.5 * np.interp(np.arange(samples), np.arange(0, samples + 1600, 1600), _walk(rng, samples))
        times = np.flatnonzero(rng.random(samples) < rate / SAMPLE_RATE * flow) / SAMPLE_RATE
        return _scatter(rng, samples, times, rng.exponential(1, len(times)), spread=0.5, sizes=5)
    place = np.full(samples, -1.0)
    for start, span in zip(*spans(rng, samples, (2.6, 4.2), (0.3, 0.7)), strict=True):
        first, count = round(start * SAMPLE_RATE), round(span * SAMPLE_RATE)
        place[first : first + count] = np.linspace(0, 1, count)[: max(samples - first, 0)]
    stream = grains(rng, (place >= 0).astype(np.float32), 2500)
    steps = np.linspace(0, 1, _GLIDE_STEPS)
    weights = np.maximum(0, 1 - np.abs(place - steps[:, None]) * (_GLIDE_STEPS - 1))
    return Excitation((stream * weights).astype(np.float32), np.exp(glide * (steps - 0.5)), (None,) * _GLIDE_STEPS)


def rip(rng: np.random.Generator, samples: int, length: Range = (0.4, 1.1)) -> Excitation:
    """Fibres snapping ever faster along a tear, then nothing."""
    starts, lengths = spans(rng, samples, length, (0.25, 0.8))
    track = np.zeros(samples, np.float32)
    for start, span in zip(starts, lengths, strict=True):
        curve = envelope(samples, [start], [span], rise=0.92) ** 2
        track += grains(rng, curve, 3000)
    return single(track)


def shuffle(rng: np.random.Generator, samples: int, length: Range = (0.6, 1.0)) -> Excitation:
    """A riffle: flaps of card at 50 Hz slowing to 18, again and again, each closed by a pat."""
    track = np.zeros(samples)
    for start, span in zip(*spans(rng, samples, length, (0.25, 0.5)), strict=True):
        phase = np.cumsum(np.geomspace(50, 18, 200)) * span / 200
        ticks = np.interp(np.arange(1, int(phase[-1])), phase, np.linspace(0, span, 200))
        track += pulses(samples, start + ticks + rng.normal(0, 0.001, len(ticks)), strengths(rng, len(ticks), 0.3))
        track += pulses(samples, np.array([start + span + 0.08]), np.array([3.0]))
    return single(track)


def squelch(rng: np.random.Generator, samples: int, rate: Range = (1.5, 2.2)) -> Excitation:
    """Heavy steps, each a soft thud followed by a wet release half a step later."""
    steps = steady_times(rng, samples, rate, 0.04)
    wet = envelope(samples, [s + 0.12 for s in steps], [0.2] * len(steps), rise=0.3)
    return single(3 * pulses(samples, steps, strengths(rng, len(steps), 0.15)) + 0.7 * grains(rng, wet, 500))


def motor(rng: np.random.Generator, samples: int, hz: Range = (19, 30), sweep: float = 0.12) -> Excitation:
    """Firing strokes of a small engine, the speed hunting slowly, blades hissing at each stroke."""
    time = np.arange(samples) / SAMPLE_RATE
    speed = rng.uniform(*hz) * (1 + sweep * np.sin(2 * np.pi * rng.uniform(0.15, 0.4) * time + rng.uniform(0, 6)))
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


# --- notes ---


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


def play(
    rng: np.random.Generator,
    samples: int,
    pitch: Range,
    note: Range = (0.25, 0.9),
    slope: float = 1.0,
    even: float = 1.0,
    breath: float = 0.02,
    vibrato: float = 0.0,
    tremolo: float = 0.0,
    glide: float = 0.01,
    attack: float = 0.03,
    rest: float = 0.1,
    chord: tuple[float, ...] = (1.0,),
    drone: float = 0.0,
) -> Excitation:
    """A sustained melody (blown, bowed or sung).

    `pitch` Hz is the range of the key note, `note` seconds per note, `slope` and `even` shape the harmonics, `vibrato`
    and `tremolo` are depths in pitch and level at 5 to 6.5 Hz, `glide` seconds from note to note, `rest` the chance of
    a pause, `chord` ratios sound together, `drone` is the level of an unchanging low note.
    """
    key = np.exp(rng.uniform(*np.log(pitch)))
    count = int(samples / SAMPLE_RATE / note[0]) + 2
    edges = np.concatenate([[0], np.cumsum(rng.uniform(*note, count) * SAMPLE_RATE).astype(int)])
    degree = _wander(rng, count, len(_SCALE))
    which = np.searchsorted(edges, np.arange(samples), side="right") - 1
    line = _smooth(np.log(_SCALE[degree])[which], glide)
    loud = _smooth(((rng.random(count) >= rest) * rng.uniform(0.6, 1, count))[which], attack)
    since = (np.arange(samples) - edges[which]) / SAMPLE_RATE
    loud *= 1 - 0.5 * np.exp(-since / max(attack, 1e-3))  # every note is begun anew
    wave = np.sin(2 * np.pi * rng.uniform(5, 6.5) * np.arange(samples) / SAMPLE_RATE)
    hz = key * np.exp(line + vibrato * wave * np.minimum(1, since / 0.25))
    overtones = harmonics(40, slope, even)
    sound = sum((tone(hz * ratio, overtones) for ratio in chord), np.zeros(samples)) * (1 + tremolo * wave)
    sound = (sound + breath * rng.standard_normal(samples)) * loud
    if drone:
        sound += drone * tone(np.full(samples, key / 2), overtones)
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


def pick(
    rng: np.random.Generator, samples: int, rate: Range = (2.5, 4.5), notes: int = 5, swing: float = 0.15
) -> Excitation:
    """Single struck or plucked notes wandering over a scale."""
    times = steady_times(rng, samples, rate, swing * 0.3)
    degrees = np.sort(rng.choice(8, notes, replace=False))
    which = _wander(rng, len(times), notes)
    force = strengths(rng, len(times))
    tracks = np.stack([pulses(samples, times[which == k], force[which == k]) for k in range(notes)])
    return Excitation(tracks.astype(np.float32), _SCALE[degrees], (None,) * notes)


def strum(
    rng: np.random.Generator, samples: int, rate: Range = (1.3, 1.9), spread: Range = (0.012, 0.03)
) -> Excitation:
    """All strings of a chord, `rate` times per second, `spread` of a period apart (0.2 plays them one by one)."""
    period = 1 / rng.uniform(*rate)
    chord = np.array([1.0, 1.26, 1.5, 2.0, 2.52])
    strokes = np.arange(int(samples / SAMPLE_RATE / period) + 1) * period + rng.uniform(0, 0.1)
    lag = rng.uniform(*spread) * period
    order = rng.permuted(np.tile(np.arange(5), (len(strokes), 1)), axis=1)
    tracks = [pulses(samples, strokes + lag * order[:, k], strengths(rng, len(strokes))) for k in range(5)]
    return Excitation(np.stack(tracks).astype(np.float32), chord, (None,) * 5)


def laugh(rng: np.random.Generator, samples: int, pitch: Range = (180, 340), reverse: bool = False) -> Excitation:
    """Phrases of voiced bursts that sink in pitch, slow and fade; reversed, they climb, quicken and swell."""
    key = np.exp(rng.uniform(*np.log(pitch)))
    hz, level = np.full(samples, key), np.zeros(samples)
    for start, span in zip(*spans(rng, samples, (1.2, 2.2), (0.3, 0.7)), strict=True):
        place = np.linspace(0, 1, round(span * SAMPLE_RATE))
        bursts = np.sin(np.pi * ((6.0 * place - 1.5 * place**2) * span % 1)) ** 3 * (1 - 0.8 * place)
        fall = 1.35 - 0.6 * place
        if reverse:
            bursts, fall = bursts[::-1], fall[::-1]
        first = round(start * SAMPLE_RATE)
        last = min(first + len(place), samples)
        hz[first:last], level[first:last] = key * fall[: last - first], bursts[: last - first]
    voice = tone(hz, harmonics(30, 1.2)) + 0.12 * rng.standard_normal(samples)
    return single(voice * level)


def siren(rng: np.random.Generator, samples: int, pitch: Range = (350, 520), reverse: bool = False) -> Excitation:
    """A tone that climbs an octave and a half and drops back at once (reversed: falls and jumps up)."""
    place = np.arange(samples) / SAMPLE_RATE / rng.uniform(1.2, 2.4) + rng.uniform(0, 0.15)
    place = place % 1
    hz = rng.uniform(*pitch) * 2 ** (1.5 * (1 - place if reverse else place))
    return single(tone(hz, harmonics(12, 1.5)) + 0.01 * rng.standard_normal(samples))


def hum(rng: np.random.Generator, samples: int) -> Excitation:
    """Mains hum: 50 Hz and its harmonics, unchanging."""
    return single(tone(np.full(samples, rng.uniform(49.8, 50.2)), harmonics(12, 0.6, rng.uniform(0.8, 2))))


# --- several objects at once ---


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


def bowl_a_ball(rng: np.random.Generator, samples: int) -> Excitation:
    """A ball rolls down a lane for a second or two, then pins scatter."""
    rumble, crash = np.zeros(samples, np.float32), np.zeros(samples)
    for start, span in zip(*spans(rng, samples, (1.3, 2.2), (1.2, 2.0)), strict=True):
        rumble += grains(rng, envelope(samples, [start], [span], rise=0.8), 700)
        after = start + span + np.concatenate([[0.0], rng.exponential(0.15, 14)])
        crash += pulses(samples, after, 4 * rng.exponential(1, 15))
    return Excitation(np.stack([rumble, crash]).astype(np.float32), np.ones(2), (None, "pins"))


def chop(rng: np.random.Generator, samples: int) -> Excitation:
    """A heavy blow every second or so, and pieces tumbling after it."""
    blows = steady_times(rng, samples, (0.7, 1.0), 0.05)
    debris = (blows[:, None] + 0.2 + rng.exponential(0.06, (len(blows), 4))).ravel()
    tracks = [
        pulses(samples, blows, strengths(rng, len(blows))),
        pulses(samples, debris, 0.35 * rng.exponential(1, len(debris))),
    ]
    return Excitation(np.stack(tracks).astype(np.float32), np.ones(2), ("board", None))
