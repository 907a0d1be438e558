"""MAST beside its matrix products alone, and float32 products by oneDNN beside torch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch

from bench.candidates import MODES, ModelCase, input_size
from bench.conftest import Comparison
from bench.products import products_candidate
from models import create_model, linear
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget

BUDGET = Budget(least=3, most=9, seconds=10)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model computes.

    Args:
        name: for the record.
        by_onednn: whether float32 products are oneDNN's.
        attention: path.
    """

    name: str
    by_onednn: bool
    attention: str = "auto"


BY_ONEDNN, BY_TORCH = Way(name="products by oneDNN", by_onednn=True), Way(name="products by torch", by_onednn=False)
FUSED = Way(name="products by oneDNN, attention by torch", by_onednn=True, attention="sdpa")
WAYS: dict[
    str, dict[str, tuple[Way, ...]]
] = {  # mode -> family; AST's training steps by torch take longest, and tell no more than MAST's
    "inference": {"mast": (BY_ONEDNN, BY_TORCH), "ast": (BY_ONEDNN, FUSED, BY_TORCH)},
    "training": {"mast": (BY_ONEDNN, BY_TORCH), "ast": (BY_ONEDNN, FUSED)},
}


def test_mast_beside_its_products(compare: Comparison, device: str, largest: str, precision: str) -> None:
    """How far its forward pass is from a lower bound."""
    case = ModelCase(preset=largest, device=device, size=input_size(largest), precision=precision)
    mast = create_model(f"mast_{largest}", input_size=case.size)
    candidates = [case.our_candidate("mast", mast), products_candidate(case, mast)]
    compare("matrix products", candidates, device, BUDGET, **case.conditions())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("mode", MODES)
def test_products_by_both_libraries(compare: Comparison, largest: str, mode: str) -> None:
    """Which library a CPU should take for float32, and which attention AST should take with oneDNN's products."""
    case = ModelCase(preset=largest, device="cpu", size=input_size(largest), mode=mode)
    candidates = []
    for family, ways in WAYS[mode].items():
        model: Any = create_model(f"{family}_{largest}", input_size=case.size)
        candidates += [candidate_by(way, case, family, model) for way in ways]
    compare("product library", candidates, "cpu", BUDGET, **case.conditions())


def candidate_by(way: Way, case: ModelCase, family: str, model: Any) -> Candidate:
    """A candidate of the model whose float32 products and attention are computed one way, whatever the CPU prefers."""
    with computed_by(way, model):
        candidate = case.our_candidate(family, model)

    def within(call: Callable[[], object]) -> object:
        with computed_by(way, model):
            return call()

    name, warm_up = f"{candidate.name}, {way.name}", candidate.warm_up or candidate.call
    return replace(candidate, name=name, call=partial(within, candidate.call), warm_up=partial(within, warm_up))


@contextmanager
def computed_by(way: Way, model: Any) -> Iterator[None]:
    """Compute float32 products and attention one way inside the block."""
    with pytest.MonkeyPatch.context() as patch, model.attention_by(way.attention):
        patch.setattr(linear, "ONEDNN_FLOAT32", way.by_onednn)
        yield
