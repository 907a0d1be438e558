"""Attention alone, by path: one block of MAST or AST, one input, every way to compute it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.candidates import MODES, input_size
from bench.conftest import Comparison
from models import create_model
from models.pool_layouts import POOL_LAYOUTS
from reproduce.efficiency.candidates import tensor_bytes
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget

FAMILY_BLOCKS = [("ast", "first"), *(("mast", which) for which in ("first", "widest keys", "deepest", "last"))]
BUDGET = Budget(least=3, most=15, seconds=2)
BATCH = 1


def block_of(model: Any, which: str) -> tuple[int, Any]:
    """Return a block and its number: MAST's blocks differ in grid, strides and heads, AST's are all alike."""
    blocks = list(model.blocks)
    if which == "widest keys":
        number = max(range(len(blocks)), key=lambda n: blocks[n].attn.k_grid[0] * blocks[n].attn.k_grid[1])
    else:
        number = {"first": 0, "deepest": len(blocks) // 2, "last": len(blocks) - 1}[which]
    return number, blocks[number]


def tokens_of(model: Any, block: Any, device: str) -> torch.Tensor:
    """Make the input of the block's attention: (batch, tokens, width)."""
    pooling = hasattr(block, "plan")
    rows, columns = block.plan.grid if pooling else model.config.grid
    return torch.randn(BATCH, rows * columns, block.plan.dim if pooling else model.embedding_dim, device=device)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("family", "which"), FAMILY_BLOCKS)
def test_attention_by_path(compare: Comparison, device: str, largest: str, family: str, which: str, mode: str) -> None:
    model: Any = create_model(f"{family}_{largest}", input_size=input_size(largest)).to(device)
    number, block = block_of(model, which)
    x = tokens_of(model, block, device)
    # On a CPU FlexAttention is neither fused nor trainable.
    paths = [path for path in model.attention_paths if path != "flex" or device != "cpu"]
    candidates = [attention_candidate(model, block.attn, x, path, mode) for path in paths]
    compare(
        "attention",
        candidates,
        device,
        BUDGET,
        mode=mode,
        model=f"{family}_{largest}",
        block=number,
        batch=BATCH,
        tokens=x.shape[1],
        width=x.shape[2],
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("which", ["first", "deepest"])
def test_pooling_by_layout(compare: Comparison, device: str, largest: str, which: str, mode: str) -> None:
    """Time both memory layouts of the depthwise convolutions, within the attention around them."""
    model: Any = create_model(f"mast_{largest}", input_size=input_size(largest)).to(device)
    number, block = block_of(model, which)
    x = tokens_of(model, block, device)

    def candidate(layout: str) -> Candidate:
        attention = attention_candidate(model, block.attn, x, "auto", mode)

        def call() -> None:
            model.set_pool_layout(layout)
            attention.call()

        return replace(attention, name=layout, call=call)

    conditions = {"mode": mode, "model": f"mast_{largest}", "block": number, "batch": BATCH}
    compare("pooling layout", [candidate(layout) for layout in POOL_LAYOUTS], device, BUDGET, **conditions)


def attention_candidate(model: Any, attention: Any, x: torch.Tensor, path: str, mode: str) -> Candidate:
    """Make a candidate of one attention layer by one path; "training" adds the backward pass to input and weights."""

    def forward() -> None:
        model.set_attention(path)
        with torch.inference_mode():
            attention(x)

    def forward_and_backward() -> None:
        model.set_attention(path)
        inputs = x.detach().requires_grad_(True)
        attention(inputs).square().mean().backward()
        attention.zero_grad(set_to_none=True)

    call = forward if mode == "inference" else forward_and_backward
    return Candidate(path, call, len(x), lambda: tensor_bytes(attention.parameters()), attention=path)
