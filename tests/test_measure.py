"""Interleaved benchmarks: turns, medians, ratios, stopping, memory and what is recorded. No timing is asserted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from make_meters import make_meters
from make_records import load_stored
from torch import nn

from reproduce.efficiency import interleaved
from reproduce.efficiency.candidates import inference_candidate, training_candidate
from reproduce.efficiency.interleaved import (
    Candidate,
    InterleavedBenchmark,
    Measurement,
    calls_per_sample,
    measure,
    measurement_key,
    quartiles,
)
from reproduce.efficiency.memory import OUT_OF_MEMORY, added_memory, bounded_memory, is_out_of_memory
from reproduce.efficiency.stopping import Budget, median_interval, relative_width

MIB = 2**20
PETABYTES = 2**52
THREE_ROUNDS = Budget(least=3, most=3)


def make_measurement(*samples: float, clips: int = 1, **changes: Any) -> Measurement:
    return Measurement(Candidate("x", lambda: None, clips), list(samples), **changes)


def needs_peak_memory() -> None:
    if sys.platform != "linux" or added_memory(lambda: None, "cpu") is None:
        pytest.skip("needs Linux, where a process can read and reset its peak memory")


def too_much() -> None:
    torch.empty(PETABYTES, dtype=torch.uint8)


# --- turns and results ---


def test_candidates_take_turns_and_the_baseline_is_last_in_each() -> None:
    calls: list[str] = []
    candidates = [Candidate(name, lambda name=name: calls.append(name)) for name in "abc"]
    result = measure(candidates, "cpu", THREE_ROUNDS, make_meters())
    warm_up, memory = ["a", "b", "c"], ["b", "c", "a"]
    assert calls == warm_up + memory + ["b", "c", "a"] * 3
    assert {name: len(one.samples_s) for name, one in result.measurements.items()} == {"a": 3, "b": 3, "c": 3}
    assert result.conditions == {"other_cores": 0.0, "busy": False}


@pytest.mark.parametrize(("seconds", "rounds"), [(1.01, 2), (0.01, 3)])
def test_the_call_that_measures_memory_is_a_round_of_slow_candidates(seconds: float, rounds: int) -> None:
    """Slow calls: warm-up, memory and one more. Fast ones: warm-up, memory and three more."""
    calls = []

    def call() -> None:
        calls.append(time.sleep(seconds))

    measured = measure([Candidate("a", call)], "cpu", Budget(least=3, most=3, width=0.5), make_meters()).measurements
    assert len(measured["a"].samples_s) == rounds
    assert len(calls) == (3 if rounds == 2 else 5)


def test_two_candidates_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="different names"):
        InterleavedBenchmark([Candidate("a", lambda: None), Candidate("a", lambda: None)], "cpu", make_meters())


def test_quartiles_are_those_of_all_samples() -> None:
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert quartiles([]) == (None, None, None)


def test_metrics_hold_median_quartiles_throughput_memory_and_energy() -> None:
    metrics = make_measurement(1.0, 2.0, 3.0, clips=4, added_bytes=5, held_bytes=10, joules_per_clip=0.5).metrics()
    assert metrics == {
        "latency_s": 2.0,
        "latency_s_q1": 1.5,
        "latency_s_q3": 2.5,
        "clips_per_s": 2.0,
        "peak_memory_bytes": 15,
        "added_memory_bytes": 5,
        "joules_per_clip": 0.5,
        "rounds": 3,
    }


def test_a_ratio_is_taken_round_by_round_so_that_drift_cancels() -> None:
    """Both slow down tenfold within the run; the ratio of a round never moves."""
    ratios = make_measurement(2.0, 6.0, 20.0).time_ratios(make_measurement(1.0, 3.0, 10.0))
    assert ratios == {"time_ratio": 2.0, "time_ratio_q1": 2.0, "time_ratio_q3": 2.0}


def test_a_ratio_compares_times_per_clip() -> None:
    assert make_measurement(4.0, clips=4).time_ratios(make_measurement(2.0, clips=1))["time_ratio"] == 0.5


# --- when the rounds end ---


@pytest.mark.parametrize(
    ("samples", "interval"),
    [
        ([3.0, 1.0, 2.0], (1.0, 3.0)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (1.0, 5.0)),
        # Coverage of ranks 2 and 8 of nine: 1 - 2 (1 + 9) / 512 = 0.961; of ranks 2 and 7 of eight: 0.930.
        ([float(n) for n in range(1, 9)], (1.0, 8.0)),
        ([float(n) for n in range(1, 10)], (2.0, 8.0)),
        # 100 samples: ranks 40 and 61, as in every table of the sign test's intervals.
        ([float(n) for n in range(1, 101)], (40.0, 61.0)),
    ],
    ids=lambda value: f"{len(value)}",
)
def test_the_median_interval_is_the_one_of_order_statistics(
    samples: list[float], interval: tuple[float, float]
) -> None:
    assert median_interval(samples) == interval


def test_the_relative_width_is_the_interval_over_the_median() -> None:
    assert relative_width([1.9, 2.0, 2.2]) == pytest.approx(0.15)
    assert relative_width([0.0, 0.0]) == 0.0


@pytest.mark.parametrize(
    ("samples", "spent"),
    [
        ([[0.5, 0.5], [2.0, 2.0]], False),  # two rounds of at least three
        ([[1.0, 1.02], [2.0, 2.0]], True),  # two suffice for calls of a second that agree within 3 %
        ([[1.0, 1.05], [2.0, 2.0]], False),
        ([[20.0], [20.0]], False),
        ([[1.0, 1.01, 1.0], [2.0, 2.0, 2.02]], True),  # both within 3 %
        ([[1.0, 1.01, 1.0], [2.0, 2.0, 2.2]], False),  # the second within 10 %
        ([[1.0, 1.2] * 2, [2.0, 2.0, 2.2, 2.2]], True),  # 12.8 s of ten
        ([[0.1, 0.2] * 8, [0.1] * 16], True),  # 16 rounds of at most 15
        ([], True),  # every candidate has failed
    ],
)
def test_rounds_end_when_times_are_certain_or_the_budget_is_spent(samples: list[list[float]], spent: bool) -> None:
    assert Budget(least=3, most=15, seconds=10.0, width=0.03).is_spent(samples) is spent


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        ([0.2, 0.1, 0.004], [1, 2, 50]),  # each about as long as the slowest
        ([0.3], [1]),
        ([1e-3, 2e-3], [20, 10]),  # at least 20 ms
        ([0.0134], [2]),
        ([0.0, 1.0], [1_000_000, 1]),  # below the clock's resolution
    ],
)
def test_a_sample_of_every_candidate_on_a_gpu_takes_about_as_long(seconds: list[float], calls: list[int]) -> None:
    assert calls_per_sample(seconds) == calls


def test_every_candidate_on_a_gpu_is_timed_for_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a slow and a fast candidate the slow one does not run until the fast one has its seconds."""
    made: list[str] = []
    seconds = {"slow": 2**-2, "fast": 2**-7}

    def time_call(call: Callable[[], object], device: str) -> float:
        call()
        return seconds[made[-1]] * (1.5 if made.count(made[-1]) % 2 else 0.5)

    monkeypatch.setattr(interleaved, "time_call", time_call)
    monkeypatch.setattr(interleaved, "synchronise", lambda device: None)
    monkeypatch.setattr(interleaved, "added_memory", lambda call, device: call() or 0)
    candidates = [Candidate(name, lambda name=name: made.append(name)) for name in seconds]
    benchmark = InterleavedBenchmark(candidates, "cuda", make_meters())
    benchmark.prepare()
    made.clear()
    budget = Budget(least=2, most=4, seconds=0.1)
    while not benchmark.is_done(budget):
        benchmark.run_round()
    slow, fast = benchmark.measurements.values()
    assert (slow.calls, fast.calls) == (1, 32)
    assert made.count("slow") == len(slow.samples_s) == 8 and made.count("fast") == 32 * len(fast.samples_s) == 256
    assert fast.samples_s == [2**-7] * 8
    assert fast.details()["calls"] == 32 and made[31:34] == ["fast", "slow", "fast"]


