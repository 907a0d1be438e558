"""The switches between AST and MAST: both ends are the models themselves, and each switch is what its name says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from make_models import make_input, make_model
from test_training_memory import saved_bytes

from models import MASTConfig, create_model
from models.checkpoints import load_checkpoint, save_checkpoint
from models.complexity import LIBRARY_COUNTERS, measure_complexity
from models.mast_config import plan_blocks
from models.pooling_attention import PoolingAttention
from reproduce.efficiency.training_memory import training_memory
from reproduce.experiments.comparisons import cross_validation
from reproduce.experiments.components import (
    AST_SHAPES,
    ast_values,
    common_rate,
    component_variants,
    mast_without,
    path_to_mast,
)
from reproduce.experiments.presets import PRESETS

pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")
SIZE = (32, 64)
AT_MAST = {
    "patch_size": 7,
    "patch_stride": 4,
    "patch_padding": 3,
    "widen": True,
    "pool_queries": True,
    "pool_keys": True,
    "positions": "relative",
    "residual_pooling": True,
    "readout": "mean",
}
ONE_OFF = {name: fields for name, fields in ast_values("debug").items() if name != "widening"} | {
    "widening": {"widen": False, "num_heads": 2}
}
SMALL = {"depths": (1, 1, 2, 1), "embed_dim": 8}


def all_off(name: str, **size: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for values in ast_values(name).values():
        fields |= values
    return {**fields, **size}


def test_all_switches_at_masts_values_are_mast_bit_for_bit() -> None:
    plain, named = (make_model("mast_debug", input_size=SIZE, **config) for config in ({}, AT_MAST))
    assert plain.config == named.config == MASTConfig(input_size=SIZE, embed_dim=8, depths=(1, 1, 1, 1))
    assert list(plain.state_dict()) == list(named.state_dict())
    x = make_input(2, SIZE)
    for path in plain.attention_paths:
        assert torch.equal(plain.set_attention(path)(x), named.set_attention(path)(x))


@torch.no_grad()
@pytest.mark.parametrize("path", ["sdpa", "reference"])
@pytest.mark.parametrize("size", [(64, 64), (48, 100)])
def test_all_switches_at_asts_values_are_ast_with_the_same_weights(path: str, size: tuple[int, int]) -> None:
    shape: dict[str, Any] = {"embed_dim": 24, "num_heads": 3}
    ast = make_model("ast_tiny", num_classes=7, input_size=size, depth=4, **shape).double()
    off = all_off("tiny", depths=(1, 1, 1, 1), **shape)
    switched = make_model("mast_tiny", num_classes=7, input_size=size, **off).double()
    switched.load_state_dict(ast.state_dict(), strict=True)
    x = make_input(2, size).double()
    torch.testing.assert_close(switched.set_attention(path)(x), ast.set_attention(path)(x), rtol=0, atol=1e-12)
    tokens = [model.forward_features(x) for model in (switched, ast)]
    torch.testing.assert_close(*tokens, rtol=0, atol=1e-12)
    assert switched.no_weight_decay() == ast.no_weight_decay()
    assert [s.prefix_tokens for s in switched.block_shapes()] == [s.prefix_tokens for s in ast.block_shapes()]


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_the_path_starts_at_asts_size_and_costs(size: str) -> None:
    with torch.device("meta"):
        ast: Any = create_model(f"ast_{size}", input_size=(64, 64))
        switched: Any = create_model(f"mast_{size}", input_size=(64, 64), **all_off(size))
    assert (ast.config.embed_dim, ast.config.num_heads) == (
        AST_SHAPES[size].embed_dim,
        AST_SHAPES[size].num_heads,
    )
    ours, theirs = measure_complexity(switched), measure_complexity(ast)
    assert (ours.parameters, ours.macs_full, ours.macs_module_only) == (
        theirs.parameters,
        theirs.macs_full,
        theirs.macs_module_only,
    )
    shapes = {key: value.shape for key, value in switched.state_dict().items()}
    assert shapes == {key: value.shape for key, value in ast.state_dict().items()}


def reference_block(block: Any, x: torch.Tensor) -> torch.Tensor:
    """A block computed from its plan with plain loops over heads; torch's own layers, none of the fused paths."""
    plan, attn, before = block.plan, block.attn, block.plan.prefix_tokens
    B, normed = len(x), block.norm1(x)
    parts = attn.qkv(normed).chunk(3, dim=-1)
    pools = ((attn.pool_q, attn.norm_q), (attn.pool_k, attn.norm_k), (attn.pool_v, attn.norm_v))
    outputs = []
    for head in range(plan.num_heads):
        channels = slice(head * plan.head_dim, (head + 1) * plan.head_dim)
        q, k, v = (
            norm(part[..., channels])
            if pool is None
            else norm(
                torch.cat(
                    (
                        part[:, :before, channels],
                        pool(part[:, before:, channels].transpose(1, 2).unflatten(2, plan.grid)).flatten(2).mT,
                    ),
                    dim=1,
                )
            )
            for part, (pool, norm) in zip(parts, pools, strict=True)
        )
        scores = q @ k.mT / plan.head_dim**0.5
        if plan.relative:
            (F_, T), (f, t) = plan.grid_out, plan.key_grid
            for query in range(F_ * T):
                for key in range(f * t):
                    rows = (
                        attn.rel_pos_freq[attn.freq_index[query // T, key // t]],
                        attn.rel_pos_time[attn.time_index[query % T, key % t]],
                    )
                    scores[:, before + query, before + key] += q[:, before + query] @ (rows[0] + rows[1])
        y = scores.softmax(-1) @ v
        if plan.residual:
            y = y + torch.cat((torch.zeros_like(q[:, :before]), q[:, before:]), dim=1)
        outputs.append(y)
    skip = x if block.proj is None else block.proj(normed)
    if block.pool_skip is not None:
        grid = skip[:, before:].mT.unflatten(2, plan.grid)
        skip = torch.cat((skip[:, :before], block.pool_skip(grid).flatten(2).mT), dim=1)
    x = skip + attn.proj(torch.cat(outputs, dim=-1))
    assert x.shape == (B, plan.queries, plan.dim_out)
    return x + block.mlp(x, block.norm2)


@torch.no_grad()
@pytest.mark.parametrize("name", ONE_OFF)
def test_mast_without_a_component_equals_a_plain_computation(name: str) -> None:
    fields = {**SMALL, **ONE_OFF[name]}
    model = make_model("mast_debug", num_classes=5, input_size=SIZE, **fields).double()
    x = make_input(2, SIZE).double()
    expected = model.embed(x)
    for block in model.blocks:
        expected = reference_block(block, expected)
    expected = model.forward_head(model.norm(expected))
    for path in model.attention_paths:
        torch.testing.assert_close(model.set_attention(path)(x), expected, rtol=0, atol=1e-10)
    with_it = make_model("mast_debug", num_classes=5, input_size=SIZE, **SMALL)
    assert measure_complexity(model) != measure_complexity(with_it) or name == "residual"


def test_switched_off_parts_have_no_parameters() -> None:
    def names(**config: Any) -> set[str]:
        return set(create_model("mast_debug", input_size=SIZE, **config).state_dict())

    whole = names()
    assert whole - names(pool_queries=False) == {
        f"blocks.{n}.attn.{part}.{kind}"
        for n in range(4)
        for part, kind in (("pool_q", "weight"), ("norm_q", "weight"), ("norm_q", "bias"))
    }
    assert all("pool_k" in k or "pool_v" in k or "norm_k" in k or "norm_v" in k for k in whole - names(pool_keys=False))
    assert names(positions="absolute") - whole == {"pos_embed"}
    assert names(readout="tokens") - whole == {"cls_token", "dist_token", "head_norm.weight", "head_norm.bias"}
    assert names(residual_pooling=False) == whole


def test_without_pooled_queries_every_token_asks_and_leaves() -> None:
    config = MASTConfig(input_size=(64, 64), pool_queries=False)
    assert {plan.grid_out for plan in plan_blocks(config)} == {(16, 16)}
    assert {plan.key_grid for plan in plan_blocks(config)} == {(4, 4)}  # nothing divides the stride of keys
    unpooled = plan_blocks(replace(config, pool_queries=True, pool_keys=False))
    assert all(plan.key_grid == plan.grid for plan in unpooled)


def test_attention_without_positions_needs_no_mask_and_names_the_path_it_takes() -> None:
    (plan, *_) = plan_blocks(MASTConfig(input_size=SIZE, embed_dim=8, positions="absolute"))
    attention = PoolingAttention(plan)
    assert attention.relative_bias(torch.zeros(1, 1, plan.queries, 8)) is None
    for path in ("auto", "folded", "chunked"):
        attention.path = path
        assert attention.path_on(torch.device("cpu")) == "sdpa"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": "none"}, "positions must be one of"),
        ({"readout": "max"}, "readout must be one of"),
        ({"patch_stride": 0}, "size and stride must be positive"),
        ({"patch_padding": 7}, "the padding less than the size"),
        ({"patch_size": 40, "patch_padding": 0}, "smaller than a patch of 40"),
    ],
)
def test_switches_that_cannot_be_built_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("mast_debug", input_size=SIZE, **fields)


