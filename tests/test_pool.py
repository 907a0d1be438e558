"""`ordered_map` keeps the order, stays within its bounds and raises what a function raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from reproduce.pool import ordered_map


def test_results_come_in_order_whatever_takes_longest() -> None:
    def slow_when_early(number: int) -> int:
        time.sleep(0.02 if number < 3 else 0)
        return number * number

    assert list(ordered_map(slow_when_early, range(20), workers=4)) == [n * n for n in range(20)]


@pytest.mark.parametrize(("lookahead", "ahead"), [(None, 6), (2, 2), (20, 20)])
def test_only_so_many_items_are_taken_ahead(lookahead: int | None, ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(lambda number: number, items(), workers=3, lookahead=lookahead)
    for consumed in range(1, 50):
        next(results)
        assert len(taken) <= consumed + ahead


def test_an_exception_arrives_in_its_place_and_ends_the_work() -> None:
    computed: set[int] = set()
    lock = threading.Lock()

    def fail_at_five(number: int) -> int:
        with lock:
            computed.add(number)
        if number == 5:
            raise ValueError("five")
        return number

    results = ordered_map(fail_at_five, range(1000), workers=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)
    assert max(computed) < 20
