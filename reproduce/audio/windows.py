"""A stream of samples cut into windows of equal length. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def cut_windows(
    blocks: Iterable[np.ndarray], window: int, hop: int, least: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first sample's number and the samples of every window, `hop` samples apart.

    The last window ends with the stream: where at least `least` samples follow the last regular window, one more is
    aligned to the end, so that every window but that of a stream shorter than `window` is full. About a window and a
    block are held.

    Args:
        blocks: (n,) arrays, consecutive samples.
        window: samples per window.
        hop: samples from the start of a window to the start of the next.
        least: samples that are worth another window.

    Raises:
        ValueError: a window or hop of no sample.
    """
    if window < 1 or hop < 1:
        raise ValueError(f"a window of {window} and a hop of {hop} samples: both must be positive")
    held = np.empty(0, np.float32)
    origin = 0  # number of held[0]
    start, covered = 0, 0  # of the next window; behind the last window
    for block in blocks:
        held = np.concatenate([held, block])
        end = origin + len(held)
        while start + window <= end:
            yield start, held[start - origin : start - origin + window].copy()
            start, covered = start + hop, start + window
        dropped = max(0, min(start, end - window) - origin)
        held, origin = held[dropped:].copy() if dropped else held, origin + dropped
    end = origin + len(held)
    if not covered and end:
        yield 0, held
    elif covered and end > start and end - covered >= least:
        yield end - window, held[end - window - origin :]
