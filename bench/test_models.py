"""Both models at every size: a forward pass and a training step, at the paper's 128 x 1024."""

from __future__ import annotations

from bench.conftest import ContestRunner
from bench.contenders import FAMILIES, input_size, our_contender
from reproduce.efficiency.contest import Budget

BUDGETS = {"inference": Budget(least=3, most=15, seconds=8), "training": Budget(least=3, most=10, seconds=10)}


def test_ast_and_mast(
    contest: ContestRunner, device: str, case: tuple[str, str, int], precision: str, compiled: bool
) -> None:
    mode, preset, batch = case
    size = input_size(preset)
    contenders = [
        our_contender(
            mode, f"{family}_{preset}", batch=batch, device=device, precision=precision, compiled=compiled, size=size
        )
        for family in FAMILIES
    ]
    contest(
        "models",
        contenders,
        device,
        BUDGETS[mode],
        precision=precision,
        mode=mode,
        preset=preset,
        batch=batch,
        compile=compiled,
        input_size=size,
    )