PATH = [(v.label, v.model, dict(v.config)) for v in (*path_to_mast("tiny"), *mast_without("tiny"))]


@pytest.mark.parametrize(("label", "name", "config"), PATH, ids=[label for label, *_ in PATH])
def test_costs_of_every_row_are_what_a_counter_sees_and_a_step_saves(
    label: str, name: str, config: dict[str, Any]
) -> None:
    model: Any = create_model(name, num_classes=50, input_size=(64, 64), **config)
    x = torch.zeros(1, 1, 64, 64)
    with torch.no_grad():
        counted = LIBRARY_COUNTERS["torch FlopCounterMode"](model.eval().set_attention("reference"), x)
    assert counted == pytest.approx(measure_complexity(model).macs_full, rel=0.03)  # it counts no LayerNorm
    model = create_model(name, num_classes=50, input_size=(64, 64), **config).train().set_recompute(2**40)
    per_clip = saved_bytes(model, 3) - saved_bytes(model, 2)
    assert training_memory(model, 1, "cpu", mixed=False).saved == pytest.approx(per_clip, rel=0.12)


def test_each_row_differs_from_the_one_before_by_one_component() -> None:
    values = ast_values("tiny")
    rows = path_to_mast("tiny")
    assert (rows[0].model, rows[-1].model, rows[-1].config) == ("ast_tiny", "mast_tiny", {})
    before = {field: value for fields in values.values() for field, value in fields.items()}
    for row, fields in zip(rows[1:], values.values(), strict=True):
        assert {name: value for name, value in before.items() if name not in fields} == row.config
        before = dict(row.config)


