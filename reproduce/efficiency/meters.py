"""What a benchmark reads beside its stopwatch: energy, clocks, and the load that other processes put on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from reproduce.efficiency.energy import EnergyMeter, GpuReading, NvmlGpu, nvml_gpu, rapl_meter, summarise
from reproduce.machine import LoadWatch

RAMP_S, MAX_RAMP_S = 1.0, 5.0  # of calls before a GPU's clocks count as ramped up
CLOCK_TOLERANCE = 0.02  # two readings of the clock, READING_S apart, differ by less once it has settled
READING_S = 0.2
STEADY_S = {"cuda": 2.0, "cpu": 1.0}  # RAPL is updated every millisecond, NVML's energy about ten times per second
BUSY_UTILISATION = 0.2  # of a GPU, by others, before the benchmark starts
IDLE_S = 1.0  # the utilisation that NVML gives is that of the last second


@dataclass(frozen=True)
class Steady:
    """Readings over consecutive calls of one candidate.

    Args:
        joules_per_call: None without an energy meter.
        power: least, middle and largest clock, power and temperature; empty without NVML.
    """

    joules_per_call: float | None = None
    power: Mapping[str, list[float]] = field(default_factory=dict)


class Meters:
    """Meters of one device.

    Args:
        kind: "cpu" or "cuda".
        energy: counter of the device's energy, None where the machine has none.
        gpu: NVML's view of the device, None on a CPU or without NVML.
        watch: makes a watch over other processes.
    """

    def __init__(
        self,
        kind: str,
        energy: EnergyMeter | None = None,
        gpu: NvmlGpu | None = None,
        watch: Callable[[], LoadWatch] = LoadWatch,
    ) -> None:
        self._kind, self._energy, self._gpu, self._make_watch = kind, energy, gpu, watch
        self._watch: LoadWatch | None = None
        self._utilisation: float | None = None

    @classmethod
    def of(cls, device: str) -> Meters:
        """Open the meters that this machine has for `device`."""
        kind = torch.device(device).type
        if kind == "cuda":
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            gpu = nvml_gpu(f"GPU-{uuid.removeprefix('GPU-')}")
            return cls(kind, gpu, gpu)
        return cls(kind, rapl_meter() if kind == "cpu" else None)

    def start(self) -> None:
        """Begin to watch other processes; a GPU idles for a second first, to see whether others use it."""
        if self._gpu is not None:
            time.sleep(IDLE_S)
            self._utilisation = self._gpu.utilisation()
        self._watch = self._make_watch()

    def joules(self) -> float | None:
        """Energy of the device since an arbitrary start; None without a meter."""
        return None if self._energy is None else self._energy.joules()

    def conditions(self) -> dict[str, Any]:
        """Return the load of other processes since `start` and whether it makes the record "busy"."""
        if self._watch is None:
            raise RuntimeError("Meters.start was not called")
        conditions = self._watch.conditions()
        if self._utilisation is not None:
            conditions["other_gpu_utilisation"] = self._utilisation
            conditions["busy"] = conditions["busy"] or self._utilisation > BUSY_UTILISATION
        return conditions

    def run_steadily(self, call: Callable[[], object]) -> Steady:
        """Repeat `call`, which returns on an idle device, first to ramp a GPU's clocks up, then to read the meters.

        A CPU without an energy meter makes no calls.
        """
        if self._kind == "cuda":
            self._ramp(call)
        elif self._energy is None:
            return Steady()
        readings: list[GpuReading] = []
        calls, start, read_s = 0, time.perf_counter(), float("-inf")
        start_joules = self.joules()
        while not calls or time.perf_counter() - start < STEADY_S.get(self._kind, 0.0):
            call()
            calls += 1
            if self._gpu is not None and time.perf_counter() - read_s >= READING_S:
                readings.append(self._gpu.reading())
                read_s = time.perf_counter()
        end_joules = self.joules()
        if start_joules is None or end_joules is None:
            return Steady(None, summarise(readings))
        return Steady((end_joules - start_joules) / calls, summarise(readings))

    def _ramp(self, call: Callable[[], object]) -> None:
        """Repeat `call` until the clock has settled: at least RAMP_S, at most MAX_RAMP_S seconds."""
        start, clock = time.perf_counter(), None
        while (elapsed_s := time.perf_counter() - start) < MAX_RAMP_S:
            lap = time.perf_counter()
            while time.perf_counter() - lap < READING_S:
                call()
            before, clock = clock, self._gpu.reading().sm_clock_mhz if self._gpu is not None else 0
            settled = before is not None and abs(clock - before) <= CLOCK_TOLERANCE * before
            if elapsed_s >= RAMP_S and settled:
                return
