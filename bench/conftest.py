"""What all benches share: options, devices, and `compare`, which times candidates in turns and records them.

`pytest bench/ --benchmark-only` appends to `reports/records/speed.jsonl`; `python -m reproduce speed` prints them.
With `--benchmark-disable` every bench runs once, untimed, on the debug models, and records nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.candidates import MODES
from reproduce.efficiency.candidates import DTYPES
from reproduce.efficiency.interleaved import Candidate, InterleavedBenchmark, Measurement, measurement_key
from reproduce.efficiency.memory import bounded_memory
from reproduce.efficiency.stopping import Budget
from reproduce.environment import describe_environment
from reproduce.machine import has_bfloat16
from reproduce.records.record import RunRecord, now
from reproduce.records.store import RECORDS_DIR, append_record

DEVICES = ("cpu", "cuda")
PRESETS, UNTIMED_PRESETS = "tiny,small,base", "debug"
MOST_ROUNDS = 10_000  # pytest-benchmark wants a number; the budget ends them
SMALLER_BATCH = 2  # of the smaller presets, one of which shows their ratio; `test_side_by_side.py` has the largest
SUMMARY = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench", "AST and MAST")
    group.addoption("--records", type=Path, metavar="DIR", help=f"folder of speed records (default: {RECORDS_DIR})")
    group.addoption(
        "--presets",
        metavar="NAMES",
        help=f"sizes of the models, smallest first (default: {PRESETS}; {UNTIMED_PRESETS} with --benchmark-disable)",
    )
    group.addoption("--compile", action="store_true", help="pass every model through torch.compile")
    group.addoption("--models", metavar="NAMES", help="models of your choice, for bench/test_chosen_models.py")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARY] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`largest` is the last of the chosen presets; `case` runs over modes and the smaller presets."""
    names = metafunc.config.getoption("presets") or (
        UNTIMED_PRESETS if metafunc.config.getoption("benchmark_disable") else PRESETS
    )
    presets = [name.strip() for name in names.split(",")]
    if "case" in metafunc.fixturenames:
        cases = [(mode, preset, SMALLER_BATCH) for preset in presets[:-1] or presets for mode in MODES]
        metafunc.parametrize("case", cases, ids=["-".join(map(str, case)) for case in cases])
    if "largest" in metafunc.fixturenames:
        metafunc.parametrize("largest", presets[-1:])


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn; without a GPU its benches skip with the reason."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: torch.cuda.is_available() is False")
    return str(request.param)


@pytest.fixture
def native_bfloat16(device: str, benchmark: BenchmarkFixture) -> None:
    """Skip a timed bench of bfloat16 on a CPU without bfloat16 instructions."""
    if device == "cpu" and benchmark.enabled and not has_bfloat16():
        pytest.skip("this processor has no bfloat16 instructions: torch emulates them, slower than float32")


@pytest.fixture(params=DTYPES)
def precision(request: pytest.FixtureRequest, device: str) -> str:
    """float32 and bfloat16 (autocast)."""
    if request.param == "bfloat16":
        request.getfixturevalue("native_bfloat16")
    return str(request.param)


class _Enough(Exception):
    """Ends pytest-benchmark's rounds."""


