"""Throughput by batch, quadrupled until memory runs out: what a GPU gives when it is fully used."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from bench.candidates import FAMILIES, MODES, ModelCase, input_size
from bench.conftest import Comparison
from reproduce.efficiency.candidates import DTYPES
from reproduce.efficiency.stopping import Budget

# Without a GPU one case is enough to report the skip.
BATCHES = tuple(4**power for power in range(7)) if torch.cuda.is_available() else (1,)
BUDGET = Budget(least=3, most=10, seconds=5)
EXHAUSTED = pytest.StashKey[set[tuple[str, str, str]]]()


@pytest.mark.parametrize(
    "sweep", product(MODES, FAMILIES, DTYPES, BATCHES), ids=lambda sweep: "-".join(map(str, sweep))
)
def test_throughput_by_batch(
    compare: Comparison,
    request: pytest.FixtureRequest,
    largest: str,
    compiled: bool,
    sweep: tuple[str, str, str, int],  # a model's batches come in ascending order
) -> None:
    """Time one model alone: two would share the memory that is to be filled."""
    if not torch.cuda.is_available():
        pytest.skip("fills a GPU's memory, and torch.cuda.is_available() is False")
    mode, family, precision, batch = sweep
    exhausted = request.config.stash.setdefault(EXHAUSTED, set())
    name = f"{family}_{largest}"
    if (name, mode, precision) in exhausted:
        pytest.skip(f"{name}, {mode}, {precision}: a smaller batch ran out of memory")
    case = ModelCase(
        preset=largest,
        device="cuda",
        size=input_size(largest),
        mode=mode,
        batch=batch,
        precision=precision,
        compiled=compiled,
    )
    measured = compare("batch sweep", case.our_candidates((family,)), "cuda", BUDGET, **case.conditions())
    if measured[name].failure is not None:
        exhausted.add((name, mode, precision))