# --- memory ---


def test_a_candidate_that_runs_out_of_memory_drops_out_alone() -> None:
    candidates = [Candidate("fits", lambda: None), Candidate("large", too_much)]
    measured = measure(candidates, "cpu", Budget(least=2, most=2), make_meters()).measurements
    assert measured["large"].failure == OUT_OF_MEMORY
    assert measured["large"].metrics()["latency_s"] is None
    assert measured["large"].time_ratios(measured["fits"])["time_ratio"] is None
    assert (measured["fits"].failure, len(measured["fits"].samples_s)) == (None, 2)


def test_running_out_of_memory_half_way_leaves_no_samples() -> None:
    calls: Iterator[Callable[[], None] | None] = iter([None, None, None, too_much])

    def call() -> None:
        if step := next(calls):
            step()

    measured = measure([Candidate("a", call)], "cpu", THREE_ROUNDS, make_meters()).measurements["a"]
    assert (measured.failure, measured.samples_s) == (OUT_OF_MEMORY, [])


def test_any_other_error_is_raised() -> None:
    def broken() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        measure([Candidate("a", broken)], "cpu", Budget(), make_meters())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("expected scalar type Float"), False),
    ],
)
def test_memory_errors_are_distinguished_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux grants memory that it does not have")
def test_more_memory_than_is_free_fails_instead_of_waking_the_oom_killer() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded_memory("cpu", available_bytes=64 * MIB), pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        torch.empty(512 * MIB, dtype=torch.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert torch.empty(512 * MIB, dtype=torch.uint8).numel() == 512 * MIB


@pytest.mark.parametrize("mib", [64, 256])
def test_added_memory_is_what_the_call_holds_at_its_peak(mib: int) -> None:
    needs_peak_memory()
    added = added_memory(lambda: torch.ones(mib * MIB // 4), "cpu")
    assert added == pytest.approx(mib * MIB, rel=0.05)


def test_memory_that_was_freed_before_does_not_hide_what_a_call_adds() -> None:
    """The allocator keeps many small freed tensors; if the call reused them, they would not show."""
    needs_peak_memory()
    del (hoard := [torch.ones(MIB // 8) for _ in range(128)])[:]
    assert not hoard
    added = added_memory(lambda: [torch.ones(MIB // 8) for _ in range(128)], "cpu")
    assert added == pytest.approx(64 * MIB, rel=0.1)


# --- models as candidates ---


def test_a_forward_pass_neither_trains_nor_keeps_a_graph() -> None:
    model = nn.Dropout(0.9)
    seen: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda module, _, y: seen.append((module.training, torch.is_inference_mode_enabled())))
    inference_candidate("a", model, torch.ones(3, 2)).call()
    assert seen == [(False, True)]


def test_a_training_step_moves_the_weights_and_leaves_no_gradients() -> None:
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    training_candidate("a", model, torch.ones(3, 4), torch.ones(3, 2)).call()
    assert not torch.equal(model.weight, before)
    assert model.weight.grad is None


def test_held_memory_counts_weights_and_after_a_step_the_moments() -> None:
    model = nn.Linear(4, 2)
    weights = (4 * 2 + 2) * 4
    assert inference_candidate("a", model, torch.ones(1, 4)).held_bytes() == weights
    candidate = training_candidate("a", model, torch.ones(1, 4), torch.ones(1, 2))
    candidate.call()
    step_counters = 2 * 4
    assert candidate.held_bytes() == 3 * weights + step_counters


def test_bfloat16_is_the_precision_of_products_and_not_of_weights() -> None:
    model = nn.Linear(4, 2)
    seen: list[torch.dtype] = []
    model.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    for precision in ("bfloat16", "float32"):
        inference_candidate("a", model, torch.ones(1, 4), precision).call()
    assert seen == [torch.bfloat16, torch.float32]
    assert model.weight.dtype == torch.float32


# --- keys ---


def test_a_key_names_the_experiment_and_the_device_and_no_other_condition() -> None:
    machine = {"device": "a CPU", "torch_threads": 2, "commit": "0"}
    key = measurement_key({"model": "ast", "batch": 1}, machine)
    assert key == measurement_key({"batch": 1, "model": "ast"}, {**machine, "commit": "1", "busy": True, "blas": ["x"]})
    others = [
        measurement_key({"model": "ast", "batch": 2}, machine),
        measurement_key({"model": "ast", "batch": 1}, {**machine, "torch_threads": 1}),
        measurement_key({"model": "ast", "batch": 1}, {**machine, "device": "another CPU"}),
    ]
    assert len({key, *others}) == 4


def test_the_keys_of_the_committed_records_are_still_the_same() -> None:
    records = load_stored(Path(__file__).resolve().parents[1] / "reports/records")
    measured = [record for record in records if record.kind in ("speed", "scaling")]
    assert measured
    for record in measured:
        assert measurement_key(record.experiment, record.environment) == record.key
