"""Threads that work ahead, in order and within bounds. No torch here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, lookahead: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed on `workers` threads.

    At most `lookahead` results (default: `2 * workers`) are pending or waiting, so that neither `items` nor the results
    are held whole. An exception of `function` is raised where its result would have been yielded.
    """
    lookahead = lookahead or 2 * workers
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= lookahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:  # after an exception, or when the consumer stops early
                future.cancel()