class Comparison:
    """Runs interleaved benchmarks and records them. Called as `compare(bench, candidates, device, budget, ...)`."""

    def __init__(self, benchmark: BenchmarkFixture, config: pytest.Config) -> None:
        self.benchmark = benchmark
        self.records_dir: Path = config.getoption("records") or config.rootpath / RECORDS_DIR
        self.summary = config.stash[SUMMARY]

    def __call__(
        self, bench: str, candidates: Sequence[Candidate], device: str, budget: Budget, **conditions: Any
    ) -> Mapping[str, Measurement]:
        """Time `candidates` in turns; where timing is enabled, append one "speed" record each.

        pytest-benchmark's own row is the baseline: the others are timed between its rounds, outside its clock. All
        candidates, with their ratios, are in `extra_info`, in the records and in the summary.

        Args:
            bench: what is measured; with `conditions` and the candidates' names it identifies the record.
            candidates: the first is the baseline of the others.
            device: of all candidates.
            budget: when the rounds end.
            conditions: what else a reader must know, such as the batch; "precision" is float32 unless given.
        """
        benchmark = InterleavedBenchmark(candidates, device)
        self.benchmark.group = bench
        if not self.benchmark.enabled:
            self.benchmark.pedantic(benchmark.time_baseline, setup=benchmark.time_others)
            return benchmark.measurements
        with bounded_memory(device):
            benchmark.prepare()
            self._run_rounds(benchmark, budget)
        self.benchmark.has_error = benchmark.baseline.failure is not None  # its row would show the time of nothing
        conditions = {"device": torch.device(device).type, "precision": "float32", **conditions}
        environment = {**describe_environment(device, conditions["precision"]), **benchmark.meters.conditions()}
        self.summary.append(f"{bench}: " + ", ".join(f"{key} {value}" for key, value in conditions.items()))
        if environment["busy"]:
            self.summary.append(f"  {busy_warning(environment)}")
        for measurement in benchmark.measurements.values():
            self._store({"bench": bench, **conditions}, measurement, benchmark, environment)
        return benchmark.measurements

    def _run_rounds(self, benchmark: InterleavedBenchmark, budget: Budget) -> None:
        """Run rounds within pytest-benchmark, whose number of rounds is fixed beforehand, until the budget is spent."""

        def setup() -> None:
            if benchmark.is_done(budget):
                raise _Enough
            benchmark.time_others()

        with suppress(_Enough):
            self.benchmark.pedantic(benchmark.time_baseline, setup=setup, rounds=MOST_ROUNDS)

    def _store(
        self,
        conditions: Mapping[str, Any],
        measurement: Measurement,
        benchmark: InterleavedBenchmark,
        environment: Mapping[str, Any],
    ) -> None:
        name = measurement.candidate.name
        # Records call a candidate "contender".
        experiment = {**conditions, "contender": name, "contenders": list(benchmark.measurements)}
        metrics = {**measurement.metrics(), **measurement.time_ratios(benchmark.baseline)}
        candidate, own = measurement.candidate, dict(environment)
        own |= {"precision": candidate.precision or own["precision"], "attention": candidate.attention}
        if candidate.by_onednn is not None:
            own["onednn_float32"] = candidate.by_onednn
        record = RunRecord(
            kind="speed",
            key=measurement_key(experiment, environment),
            experiment=experiment,
            scale="paper" if conditions.get("preset") == "base" else "demo",
            metrics=metrics,
            environment=own,
            details=measurement.details(),
            created=now(),
        )
        append_record(self.records_dir, record)
        self.benchmark.extra_info[name] = {**metrics, "failure": measurement.failure}
        self.summary.append("  " + summary_line(measurement, metrics))


def busy_warning(environment: Mapping[str, Any]) -> str:
    """Say how much other processes used, and that the record fills no table."""
    gpu = environment.get("other_gpu_utilisation")
    also = "" if gpu is None else f" and {gpu:.0%} of the GPU"
    return (
        f"BUSY: other processes used {environment['other_cores']:.2f} cores{also}; the record is marked and fills no "
        "table: repeat on an idle machine"
    )


def summary_line(measurement: Measurement, metrics: Mapping[str, Any]) -> str:
    """One candidate in words: time, throughput, memory, energy, and the time ratio to the baseline."""
    name = f"{measurement.candidate.name:<28}"
    if metrics["latency_s"] is None:
        return f"{name} not run: {measurement.failure}"
    clips = measurement.candidate.clips
    low, middle, high = (1e3 * metrics[f"latency_s{which}"] / clips for which in ("_q1", "", "_q3"))
    peak, joules = metrics["peak_memory_bytes"], metrics["joules_per_clip"]
    memory = "" if peak is None else f"{peak / 2**20:10,.0f} MiB"
    energy = "" if joules is None else f"{joules:10,.3f} J/clip"
    ratio = ""
    if metrics["time_ratio"] is not None:  # None if the baseline ran out of memory
        ratio = "   {time_ratio:.2f}x [{time_ratio_q1:.2f}, {time_ratio_q3:.2f}]".format(**metrics)
    times = f"{middle:12,.3f} ms/clip [{low:,.3f}, {high:,.3f}]"
    return f"{name} {times} {metrics['clips_per_s']:12,.2f} clips/s{memory}{energy}{ratio}"


@pytest.fixture
def compare(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Comparison:
    """Time and record candidates in turns."""
    return Comparison(benchmark, request.config)


@pytest.fixture
def compiled(request: pytest.FixtureRequest) -> bool:
    """Whether `--compile` was given."""
    return bool(request.config.getoption("compile"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add versions, threads, processor and commit to pytest-benchmark's own files."""
    machine_info["environment"] = describe_environment("cuda" if torch.cuda.is_available() else "cpu")


@pytest.hookimpl(trylast=True)  # below pytest-benchmark's own table
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print every candidate of every benchmark: pytest-benchmark's table has the baselines alone."""
    lines = config.stash[SUMMARY]
    if lines:
        folder = config.getoption("records") or config.rootpath / RECORDS_DIR
        terminalreporter.section("interleaved benchmarks: median [quartiles], times the first")
        for line in lines:
            terminalreporter.line(line)
        terminalreporter.line(f"recorded in {folder}/speed.jsonl; `python -m reproduce speed` prints the table")
