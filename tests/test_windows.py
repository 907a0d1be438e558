"""Long recordings: where windows lie, what a model says of each, and how much of a file is held."""

from __future__ import annotations

import numpy as np
import pytest

from reproduce.audio.windows import cut_windows


def starts_of(samples: int, window: int, hop: int, block: int = 7, least: int = 1) -> list[tuple[int, int]]:
    """(first sample, length) of every window of `samples` samples that count up; the samples must be the stream's."""
    stream = np.arange(samples, dtype=np.float32)
    blocks = [stream[i : i + block] for i in range(0, samples, block)]
    windows = list(cut_windows(blocks, window, hop, least))
    for start, values in windows:
        assert np.array_equal(values, stream[start : start + len(values)])
    return [(start, len(values)) for start, values in windows]


@pytest.mark.parametrize("block", [1, 3, 10, 1000])
def test_windows_lie_a_hop_apart_and_the_last_one_ends_with_the_stream(block: int) -> None:
    assert starts_of(20, 10, 5, block) == [(0, 10), (5, 10), (10, 10)]
    assert starts_of(23, 10, 5, block) == [(0, 10), (5, 10), (10, 10), (13, 10)]
    assert starts_of(23, 10, 10, block) == [(0, 10), (10, 10), (13, 10)]


def test_a_stream_shorter_than_a_window_is_one_short_window_and_an_empty_one_none() -> None:
    assert starts_of(6, 10, 5) == [(0, 6)]
    assert starts_of(0, 10, 5) == []


def test_a_remainder_that_is_not_worth_it_gets_no_window() -> None:
    assert starts_of(22, 10, 5, least=3) == [(0, 10), (5, 10), (10, 10)]
    assert starts_of(23, 10, 5, least=3)[-1] == (13, 10)


@pytest.mark.parametrize("block", [1, 8, 1000])
def test_windows_may_leave_gaps(block: int) -> None:
    assert starts_of(25, 4, 10, block) == [(0, 4), (10, 4), (20, 4)]
    assert starts_of(22, 4, 10, block) == [(0, 4), (10, 4), (18, 4)]
    assert starts_of(18, 4, 10, block) == [(0, 4), (10, 4)]


@pytest.mark.parametrize(("window", "hop"), [(0, 1), (1, 0)])
def test_a_window_or_a_hop_of_nothing_is_refused(window: int, hop: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        list(cut_windows([np.zeros(3, np.float32)], window, hop))
