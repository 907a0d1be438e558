"""What every bench shares: its options, devices, and `contest`, which times contenders in turns and records them.

`pytest bench/ --benchmark-only` appends to `reports/records/speed.jsonl`; `python -m reproduce speed` prints them.
With `--benchmark-disable` every bench runs once, untimed, on the debug models, and records nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from reproduce.efficiency.contenders import DTYPES
from reproduce.efficiency.contest import Budget, Contender, Contest, Measurement, measurement_key
from reproduce.efficiency.memory import bounded_memory
from reproduce.environment import describe_environment
from reproduce.records.record import RunRecord, now
from reproduce.records.store import RECORDS_DIR, append_record

DEVICES = ("cpu", "cuda")
PRESETS, UNTIMED_PRESETS = "tiny,small,base", "debug"
# Of the largest preset; a step at batch 1 is no way to train. The smaller presets need less to tell their ratio.
BATCHES, SMALLER_BATCH = {"inference": (1, 4), "training": (4,)}, 2
SUMMARY = pytest.StashKey[list[str]]()
# Without these a CPU computes bfloat16 by converting every operand: torch is then several times slower than in float32.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is ARM's


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench", "AST and MAST")
    group.addoption("--records", type=Path, metavar="DIR", help=f"where speed records go (default: {RECORDS_DIR})")
    group.addoption(
        "--presets",
        metavar="NAMES",
        help=f"sizes of the models, smallest first (default: {PRESETS}; {UNTIMED_PRESETS} with --benchmark-disable)",
    )
    group.addoption("--compile", action="store_true", help="pass every model through torch.compile")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARY] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`largest` is the last of the chosen presets; `case` runs over modes, presets and batches."""
    names = metafunc.config.getoption("presets") or (
        UNTIMED_PRESETS if metafunc.config.getoption("benchmark_disable") else PRESETS
    )
    presets = [name.strip() for name in names.split(",")]
    if "case" in metafunc.fixturenames:
        cases = [
            (mode, preset, batch)
            for preset in presets
            for mode, batches in BATCHES.items()
            for batch in (batches if preset == presets[-1] else (SMALLER_BATCH,))
        ]
        metafunc.parametrize("case", cases, ids=["-".join(map(str, case)) for case in cases])
    if "largest" in metafunc.fixturenames:
        metafunc.parametrize("largest", presets[-1:])


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn; the GPU skips, out loud, where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: torch.cuda.is_available() is False")
    return str(request.param)


@pytest.fixture(params=DTYPES)
def precision(request: pytest.FixtureRequest, device: str, benchmark: BenchmarkFixture) -> str:
    """float32 and bfloat16 (autocast); on a CPU without bfloat16 instructions the latter skips when timed."""
    if request.param == "bfloat16" and device == "cpu" and benchmark.enabled and not _cpu_has_bfloat16():
        pytest.skip("this processor has no bfloat16 instructions: torch emulates them, slower than float32")
    return str(request.param)


def _cpu_has_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and bool(BFLOAT16_FLAGS & set(cpuinfo.read_text().split()))


