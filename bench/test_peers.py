"""Our models beside public implementations: transformers' AST, and timm's MViTv2 on the square inputs that it takes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from bench.candidates import FAMILIES, ModelCase, input_size
from bench.conftest import Comparison
from bench.peers import check_equal, square_mast, timm_mvitv2, transformers_ast
from bench.products import products_candidate
from models import AST, create_model
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget

SQUARE, DEBUG_SQUARE = 352, 64  # 88 x 88 tokens, near the 32 x 256 of 128 x 1024
BUDGET = Budget(least=3, most=9, seconds=15)


def make_ast(case: ModelCase) -> AST:
    model = create_model(f"ast_{case.preset}", input_size=case.size)
    assert isinstance(model, AST)
    return model


def test_transformers_ast(compare: Comparison, device: str, largest: str, precision: str) -> None:
    case = ModelCase(preset=largest, device=device, size=input_size(largest), precision=precision)
    ours = make_ast(case)
    theirs = transformers_ast(ours).to(device)
    candidates = [case.our_candidate("ast", ours), case.candidate("transformers AST", theirs)]
    compare("peer: transformers", candidates, device, BUDGET, **case.conditions())


@pytest.mark.parametrize(("mode", "batch"), [("inference", 1), ("training", 2)])
def test_timm_mvitv2(compare: Comparison, device: str, largest: str, precision: str, mode: str, batch: int) -> None:
    side = SQUARE if largest != "debug" else DEBUG_SQUARE
    case = ModelCase(preset=largest, device=device, size=(side, side), mode=mode, batch=batch, precision=precision)
    ours = square_mast(f"mast_{largest}", side).to(device)
    theirs = timm_mvitv2(ours).to(device)
    check_equal(ours, theirs, case.spectrograms()[:1], tolerance=1e-3)
    candidates = [
        case.our_candidate("mast", ours),
        case.candidate("timm MViTv2", theirs),
        products_candidate(case, ours),
    ]
    compare("peer: timm", candidates, device, BUDGET, **case.conditions())


@pytest.mark.usefixtures("native_bfloat16")
def test_the_fastest_mast_beside_the_slowest_ast(compare: Comparison, device: str, largest: str) -> None:
    """Time both precisions of both models and transformers' AST in one run: MAST in bfloat16 is the baseline."""
    single = ModelCase(preset=largest, device=device, size=input_size(largest))
    ast = make_ast(single)
    candidates = [
        *(in_precision(single, family, precision) for precision, family in product(("bfloat16", "float32"), FAMILIES)),
        single.candidate("transformers AST, float32", transformers_ast(ast).to(device)),
    ]
    compare("precisions", candidates, device, BUDGET, **{**single.conditions(), "precision": "mixed"})


def in_precision(case: ModelCase, family: str, precision: str) -> Candidate:
    candidate = replace(case, precision=precision).our_candidate(family)
    return replace(candidate, name=f"{candidate.name}, {precision}")
