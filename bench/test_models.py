"""Both models in the smaller sizes and every precision: a forward pass and a training step, at 128 x 1024."""

from __future__ import annotations

from bench.candidates import ModelCase, input_size
from bench.conftest import Comparison
from reproduce.efficiency.stopping import Budget

BUDGETS = {"inference": Budget(least=3, most=15, seconds=5), "training": Budget(least=3, most=10, seconds=5)}


def test_ast_and_mast(
    compare: Comparison, device: str, case: tuple[str, str, int], precision: str, compiled: bool
) -> None:
    mode, preset, batch = case
    models = ModelCase(
        preset=preset,
        device=device,
        size=input_size(preset),
        mode=mode,
        batch=batch,
        precision=precision,
        compiled=compiled,
    )
    compare("models", models.our_candidates(), device, BUDGETS[mode], **models.conditions())
