"""Damaged copies of files, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged copies: cut short, bytes changed, a stretch removed, doubled or exchanged; mostly near the start."""
    random = np.random.default_rng(seed)
    reach = min(len(content), 4000)
    for _ in range(count):
        data = bytearray(content)
        limit = reach if random.random() < 0.8 else len(content)
        start = int(random.integers(limit))
        stop = min(len(data), start + int(random.integers(1, 40)))
        match random.integers(5):
            case 0:
                del data[start:]
            case 1:
                for place in random.integers(start, stop, size=3):
                    data[place] = random.integers(256)
            case 2:
                del data[start:stop]
            case 3:
                data[start:start] = data[start:stop]
            case 4:
                data[start:stop] = random.permutation(np.frombuffer(data[start:stop], np.uint8)).tobytes()
        yield bytes(data)


def damaged_outcomes(
    path: Path, count: int, load: Callable[[Path], Any], error_type: type[Exception]
) -> dict[str, int]:
    """Load damaged copies of a file in its place.

    Returns:
        How many are "read", and how many "refused" with one line that names the file. Other errors are not caught.
    """
    content = path.read_bytes()
    outcomes = {"read": 0, "refused": 0}
    for mutant in mutants(content, count, seed=0):
        path.write_bytes(mutant)
        try:
            load(path)
            outcomes["read"] += 1
        except error_type as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error) and str(error).startswith(str(path)), error
    return outcomes
