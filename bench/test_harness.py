"""The floor of the harness itself: timings near this one measure the stopwatch."""

from __future__ import annotations

from bench.conftest import ContestRunner
from reproduce.efficiency.contest import Budget, Contender


def test_an_empty_call(contest: ContestRunner, device: str) -> None:
    contest("empty call", [Contender("nothing", lambda: None)], device, Budget(least=100, most=100))
