"""MAST beside its matrix products alone: how far its forward pass is from a lower bound."""

from __future__ import annotations

from bench.candidates import ModelCase, input_size
from bench.conftest import Comparison
from bench.products import products_candidate
from models import create_model
from reproduce.efficiency.stopping import Budget

BUDGET = Budget(least=3, most=9, seconds=10)


def test_mast_beside_its_products(compare: Comparison, device: str, largest: str, precision: str) -> None:
    case = ModelCase(preset=largest, device=device, size=input_size(largest), precision=precision)
    mast = create_model(f"mast_{largest}", input_size=case.size)
    candidates = [case.our_candidate("mast", mast), products_candidate(case, mast)]
    compare("matrix products", candidates, device, BUDGET, **case.conditions())
