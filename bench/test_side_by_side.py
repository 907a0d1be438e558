"""Our models beside public implementations, every precision in one contest: forward passes and training steps.

AST and MAST take the paper's 128 x 1024. timm's MViTv2 takes square inputs only: at 352 x 352 (88 x 88 tokens, near
the 32 x 256 of 128 x 1024) it stands beside a MAST of the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest
from torch import nn

from bench.candidates import MODES, ModelCase, input_size
from bench.conftest import Comparison
from bench.peers import check_equal, square_mast, timm_mvitv2, transformers_ast
from models import AST, MAST, create_model
from reproduce.efficiency.candidates import DTYPES
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget
from reproduce.machine import has_bfloat16
from reproduce.records.contests import SQUARE, TIMM
from reproduce.records.measured_runs import MIXED

SQUARE_SIDE, DEBUG_SIDE = 352, 64
BATCHES = (1, 4)
BUDGET = Budget(least=3, most=9, seconds=15, width=0.1)  # two where calls take seconds and agree within a tenth


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models of the contest. Every precision trains the same weights: products change the time, not the values.

    Args:
        ast: ours.
        mast: ours.
        square: ours for square inputs, pooling both axes everywhere.
        transformers: AST of Hugging Face's transformers, with random weights.
        timm: MViTv2 with the weights of `square`.
    """

    ast: AST
    mast: MAST
    square: MAST
    transformers: nn.Module
    timm: nn.Module


@cache
def models_of(preset: str, device: str) -> Models:
    size = input_size(preset)
    ast, mast = (create_model(f"{family}_{preset}", input_size=size).to(device) for family in ("ast", "mast"))
    assert isinstance(ast, AST) and isinstance(mast, MAST)
    square = square_mast(f"mast_{preset}", side(preset)).to(device)
    models = Models(
        ast=ast,
        mast=mast,
        square=square,
        transformers=transformers_ast(ast).to(device),
        timm=timm_mvitv2(square).to(device),
    )
    check_equal(square, models.timm, square_case(preset, device).spectrograms(), tolerance=1e-3)
    return models


@pytest.fixture(scope="module", autouse=True)
def _freed() -> Iterator[None]:
    """The models' memory serves the benches that follow."""
    yield
    models_of.cache_clear()


def side(preset: str) -> int:
    return SQUARE_SIDE if preset != "debug" else DEBUG_SIDE


def square_case(preset: str, device: str) -> ModelCase:
    return ModelCase(preset=preset, device=device, size=(side(preset), side(preset)))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("mode", MODES)
def test_every_model_and_precision(compare: Comparison, device: str, largest: str, mode: str, batch: int) -> None:
    case = ModelCase(preset=largest, device=device, size=input_size(largest), mode=mode, batch=batch)
    square = replace(case, size=(side(largest), side(largest)))
    models = models_of(largest, device)
    native = device != "cpu" or has_bfloat16() or not compare.benchmark.enabled
    candidates = []
    for precision in reversed(tuple(DTYPES)) if native else ("float32",):
        ours, squares = replace(case, precision=precision), replace(square, precision=precision)
        twin = squares.our_candidate("mast", models.square)
        candidates += [
            named(ours.our_candidate("mast", models.mast)),
            named(ours.our_candidate("ast", models.ast)),
            named(replace(twin, name=f"{twin.name} {SQUARE}")),
            named(squares.candidate(TIMM, models.timm)),
        ]
    candidates.append(named(case.candidate("transformers AST", models.transformers)))
    compare("side by side", candidates, device, BUDGET, **{**case.conditions(), "precision": MIXED})


def named(candidate: Candidate) -> Candidate:
    """The same with its precision in its name: names are unique in a contest."""
    return replace(candidate, name=f"{candidate.name}, {candidate.precision}")
