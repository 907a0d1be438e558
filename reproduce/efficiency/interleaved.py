"""Interleaved benchmarks: time and memory of candidates that take turns. `scaling` and `bench/` both use this one.

The candidates take turns within one process, so that whatever slows the machine down (heat, other processes) affects
all of them alike; ratios are computed round by round. Every candidate is warmed up, the device is synchronised before
and after each call, and every sample is kept, with the number of calls that it is the mean of.

On a GPU, warm-up also ramps the clocks up, and three calls precede it: the second and third of a compiled model capture
its CUDA graph. Each candidate is then timed for at least MIN_GPU_SECONDS. There a sample is the mean
of several calls, each from an idle device to an idle device, so that all candidates take about as long in a round.
Otherwise the slowest would run for minutes until the fastest has its seconds.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from reproduce.efficiency.memory import OUT_OF_MEMORY, added_memory, bounded_memory, free_memory, is_out_of_memory
from reproduce.efficiency.meters import Meters
from reproduce.efficiency.stopping import SLOW_S, Budget
from reproduce.environment import synchronise
from reproduce.keys import hash_key

GPU_WARM_UP_CALLS = 3
MIN_GPU_SECONDS = 2.0  # of samples per candidate, after the clocks have ramped up
MIN_GPU_SAMPLE_S = 0.02  # at most a hundred samples


def _nothing() -> int:
    return 0


@dataclass(frozen=True)
class Candidate:
    """A callable to be measured.

    Args:
        name: unique in its benchmark.
        call: what is timed. It is warmed up first, so what it builds lazily is not timed.
        clips: clips that one call processes.
        held_bytes: returns the memory that stays between calls (weights, optimiser state); called after the warm-up.
        attention: attention path of a model, for the record.
        precision: of its matrix products, for the record; "" for that of the benchmark.
        warm_up: cheaper than `call`, to build on a CPU what `call` builds lazily; None for `call` itself.
        facts: further numbers for the record, such as MACs per clip.
        by_onednn: whether float32 products are oneDNN's, for the record; None for the processor's default.
    """

    name: str
    call: Callable[[], object]
    clips: int = 1
    held_bytes: Callable[[], int] = _nothing
    attention: str | None = None
    precision: str = ""
    warm_up: Callable[[], object] | None = None
    facts: Mapping[str, float | int | None] = field(default_factory=dict)
    by_onednn: bool | None = None


@dataclass
class Measurement:
    """What was measured of one candidate.

    Args:
        candidate: the candidate.
        samples_s: seconds per call, one per round.
        calls: of which each sample is the mean.
        added_bytes: memory that a call adds, at its peak; None where the system does not report it.
        held_bytes: memory that stays between calls.
        joules_per_clip: energy of the device per clip; None where it is not available.
        power: clocks, power and temperature of a GPU under this candidate; empty where they are not available.
        failure: why it could not be measured (OUT_OF_MEMORY), or None.
    """

    candidate: Candidate
    samples_s: list[float] = field(default_factory=list)
    calls: int = 1
    added_bytes: int | None = None
    held_bytes: int = 0
    joules_per_clip: float | None = None
    power: Mapping[str, list[float]] = field(default_factory=dict)
    failure: str | None = None

    @property
    def peak_bytes(self) -> int | None:
        """Memory that a device must hold: what stays between calls plus what a call adds."""
        return None if self.added_bytes is None else self.held_bytes + self.added_bytes

    def metrics(self) -> dict[str, float | int | None]:
        """Return medians and quartiles for a record; times are None if the candidate failed."""
        q1, median, q3 = quartiles(self.samples_s)
        measured = {
            "latency_s": median,
            "latency_s_q1": q1,
            "latency_s_q3": q3,
            "clips_per_s": None if median is None else self.candidate.clips / median,
            "peak_memory_bytes": self.peak_bytes,
            "added_memory_bytes": self.added_bytes,
            "joules_per_clip": self.joules_per_clip,
            "rounds": len(self.samples_s),
        }
        return {**self.candidate.facts, **measured}

    def details(self) -> dict[str, Any]:
        """Return every sample, the calls that each is the mean of, the failure, and clocks and power if known."""
        details: dict[str, Any] = {"samples_s": self.samples_s, "calls": self.calls, "failure": self.failure}
        return details | ({"power": dict(self.power)} if self.power else {})

    def time_ratios(self, baseline: Measurement) -> dict[str, float | None]:
        """Return the time per clip relative to `baseline`: median and quartiles of the rounds' ratios."""
        clips = baseline.candidate.clips / self.candidate.clips
        pairs = zip(self.samples_s, baseline.samples_s, strict=False)  # a failed candidate has fewer samples
        q1, median, q3 = quartiles([clips * ours / theirs for ours, theirs in pairs])
        return {"time_ratio": median, "time_ratio_q1": q1, "time_ratio_q3": q3}


