"""Ours beside the public implementations: transformers' AST, and timm's MViTv2 on the square inputs it takes."""

from __future__ import annotations

import pytest

from bench.conftest import ContestRunner
from bench.contenders import contender, input_size, our_contender, spectrograms
from bench.peers import check_equal, square_mast, timm_mvitv2, transformers_ast
from bench.products import products_contender
from models import AST, create_model
from reproduce.efficiency.contest import Budget

SQUARE, DEBUG_SQUARE = 352, 64  # 88 x 88 tokens, near the 32 x 256 of 128 x 1024
BUDGET = Budget(least=3, most=9, seconds=15)


def test_transformers_ast(contest: ContestRunner, device: str, largest: str) -> None:
    name, size = f"ast_{largest}", input_size(largest)
    ours = create_model(name, input_size=size)
    assert isinstance(ours, AST)
    theirs = transformers_ast(ours).to(device)
    contest(
        "peer: transformers",
        [
            our_contender("inference", name, batch=1, device=device, size=size, model=ours),
            contender("inference", "transformers AST", theirs, spectrograms(1, size, device), "float32"),
        ],
        device,
        BUDGET,
        mode="inference",
        preset=largest,
        batch=1,
        compile=False,
        input_size=size,
    )


@pytest.mark.parametrize(("mode", "batch"), [("inference", 1), ("training", 4)])
def test_timm_mvitv2(contest: ContestRunner, device: str, largest: str, mode: str, batch: int) -> None:
    side = SQUARE if largest != "debug" else DEBUG_SQUARE
    name, size = f"mast_{largest}", (side, side)
    ours = square_mast(name, side).to(device)
    theirs = timm_mvitv2(ours).to(device)
    x = spectrograms(batch, size, device)
    check_equal(ours, theirs, x[:1], tolerance=1e-3)
    contest(
        "peer: timm",
        [
            our_contender(mode, name, batch=batch, device=device, size=size, model=ours),
            contender(mode, "timm MViTv2", theirs, x, "float32"),
            products_contender(mode, name, ours, x),
        ],
        device,
        BUDGET,
        mode=mode,
        preset=largest,
        batch=batch,
        compile=False,
        input_size=size,
    )