def test_every_row_trains_on_every_fold_at_one_learning_rate() -> None:
    preset = PRESETS["coarse"]
    both = cross_validation(preset, "esc50", ("1", "2", "3"), ("1", "2"), seeds=(0,))
    path = component_variants(both, preset)
    assert len(path) == 2 * 9
    assert {e.recipe.lr for e in path} == {common_rate(preset)} == {1.77e-4}
    whole = component_variants(both, preset, without=True)
    assert len(whole) == 2 * (9 + 7)  # without residual pooling MAST is a row of the path already


def test_a_switched_model_is_saved_with_its_switches_and_resized(tmp_path: Path) -> None:
    model = create_model("mast_debug", num_classes=2, input_size=SIZE, positions="absolute", readout="tokens")
    path = tmp_path / "switched.safetensors"
    save_checkpoint(path, model, "mast_debug", front_end={}, labels={"label": ["a", "b"]}, multilabel=False)
    loaded = load_checkpoint(path)
    assert loaded.config == model.config
    x = make_input(1, SIZE)
    assert torch.equal(loaded.model(x), model.eval()(x))
    longer = load_checkpoint(path, input_size=(32, 128)).model
    assert longer.pos_embed.shape == (1, 2 + 8 * 32, 8)
    assert torch.equal(longer.pos_embed[:, :2], model.pos_embed[:, :2])