def quartiles(samples: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return lower quartile, median and upper quartile: None three times without samples, one sample three times."""
    if not samples:
        return None, None, None
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return q1, median, q3


class InterleavedBenchmark:
    """Time candidates in turns. The first candidate is the baseline that the others are compared with.

    Call `prepare`, then `run_round` until `is_done`, all within `bounded_memory`. A candidate that runs out of memory
    drops out, and its measurement records the failure.

    Args:
        candidates: of different names.
        device: torch device of all candidates.
        meters: clocks, energy and the load of other processes; those of `device` unless given.
    """

    def __init__(self, candidates: Sequence[Candidate], device: str, meters: Meters | None = None) -> None:
        names = [candidate.name for candidate in candidates]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a benchmark needs candidates of different names, not {names}")
        self.device = device
        self.meters = meters or Meters.of(device)
        self.measurements = {candidate.name: Measurement(candidate) for candidate in candidates}
        self._on_gpu = torch.device(device).type != "cpu"
        self._begun: list[float] = []  # seconds of the calls of the baseline's next sample, but for the last

    @property
    def baseline(self) -> Measurement:
        """Measurement of the first candidate."""
        return next(iter(self.measurements.values()))

    def prepare(self) -> None:
        """Warm every candidate up; then measure, in turns, what one call adds to the memory, and its energy.

        That call begins with all freed memory returned to the system, which costs milliseconds. It counts as the first
        round where every call takes SLOW_S on a CPU: there an extra call would be expensive.
        """
        self.meters.start()
        for measurement in self.measurements.values():
            self._attempt(measurement, self._warm_up)
        for measurement in self._turns():
            self._attempt(measurement, self._measure_memory)
        running = [one for one in self.measurements.values() if one.failure is None]
        if self._on_gpu or any(min(one.samples_s) < SLOW_S for one in running):
            for measurement in running:
                measurement.samples_s.clear()
                self._attempt(measurement, self._measure_energy)
        if self._on_gpu:
            self._choose_calls()

    def _warm_up(self, measurement: Measurement) -> None:
        candidate = measurement.candidate
        if self._on_gpu:
            for _ in range(GPU_WARM_UP_CALLS):
                candidate.call()
        else:
            (candidate.warm_up or candidate.call)()
        measurement.held_bytes = measurement.candidate.held_bytes()

    def _measure_memory(self, measurement: Measurement) -> None:
        def timed() -> None:
            joules = self.meters.joules()
            self._time(measurement)
            measurement.joules_per_clip = self._per_clip(measurement, self.meters.joules(), joules)

        measurement.added_bytes = added_memory(timed, self.device)

    def _measure_energy(self, measurement: Measurement) -> None:
        def call() -> None:
            measurement.candidate.call()
            synchronise(self.device)

        steady = self.meters.run_steadily(call)
        measurement.power = steady.power
        measurement.joules_per_clip = self._per_clip(measurement, steady.joules_per_call)

    def _choose_calls(self) -> None:
        """Time every candidate three times: the fastest call tells how many of them make a sample."""
        for one in self.measurements.values():
            for _ in range(3):
                self._attempt(one, self._time)
        running = [one for one in self.measurements.values() if one.failure is None]
        for one, calls in zip(running, calls_per_sample([min(one.samples_s) for one in running]), strict=True):
            one.calls = calls
            one.samples_s.clear()

    def _per_clip(self, measurement: Measurement, joules: float | None, start: float | None = 0.0) -> float | None:
        return None if joules is None or start is None else (joules - start) / measurement.candidate.clips

    def is_done(self, budget: Budget) -> bool:
        """Whether the rounds so far are enough; on a GPU only after MIN_GPU_SECONDS per candidate."""
        running = [one for one in self.measurements.values() if one.failure is None]
        seconds = [[one.calls * sample for sample in one.samples_s] for one in running]
        if self._on_gpu and any(sum(times) < MIN_GPU_SECONDS for times in seconds):
            return False
        return budget.is_spent(seconds)

    def _turns(self) -> list[Measurement]:
        """The order within a round: the baseline is last."""
        return [*list(self.measurements.values())[1:], self.baseline]

    def time_others(self) -> None:
        """Take a sample of every candidate but the baseline, and make all calls of the baseline's but the last."""
        for measurement in self._turns()[:-1]:
            self._attempt(measurement, self._time)
        self._attempt(self.baseline, self._begin)

    def time_baseline(self) -> None:
        """Time one call of the baseline, which completes its sample."""
        self._attempt(self.baseline, self._complete)

    def run_round(self) -> None:
        """Take one sample of every candidate, the baseline last."""
        self.time_others()
        self.time_baseline()

    def _time(self, measurement: Measurement) -> None:
        """Take one sample."""
        self._begin(measurement)
        self._complete(measurement)

    def _begin(self, measurement: Measurement) -> None:
        """Make the calls of a sample but the last."""
        call = measurement.candidate.call
        self._begun = [time_call(call, self.device) for _ in range(measurement.calls - 1)]

    def _complete(self, measurement: Measurement) -> None:
        """Make the last call of a sample, and store the mean of all."""
        last = time_call(measurement.candidate.call, self.device)
        measurement.samples_s.append(statistics.fmean([*self._begun, last]))

    def _attempt(self, measurement: Measurement, step: Callable[[Measurement], None]) -> None:
        if measurement.failure is not None:
            return
        try:
            step(measurement)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            measurement.failure = OUT_OF_MEMORY
            measurement.samples_s.clear()
        if measurement.failure is not None:  # outside the except block, so the traceback keeps no tensors alive
            free_memory(self.device)


@dataclass(frozen=True)
class Result:
    """What an interleaved benchmark gives.

    Args:
        measurements: by candidate name, in the order given.
        conditions: "busy" and the load of other processes, for a record's environment.
    """

    measurements: Mapping[str, Measurement]
    conditions: Mapping[str, Any]


def measure(candidates: Sequence[Candidate], device: str, budget: Budget, meters: Meters | None = None) -> Result:
    """Run a whole interleaved benchmark; the first candidate is the baseline.

    Args:
        meters: those of `device` unless given.

    Raises:
        ValueError: candidates of one name, or none.
    """
    benchmark = InterleavedBenchmark(candidates, device, meters)
    with bounded_memory(device):
        benchmark.prepare()
        while not benchmark.is_done(budget):
            benchmark.run_round()
    return Result(benchmark.measurements, benchmark.meters.conditions())


def calls_per_sample(seconds: Sequence[float]) -> list[int]:
    """How many calls of each candidate take about as long as one of the slowest, and at least MIN_GPU_SAMPLE_S.

    Args:
        seconds: of one call of each candidate.
    """
    sample_s = max(MIN_GPU_SAMPLE_S, *seconds)
    return [math.ceil(sample_s / max(one, 1e-6)) for one in seconds]


def measurement_key(experiment: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Hash what was measured and on which device: another processor or thread count is another measurement."""
    return hash_key([experiment, [environment["device"], environment["torch_threads"]]])


def time_call(call: Callable[[], object], device: str) -> float:
    """Measure the seconds of one call, from an idle device to an idle device."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start
