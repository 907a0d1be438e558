"""Energy, clocks and power: read from files and from a stand-in for NVML, as no machine of the tests has a GPU."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from make_meters import make_meters

from reproduce.efficiency.energy import GpuReading, NvmlGpu, nvml_gpu, rapl_meter, summarise
from reproduce.efficiency.interleaved import Candidate, InterleavedBenchmark
from reproduce.efficiency.meters import Meters


def write_package(root: Path, number: int, energy_uj: int, subdomain: bool = False) -> Path:
    folder = root / f"intel-rapl:{number}{':0' if subdomain else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")
    return folder


class FakeNvml(SimpleNamespace):
    """NVML of a GPU that draws 300 W; its clock rises by 200 MHz per reading up to 1,800 MHz."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, utilisation: int = 0) -> None:
        super().__init__(clock=800, utilisation=utilisation)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return round(300e3 * time.perf_counter())

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        if kind == self.NVML_CLOCK_SM:
            self.clock = min(1800, self.clock + 200)
            return int(self.clock)
        return 2619

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 300_000

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 61

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return SimpleNamespace(gpu=self.utilisation)


def gpu_meters(utilisation: int = 0) -> Meters:
    gpu = NvmlGpu(FakeNvml(utilisation), "a handle")
    return make_meters("cuda", gpu, gpu)


def test_rapl_adds_up_packages_and_survives_a_counter_that_wraps(tmp_path: Path) -> None:
    write_package(tmp_path, 0, 9_000_000)
    write_package(tmp_path, 1, 1_000_000)
    write_package(tmp_path, 0, 5, subdomain=True)  # is part of its package
    meter = rapl_meter(tmp_path)
    assert meter is not None and meter.joules() == 0.0
    write_package(tmp_path, 0, 500_000)  # of a range of 10 J: 1.5 J on
    write_package(tmp_path, 1, 1_250_000)
    assert meter.joules() == pytest.approx(1.75)


def test_without_readable_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert rapl_meter(tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert rapl_meter(tmp_path) is None


def test_without_nvml_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)  # as if it were not installed
    assert nvml_gpu("GPU-0") is None


def test_a_cpu_without_an_energy_meter_makes_no_extra_calls() -> None:
    steady = make_meters().run_steadily(lambda: pytest.fail("called"))
    assert (steady.joules_per_call, steady.power) == (None, {})


class CallCounter:
    """An energy meter on which every call takes 3 J."""

    def __init__(self, seconds: float) -> None:
        self.calls, self.seconds = 0, seconds

    def call(self) -> None:
        self.calls += 1
        time.sleep(self.seconds)

    def joules(self) -> float:
        return 3.0 * self.calls


def test_energy_per_call_is_the_counters_difference_over_the_calls() -> None:
    counter = CallCounter(0.3)
    assert make_meters("cpu", counter).run_steadily(counter.call).joules_per_call == pytest.approx(3.0)


def test_the_energy_of_a_slow_call_needs_no_further_calls() -> None:
    counter = CallCounter(1.01)
    benchmark = InterleavedBenchmark([Candidate("a", counter.call, clips=4)], "cpu", make_meters("cpu", counter))
    benchmark.prepare()
    assert counter.calls == 2  # warm-up and memory
    assert benchmark.baseline.joules_per_clip == pytest.approx(0.75)


def test_a_gpu_is_read_only_after_its_clock_has_settled() -> None:
    steady = gpu_meters().run_steadily(lambda: time.sleep(0.01))
    assert steady.power["sm_clock_mhz"] == [1800.0, 1800.0, 1800.0]
    assert steady.power["power_w"] == [300.0, 300.0, 300.0]
    assert steady.power["temperature_c"][1] == 61.0
    assert steady.joules_per_call is not None and steady.joules_per_call > 0


def test_a_gpu_that_others_use_makes_the_record_busy() -> None:
    for utilisation, busy in ((5, False), (35, True)):
        meters = gpu_meters(utilisation)
        meters.start()
        assert meters.conditions() == {"other_cores": 0.0, "busy": busy, "other_gpu_utilisation": utilisation / 100}


def test_readings_are_summarised_by_least_middle_and_largest() -> None:
    readings = [GpuReading(clock, 2619, power, 60) for clock, power in ((1800, 290.0), (1500, 310.0), (1790, 300.0))]
    summary = summarise(readings)
    assert summary["sm_clock_mhz"] == [1500.0, 1790.0, 1800.0]
    assert summary["power_w"] == [290.0, 300.0, 310.0]
    assert summarise([]) == {}


def test_energy_and_clocks_of_a_gpu_reach_the_record() -> None:
    """A candidate on the meters of a GPU, computed on the CPU: 300 W for some 20 ms, and eight clips per call."""
    benchmark = InterleavedBenchmark([Candidate("a", lambda: time.sleep(0.02), clips=8)], "cpu", gpu_meters())
    benchmark.prepare()
    benchmark.run_round()
    measurement = benchmark.baseline
    joules = measurement.metrics()["joules_per_clip"]
    assert joules is not None and joules > 300 * 0.02 / 8
    assert measurement.details()["power"]["sm_clock_mhz"][1] == 1800.0
    assert len(measurement.details()["samples_s"]) == 1
