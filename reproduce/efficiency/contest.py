"""Time and peak memory of callables that are to be compared: the one stopwatch of `scaling` and of `bench/`.

Contenders take turns within one process, so that whatever slows a machine down (heat, neighbours) meets them alike;
ratios are taken turn by turn. Each is warmed up, the device is waited for on both sides, and every sample is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from reproduce.efficiency.memory import OUT_OF_MEMORY, added_memory, bounded_memory, free_memory, is_out_of_memory


@dataclass(frozen=True)
class Budget:
    """How many rounds a contest has: as many as `seconds` allow, from `least` to `most`."""

    least: int = 3
    most: int = 15
    seconds: float = 10.0

    def rounds(self, round_s: float) -> int:
        """Rounds of `round_s` seconds each."""
        affordable = math.floor(self.seconds / round_s) if round_s > 0 else self.most
        return max(self.least, min(self.most, affordable))


def _nothing() -> int:
    return 0


@dataclass(frozen=True)
class Contender:
    """A callable to be measured.

    Args:
        name: unique in its contest.
        call: what is timed; it is warmed up first, so lazily built parts do not count.
        clips: clips one call treats.
        held_bytes: memory that stays between calls (weights, optimiser state), asked after the warm-up.
        attention: the path by which a model's attention is computed, for the record.
        facts: further numbers for the record, such as MACs a clip.
    """

    name: str
    call: Callable[[], object]
    clips: int = 1
    held_bytes: Callable[[], int] = _nothing
    attention: str | None = None
    facts: Mapping[str, float | int | None] = field(default_factory=dict)


@dataclass
class Measurement:
    """What is known of one contender.

    Args:
        contender: whose it is.
        samples_s: seconds a call, one a round.
        added_bytes: memory that a call adds at its peak to what was there before; None where the system does not say.
        held_bytes: memory that stays between calls.
        failure: why it could not be measured (OUT_OF_MEMORY), or None.
    """

    contender: Contender
    samples_s: list[float] = field(default_factory=list)
    added_bytes: int | None = None
    held_bytes: int = 0
    failure: str | None = None

    @property
    def peak_bytes(self) -> int | None:
        """Weights and optimiser state, and what a call adds to them: what a device must hold."""
        return None if self.added_bytes is None else self.held_bytes + self.added_bytes

    def metrics(self) -> dict[str, float | int | None]:
        """Medians and quartiles for a record; None throughout where it failed."""
        q1, median, q3 = quartiles(self.samples_s)
        measured = {
            "latency_s": median,
            "latency_s_q1": q1,
            "latency_s_q3": q3,
            "clips_per_s": None if median is None else self.contender.clips / median,
            "peak_memory_bytes": self.peak_bytes,
            "added_memory_bytes": self.added_bytes,
            "rounds": len(self.samples_s),
        }
        return {**self.contender.facts, **measured}

    def times(self, reference: Measurement) -> dict[str, float | None]:
        """How many times as long as `reference` this one takes a clip: median and quartiles over the rounds."""
        clips = reference.contender.clips / self.contender.clips
        pairs = zip(self.samples_s, reference.samples_s, strict=False)  # one that failed half-way has fewer
        q1, median, q3 = quartiles([clips * ours / theirs for ours, theirs in pairs])
        return {"time_ratio": median, "time_ratio_q1": q1, "time_ratio_q3": q3}


def quartiles(samples: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Lower quartile, median, upper quartile; three times None of nothing, three times the value of one."""
    if not samples:
        return None, None, None
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return q1, median, q3


class Contest:
    """Contenders that take turns. The first is the reference that the others are compared with.

    `prepare`, then `round` as often as `rounds` says, all within `bounded_memory`. A contender that runs out of memory
    leaves the contest, and its measurement says so.
    """

    def __init__(self, contenders: Sequence[Contender], device: str) -> None:
        names = [contender.name for contender in contenders]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a contest needs contenders of different names, not {names}")
        self.device = device
        self.measurements = {contender.name: Measurement(contender) for contender in contenders}
        self._round_s = 0.0

    @property
    def reference(self) -> Measurement:
        return next(iter(self.measurements.values()))

    def prepare(self) -> None:
        """Warm everyone up, then measure what a call of each adds to the memory."""
        for measurement in self.measurements.values():
            self._try(measurement, self._warm_up)

    def _warm_up(self, measurement: Measurement) -> None:
        contender = measurement.contender
        contender.call()
        measurement.held_bytes = contender.held_bytes()
        start = time.perf_counter()
        measurement.added_bytes = added_memory(contender.call, self.device)
        self._round_s += time.perf_counter() - start

    def rounds(self, budget: Budget) -> int:
        """How many rounds the budget allows, judged by what `prepare` took."""
        return budget.rounds(self._round_s)

    def rivals(self) -> None:
        """Time a call of everyone but the reference."""
        for measurement in list(self.measurements.values())[1:]:
            self._try(measurement, self._time)

    def first(self) -> None:
        """Time a call of the reference."""
        self._try(self.reference, self._time)

    def round(self) -> None:
        """Time a call of everyone, in turn."""
        self.rivals()
        self.first()

    def _time(self, measurement: Measurement) -> None:
        measurement.samples_s.append(timed(measurement.contender.call, self.device))

    def _try(self, measurement: Measurement, step: Callable[[Measurement], None]) -> None:
        if measurement.failure is not None:
            return
        try:
            step(measurement)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            measurement.failure = OUT_OF_MEMORY
            measurement.samples_s.clear()
        if measurement.failure is not None:  # only now has the error let go of the tensors it met
            free_memory(self.device)


def measure(
    contenders: Sequence[Contender],
    device: str,
    budget: Budget,
    on_round: Callable[[int, int], object] = lambda done, total: None,
) -> dict[str, Measurement]:
    """A whole contest: name -> measurement, in the order given. `on_round(done, total)` after every round."""
    contest = Contest(contenders, device)
    with bounded_memory(device):
        contest.prepare()
        rounds = contest.rounds(budget)
        for number in range(1, rounds + 1):
            contest.round()
            on_round(number, rounds)
    return contest.measurements


def measurement_key(experiment: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Hash of what was measured and on which machine: another processor or thread count is another measurement."""
    machine = [environment["device"], environment["torch_threads"]]
    text = json.dumps([experiment, machine], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- time ----------------------------------------------------------------------------------------------------


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds of one call, from an idle device to an idle device."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given. A CPU always has."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)
