"""Throughput by batch, doubled until memory runs out: what a GPU gives when it is kept full."""

from __future__ import annotations

import pytest
import torch

from bench.conftest import ContestRunner
from bench.contenders import FAMILIES, MODES, input_size, our_contender
from reproduce.efficiency.contenders import DTYPES
from reproduce.efficiency.contest import Budget

# Without a GPU one case is enough to say that it was skipped.
BATCHES = tuple(2**power for power in range(13)) if torch.cuda.is_available() else (1,)
BUDGET = Budget(least=3, most=10, seconds=5)
EXHAUSTED = pytest.StashKey[set[tuple[str, str, str]]]()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_throughput_by_batch(
    contest: ContestRunner,
    request: pytest.FixtureRequest,
    largest: str,
    mode: str,
    family: str,
    precision: str,
    compiled: bool,
    batch: int,
) -> None:
    """One model at a time: together they would share the memory that is to be filled."""
    if not torch.cuda.is_available():
        pytest.skip("fills a GPU's memory, and torch.cuda.is_available() is False")
    exhausted = request.config.stash.setdefault(EXHAUSTED, set())
    name, size = f"{family}_{largest}", input_size(largest)
    if (name, mode, precision) in exhausted:
        pytest.skip(f"{name}, {mode}, {precision}: a smaller batch ran out of memory")
    measurements = contest(
        "batch sweep",
        [our_contender(mode, name, batch=batch, device="cuda", precision=precision, compiled=compiled, size=size)],
        "cuda",
        BUDGET,
        precision=precision,
        mode=mode,
        preset=largest,
        batch=batch,
        compile=compiled,
        input_size=size,
    )
    if measurements[name].failure is not None:
        exhausted.add((name, mode, precision))
