"""The stopwatch: turns, medians, ratios, memory and how it ends when memory runs out. No timing is asserted."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from reproduce.efficiency.contenders import inference_contender, training_contender
from reproduce.efficiency.contest import Budget, Contender, Contest, Measurement, measure, measurement_key, quartiles
from reproduce.efficiency.memory import OUT_OF_MEMORY, added_memory, bounded_memory, is_out_of_memory

MIB = 2**20
PETABYTES = 2**52


def make_measurement(*samples: float, clips: int = 1, **changes: Any) -> Measurement:
    return Measurement(Contender("x", lambda: None, clips), list(samples), **changes)


def needs_peak_memory() -> None:
    if sys.platform != "linux" or added_memory(lambda: None, "cpu") is None:
        pytest.skip("needs Linux, whose kernel tells a process's peak memory and lets it be reset")


def too_much() -> None:
    torch.empty(PETABYTES, dtype=torch.uint8)


def test_contenders_take_turns_and_the_reference_is_last_in_each() -> None:
    calls: list[str] = []
    contenders = [Contender(name, lambda name=name: calls.append(name)) for name in "abc"]
    measured = measure(contenders, "cpu", Budget(least=3, most=3))
    warm_up_and_memory = [name for name in "abc" for _ in range(2)]
    assert calls == warm_up_and_memory + ["b", "c", "a"] * 3
    assert {name: len(one.samples_s) for name, one in measured.items()} == {"a": 3, "b": 3, "c": 3}


def test_progress_is_told_after_every_round() -> None:
    told: list[tuple[int, int]] = []
    measure([Contender("a", lambda: None)], "cpu", Budget(least=2, most=2), lambda *round: told.append(round))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(("round_s", "rounds"), [(100.0, 3), (1.0, 10), (2.4, 4), (0.001, 15), (0.0, 15)])
def test_a_budget_buys_as_many_rounds_as_its_seconds_allow_within_its_bounds(round_s: float, rounds: int) -> None:
    assert Budget(least=3, most=15, seconds=10.0).rounds(round_s) == rounds


def test_two_contenders_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="different names"):
        Contest([Contender("a", lambda: None), Contender("a", lambda: None)], "cpu")


def test_quartiles_are_those_of_all_samples() -> None:
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert quartiles([]) == (None, None, None)


def test_metrics_hold_the_median_its_quartiles_and_the_throughput_of_the_batch() -> None:
    metrics = make_measurement(1.0, 2.0, 3.0, clips=4, added_bytes=5, held_bytes=10).metrics()
    assert metrics == {
        "latency_s": 2.0,
        "latency_s_q1": 1.5,
        "latency_s_q3": 2.5,
        "clips_per_s": 2.0,
        "peak_memory_bytes": 15,
        "added_memory_bytes": 5,
        "rounds": 3,
    }


def test_a_ratio_is_taken_round_by_round_so_that_drift_cancels() -> None:
    """Both slow down tenfold within the run; the ratio of a round never moves."""
    ratios = make_measurement(2.0, 6.0, 20.0).times(make_measurement(1.0, 3.0, 10.0))
    assert ratios == {"time_ratio": 2.0, "time_ratio_q1": 2.0, "time_ratio_q3": 2.0}


def test_a_ratio_is_that_of_the_time_a_clip() -> None:
    assert make_measurement(4.0, clips=4).times(make_measurement(2.0, clips=1))["time_ratio"] == 0.5


def test_running_out_of_memory_ends_one_contender_and_says_so() -> None:
    measured = measure([Contender("fits", lambda: None), Contender("large", too_much)], "cpu", Budget(2, 2))
    assert measured["large"].failure == OUT_OF_MEMORY
    assert measured["large"].metrics()["latency_s"] is None
    assert measured["large"].times(measured["fits"])["time_ratio"] is None
    assert (measured["fits"].failure, len(measured["fits"].samples_s)) == (None, 2)


def test_running_out_of_memory_half_way_leaves_no_samples() -> None:
    calls = iter([None, None, None, too_much])

    def call() -> None:
        if step := next(calls):
            step()

    measured = measure([Contender("a", call)], "cpu", Budget(least=3, most=3))["a"]
    assert (measured.failure, measured.samples_s) == (OUT_OF_MEMORY, [])


def test_any_other_error_is_not_swallowed() -> None:
    def broken() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        measure([Contender("a", broken)], "cpu", Budget())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("expected scalar type Float"), False),
    ],
)
def test_memory_errors_are_told_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone grants memory that it does not have")
def test_more_memory_than_is_free_fails_instead_of_waking_the_oom_killer(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr("reproduce.efficiency.contest.available_memory_bytes", lambda: 64 * MIB)
    with bounded_memory("cpu"), pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        torch.empty(512 * MIB, dtype=torch.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert torch.empty(512 * MIB, dtype=torch.uint8).numel() == 512 * MIB


@pytest.mark.parametrize("mib", [64, 256])
def test_added_memory_is_what_the_call_holds_at_its_peak(mib: int) -> None:
    needs_peak_memory()
    added = added_memory(lambda: torch.ones(mib * MIB // 4), "cpu")
    assert added == pytest.approx(mib * MIB, rel=0.05)


def test_added_memory_is_not_hidden_by_memory_that_was_freed_before() -> None:
    """Many small tensors stay with the allocator when freed: reused, they would not show."""
    needs_peak_memory()
    del (hoard := [torch.ones(MIB // 8) for _ in range(128)])[:]
    assert not hoard
    added = added_memory(lambda: [torch.ones(MIB // 8) for _ in range(128)], "cpu")
    assert added == pytest.approx(64 * MIB, rel=0.1)


def test_a_forward_pass_neither_trains_nor_keeps_a_graph() -> None:
    model = nn.Dropout(0.9)
    seen: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda module, _, y: seen.append((module.training, torch.is_inference_mode_enabled())))
    inference_contender("a", model, torch.ones(3, 2)).call()
    assert seen == [(False, True)]


def test_a_training_step_moves_the_weights_and_leaves_no_gradients() -> None:
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    contender = training_contender("a", model, torch.ones(3, 4), torch.ones(3, 2))
    contender.call()
    assert not torch.equal(model.weight, before)
    assert model.weight.grad is None


def test_held_memory_counts_weights_and_after_a_step_the_moments() -> None:
    model = nn.Linear(4, 2)
    weights = (4 * 2 + 2) * 4
    assert inference_contender("a", model, torch.ones(1, 4)).held_bytes() == weights
    contender = training_contender("a", model, torch.ones(1, 4), torch.ones(1, 2))
    contender.call()
    step_counters = 2 * 4
    assert contender.held_bytes() == 3 * weights + step_counters


def test_in_bfloat16_products_are_and_the_weights_are_not() -> None:
    model = nn.Linear(4, 2)
    seen: list[torch.dtype] = []
    model.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    for precision in ("bfloat16", "float32"):
        inference_contender("a", model, torch.ones(1, 4), precision).call()
    assert seen == [torch.bfloat16, torch.float32]
    assert model.weight.dtype == torch.float32


def test_a_key_names_the_experiment_and_the_machine() -> None:
    machine = {"device": "a CPU", "torch_threads": 2, "commit": "0"}
    key = measurement_key({"model": "ast", "batch": 1}, machine)
    assert key == measurement_key({"batch": 1, "model": "ast"}, {**machine, "commit": "1"})
    others = [
        measurement_key({"model": "ast", "batch": 2}, machine),
        measurement_key({"model": "ast", "batch": 1}, {**machine, "torch_threads": 1}),
        measurement_key({"model": "ast", "batch": 1}, {**machine, "device": "another CPU"}),
    ]
    assert len({key, *others}) == 4
