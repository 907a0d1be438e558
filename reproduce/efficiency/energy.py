"""Energy, power and clocks where the machine reports them: RAPL for processors, NVML for GPUs. No torch here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter(Protocol):
    """A counter of the energy that the measured device has used."""

    def joules(self) -> float:
        """Energy since an arbitrary start, in joules; never decreases."""


class RaplMeter:
    """Energy of the processor packages by RAPL, as the Linux powercap files give it; Intel and AMD alike.

    The counters include everything on the packages, other processes too. Each wraps at its own maximum, about every
    ten minutes at full power, so it must be read more often than that.

    Args:
        packages: folders such as /sys/class/powercap/intel-rapl:0.
    """

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = tuple(packages)
        self._ranges = [int((package / "max_energy_range_uj").read_text()) for package in self._packages]
        self._last = self._read()
        self._total_uj = 0

    def _read(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self._packages]

    def joules(self) -> float:
        """Energy since this meter was opened."""
        now = self._read()
        for before, after, wrap in zip(self._last, now, self._ranges, strict=True):
            self._total_uj += after - before if after >= before else after - before + wrap
        self._last = now
        return self._total_uj / 1e6


def rapl_meter(root: Path = POWERCAP) -> RaplMeter | None:
    """Open the counters of all packages; None where there are none or this user may not read them."""
    packages = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
    readable = [path for path in packages if os.access(path / "energy_uj", os.R_OK)]
    return RaplMeter(readable) if readable and readable == packages else None


@dataclass(frozen=True)
class GpuReading:
    """What a GPU reports at one moment.

    Args:
        sm_clock_mhz: clock of its multiprocessors.
        memory_clock_mhz: clock of its memory.
        power_w: power of the whole board.
        temperature_c: of the chip, in degrees Celsius.
    """

    sm_clock_mhz: int
    memory_clock_mhz: int
    power_w: float
    temperature_c: int


class NvmlGpu:
    """Energy, power, clocks and utilisation of one NVIDIA GPU by NVML.

    Args:
        nvml: the module `pynvml` (package nvidia-ml-py), initialised.
        handle: of the GPU.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3  # in mJ, from Volta on

    def reading(self) -> GpuReading:
        """Read clocks, power and temperature of this moment."""
        nvml, handle = self._nvml, self._handle
        return GpuReading(
            nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,  # in mW
            nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        )

    def utilisation(self) -> float:
        """Share of the last second or less in which a kernel ran, of any process; 0 to 1."""
        return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100


def nvml_gpu(uuid: str) -> NvmlGpu | None:
    """Open the GPU of a UUID ("GPU-..."); None without the package nvidia-ml-py, or where NVML does not answer.

    A GPU is found by its UUID: NVML ignores CUDA_VISIBLE_DEVICES, so that its numbers are not torch's.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        gpu = NvmlGpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        gpu.joules(), gpu.reading()  # fails here where this GPU or driver reports none
    except pynvml.NVMLError:
        return None
    return gpu


def summarise(readings: Sequence[GpuReading]) -> dict[str, list[float]]:
    """Least, middle and largest of every quantity over `readings`, for a record; empty without readings."""
    if not readings:
        return {}
    summary = {}
    for name in ("sm_clock_mhz", "memory_clock_mhz", "power_w", "temperature_c"):
        values = sorted(float(getattr(reading, name)) for reading in readings)
        summary[name] = [values[0], values[len(values) // 2], values[-1]]
    return summary
