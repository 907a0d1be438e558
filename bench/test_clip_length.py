"""A forward pass of both models by clip length. `python -m reproduce scaling` continues to 60 s and draws it."""

from __future__ import annotations

import pytest

from bench.candidates import ModelCase, input_size
from bench.conftest import Comparison
from reproduce.efficiency.stopping import Budget

FRAMES = (100, 500, 2000)  # 1, 5 and 20 s at a 10 ms hop; `test_models.py` has 10.24 s
BUDGET = Budget(least=3, most=9, seconds=5)


@pytest.mark.parametrize("frames", FRAMES)
def test_ast_and_mast_by_clip_length(compare: Comparison, device: str, largest: str, frames: int) -> None:
    case = ModelCase(preset=largest, device=device, size=input_size(largest, frames))
    compare("clip length", case.our_candidates(), device, BUDGET, **case.conditions())
