"""A forward pass of both models by clip length. `python -m reproduce scaling` goes on to 60 s and draws the figure."""

from __future__ import annotations

import pytest

from bench.conftest import ContestRunner
from bench.contenders import FAMILIES, input_size, our_contender
from reproduce.efficiency.contest import Budget

FRAMES = (100, 500, 2000)  # 1, 5 and 20 s at a 10 ms hop; `test_models.py` has 10.24 s
BUDGET = Budget(least=3, most=9, seconds=8)


@pytest.mark.parametrize("frames", FRAMES)
def test_ast_and_mast_by_clip_length(contest: ContestRunner, device: str, largest: str, frames: int) -> None:
    size = input_size(largest, frames)
    contenders = [
        our_contender("inference", f"{family}_{largest}", batch=1, device=device, size=size) for family in FAMILIES
    ]
    contest(
        "clip length",
        contenders,
        device,
        BUDGET,
        mode="inference",
        preset=largest,
        batch=1,
        compile=False,
        input_size=size,
    )
