"""MAST beside its matrix products alone, and float32 products by oneDNN beside torch's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pytest
import torch

from bench.candidates import ModelCase, input_size
from bench.conftest import Comparison
from bench.products import products_candidate
from models import SpectrogramClassifier, create_model, linear
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget

BUDGET = Budget(least=3, most=9, seconds=6)
LIBRARIES = ("oneDNN", "torch")
CASES = [("mast", "inference"), ("mast", "training"), ("ast", "inference")]  # AST's training steps by torch take long


def test_mast_beside_its_products(compare: Comparison, device: str, largest: str, precision: str) -> None:
    """How far its forward pass is from a lower bound."""
    case = ModelCase(preset=largest, device=device, size=input_size(largest), precision=precision)
    mast = create_model(f"mast_{largest}", input_size=case.size)
    candidates = [case.our_candidate("mast", mast), products_candidate(case, mast)]
    compare("matrix products", candidates, device, BUDGET, **case.conditions())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(("family", "mode"), CASES)
def test_products_by_both_libraries(compare: Comparison, largest: str, family: str, mode: str) -> None:
    """Which library a CPU should take for float32, whichever it takes; each with the attention that goes with it."""
    case = ModelCase(preset=largest, device="cpu", size=input_size(largest), mode=mode)
    model = create_model(f"{family}_{largest}", input_size=case.size)
    candidates = [candidate_by(library, case, family, model) for library in LIBRARIES]
    compare("product library", candidates, "cpu", BUDGET, mode=mode, model=f"{family}_{largest}", batch=case.batch)


def candidate_by(library: str, case: ModelCase, family: str, model: SpectrogramClassifier) -> Candidate:
    """The model as a candidate, named after the library of its float32 products."""
    products = patch.object(linear, "ONEDNN_FLOAT32", library == "oneDNN")
    with products:
        candidate = case.our_candidate(family, model)

    def within(call: Callable[[], object]) -> object:
        with products:
            return call()

    return replace(
        candidate,
        name=library,
        call=partial(within, candidate.call),
        warm_up=partial(within, candidate.warm_up or candidate.call),
        by_onednn=library == "oneDNN",
    )
