"""The floor of the harness: times near this one measure the stopwatch."""

from __future__ import annotations

from bench.conftest import Comparison
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget


def test_an_empty_call(compare: Comparison, device: str) -> None:
    compare("empty call", [Candidate("nothing", lambda: None)], device, Budget(least=100, most=100))