class ContestRunner:
    """Runs contests and records them. Called as `contest(bench, contenders, device, budget, **conditions)`."""

    def __init__(self, benchmark: BenchmarkFixture, config: pytest.Config) -> None:
        self.benchmark = benchmark
        self.records_dir: Path = config.getoption("records") or config.rootpath / RECORDS_DIR
        self.summary = config.stash[SUMMARY]

    def __call__(
        self,
        bench: str,
        contenders: Sequence[Contender],
        device: str,
        budget: Budget,
        *,
        precision: str = "float32",
        **conditions: Any,
    ) -> dict[str, Measurement]:
        """Time `contenders` in turns; one "speed" record each, where timing is enabled.

        pytest-benchmark's own row is the first contender: its rivals are timed between that one's rounds, outside its
        clock. All of them, with the ratios, are in `extra_info`, in the records and in the summary.

        Args:
            bench: what is measured; with `conditions` and the contenders' names it identifies the record.
            contenders: the first is the one that the others are compared with.
            device, precision: of all of them. conditions: what else a reader must know, such as the batch.
        """
        contest = Contest(contenders, device)
        conditions = {"device": torch.device(device).type, "precision": precision, **conditions}
        self.benchmark.group = bench
        if not self.benchmark.enabled:
            self.benchmark.pedantic(contest.first, setup=contest.rivals)
            return contest.measurements
        with bounded_memory(device):
            contest.prepare()
            rounds = contest.rounds(budget)
            self.benchmark.pedantic(contest.first, setup=contest.rivals, rounds=rounds)
        self.benchmark.has_error = contest.reference.failure is not None  # its row would show the time of nothing
        for measurement in contest.measurements.values():
            self._keep(bench, conditions, measurement, contest, device)
        return contest.measurements

    def _keep(
        self, bench: str, conditions: dict[str, Any], measurement: Measurement, contest: Contest, device: str
    ) -> None:
        name, reference = measurement.contender.name, contest.reference
        experiment = {"bench": bench, "contender": name, "contenders": list(contest.measurements), **conditions}
        environment = {
            **describe_environment(device, conditions["precision"]),
            "attention": measurement.contender.attention,
        }
        metrics = {**measurement.metrics(), **measurement.times(reference)}
        record = RunRecord(
            kind="speed",
            key=measurement_key(experiment, environment),
            experiment=experiment,
            scale="paper" if conditions.get("preset") == "base" else "demo",
            metrics=metrics,
            environment=environment,
            details={"samples_s": measurement.samples_s, "failure": measurement.failure},
            created=now(),
        )
        append_record(self.records_dir, record)
        self.benchmark.extra_info[name] = {**metrics, "failure": measurement.failure}
        if name == reference.contender.name:
            self.summary.append(f"{bench}: " + ", ".join(f"{key} {value}" for key, value in conditions.items()))
        self.summary.append("  " + summary_line(measurement, metrics))


def summary_line(measurement: Measurement, metrics: dict[str, Any]) -> str:
    """One contender in words: time, throughput, memory, and times the reference."""
    name = f"{measurement.contender.name:<28}"
    if metrics["latency_s"] is None:
        return f"{name} not run: {measurement.failure}"
    clips = measurement.contender.clips
    low, middle, high = (1e3 * metrics[f"latency_s{which}"] / clips for which in ("_q1", "", "_q3"))
    peak = metrics["peak_memory_bytes"]
    memory = "" if peak is None else f"{peak / 2**20:10,.0f} MiB"
    ratio = ""
    if metrics["time_ratio"] is not None:  # the reference may have run out of memory
        ratio = "   {time_ratio:.2f}x [{time_ratio_q1:.2f}, {time_ratio_q3:.2f}]".format(**metrics)
    times = f"{middle:12,.3f} ms/clip [{low:,.3f}, {high:,.3f}]"
    return f"{name} {times} {metrics['clips_per_s']:12,.2f} clips/s{memory}{ratio}"


@pytest.fixture
def contest(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> ContestRunner:
    return ContestRunner(benchmark, request.config)


@pytest.fixture
def compiled(request: pytest.FixtureRequest) -> bool:
    """Whether `--compile` was given."""
    return bool(request.config.getoption("compile"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Versions, threads, processor and commit go into pytest-benchmark's own files too."""
    machine_info["environment"] = describe_environment("cuda" if torch.cuda.is_available() else "cpu")


@pytest.hookimpl(trylast=True)  # below pytest-benchmark's own table
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Every contender of every contest: pytest-benchmark's table has the first of each alone."""
    lines = config.stash[SUMMARY]
    if lines:
        folder = config.getoption("records") or config.rootpath / RECORDS_DIR
        terminalreporter.section("contests: median [quartiles], times the first")
        for line in lines:
            terminalreporter.line(line)
        terminalreporter.line(f"recorded in {folder}/speed.jsonl; `python -m reproduce speed` prints the table")
