"""MAST: parity with timm's MViTv2, geometry and size of the paper's Table 1, and its head."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from make_models import SoftmaxShapes, make_input, make_model
from torch import nn

from bench.peers import timm_names
from models import MASTConfig, create_model
from models.mast_config import plan_blocks
from models.pooling_attention import ATTENTION_PATHS

SIZE = (32, 96)


def make_timm(name: str, model: Any) -> nn.Module:
    """timm's MViTv2 that shares the weights of `model`.

    timm builds square models only, yet its forward follows the true grid. So a square one is built from timm's
    parts, without storage, and takes over our tensors, rectangular relative-position tables included.
    """
    mvitv2 = pytest.importorskip("timm.models.mvitv2")
    config = model.config
    squares = tuple((max(stride), max(stride)) for stride in config.pool_strides)
    cfg = mvitv2.MultiScaleVitCfg(
        depths=config.depths,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        stride_q=((1, 1), *squares),
    )
    if config.embed_dim == 96:
        assert cfg == mvitv2.model_cfgs[name]
    state = timm_names(model)
    with torch.device("meta"):
        reference = mvitv2.MultiScaleVit(cfg, 224, in_chans=config.in_chans, num_classes=config.num_classes)
        for stage, stride in enumerate(config.pool_strides, start=1):
            if stride[0] != stride[1]:
                reference.stages[stage].blocks[0] = mvitv2.MultiScaleBlock(
                    cfg.embed_dim[stage - 1],
                    cfg.embed_dim[stage],
                    cfg.num_heads[stage],
                    feat_size=(8, 8),
                    kernel_q=cfg.kernel_qkv,
                    kernel_kv=cfg.kernel_qkv,
                    stride_q=stride,
                    stride_kv=cfg.stride_kv[stage],
                    has_cls_token=cfg.use_cls_token,
                    expand_attn=cfg.expand_attn,
                    norm_layer=functools.partial(nn.LayerNorm, eps=cfg.norm_eps),
                )
        for key, value in state.items():
            owner, _, leaf = key.rpartition(".")
            if leaf in ("rel_pos_h", "rel_pos_w"):
                setattr(reference.get_submodule(owner), leaf, nn.Parameter(torch.empty(value.shape)))
    reference.load_state_dict(state, strict=True, assign=True)
    return reference.eval()


@torch.no_grad()
def check_timm_parity(name: str, model: Any, paths: tuple[str, ...], dtype: torch.dtype, tolerance: float) -> None:
    config = model.config
    model.to(dtype)
    x = make_input(1, config.input_size, config.in_chans).to(dtype)
    expected = make_timm(name, model)(x)
    assert expected.std() > 0.1  # a collapsed output would agree with anything
    for path in paths:
        logits = model.set_attention(path)(x)
        torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "depths"),
    [("mvitv2_tiny", (1, 2, 5, 2)), ("mvitv2_small", (1, 2, 11, 2)), ("mvitv2_base", (2, 3, 16, 3))],
)
def test_logits_equal_timm_on_images(name: str, depths: tuple[int, ...]) -> None:
    model = make_model(
        "mast_base",
        num_classes=1000,
        input_size=(224, 224),
        in_chans=3,
        depths=depths,
        pool_strides=((2, 2), (2, 2), (2, 2)),
    )
    # Every path on the shallowest: the others only repeat its blocks.
    paths = ATTENTION_PATHS if name == "mvitv2_tiny" else ("auto",)
    check_timm_parity(name, model, paths, torch.float32, 1e-5)


@pytest.mark.parametrize(
    ("input_size", "pool_strides"),
    [
        ((128, 1024), ((2, 2), (2, 2), (1, 2))),
        ((64, 224), ((2, 2), (2, 2), (1, 1))),
        ((32, 64), ((2, 2), (2, 2), (2, 1))),
    ],
)
def test_logits_equal_timm_on_spectrograms(
    input_size: tuple[int, int], pool_strides: tuple[tuple[int, int], ...]
) -> None:
    """MAST's rectangular geometry, pooling along time only included, at a twelfth of its width.

    float64 leaves no room for a small wrong term; float32 is what people run.
    """
    model = make_model(
        "mast_base",
        num_classes=50,
        embed_dim=8,
        depths=(1, 1, 2, 2),
        input_size=input_size,
        pool_strides=pool_strides,
    )
    check_timm_parity("mvitv2_base", model, ("auto",), torch.float32, 1e-5)
    check_timm_parity("mvitv2_base", model, ATTENTION_PATHS, torch.float64, 1e-11)


def trace_shapes(**arguments: Any) -> tuple[Any, list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The base model, the output shapes of patch embedding and blocks, and the score shapes; nothing is computed."""
    shapes: list[tuple[int, ...]] = []
    with torch.device("meta"):
        model: Any = create_model("mast_base", attention="reference", **arguments)
    for module in (model.patch_embed.proj, *model.blocks):
        module.register_forward_hook(lambda m, i, y: shapes.append(tuple(y.shape)))
    with SoftmaxShapes() as scores:
        logits = model(torch.empty(1, 1, 128, 1024, device="meta"))
    assert logits.shape == (1, 527)
    return model, shapes, scores.shapes


# Table 1's rows: blocks, tokens (frequency x time), width; then heads and key tokens per block (RECIPES 3.1, 3.3).
TABLE_1 = [(range(0, 2), (32, 256), 96), (range(2, 5), (16, 128), 192), (range(5, 21), (8, 64), 384)]
TABLE_1 += [(range(21, 24), (8, 32), 768)]
HEADS = [1] * 2 + [2] * 3 + [4] * 16 + [8] * 3
KEY_TOKENS = [512] * 2 + [2048] + [512] * 2 + [2048] + [512] * 16 + [256] * 2


def test_feature_sizes_are_those_of_table_1() -> None:
    model, shapes, scores = trace_shapes()
    patches, *blocks = shapes
    assert patches == (1, 96, 32, 256)
    assert len(blocks) == len(scores) == 24
    assert [index for rows, _, _ in TABLE_1 for index in rows] == list(range(24))
    for rows, grid, width in TABLE_1:
        for index in rows:
            tokens = grid[0] * grid[1]
            assert blocks[index] == (1, tokens, width), f"block {index}"
            assert scores[index] == (1, HEADS[index], tokens, KEY_TOKENS[index]), f"block {index}"
            assert model.blocks[index].attn.q_grid == grid, f"block {index}"


@pytest.mark.parametrize(
    ("pool_strides", "last_grid", "key_tokens"),
    [
        (((2, 2), (2, 2), (2, 2)), (4, 32), KEY_TOKENS[:22] + [128] * 2),
        (((2, 2), (2, 2), (1, 1)), (8, 64), KEY_TOKENS[:22] + [512] * 2),
        (((2, 2), (1, 1), (1, 1)), (16, 128), [512] * 2 + [2048] + [512] * 21),
        (((1, 1), (1, 1), (1, 1)), (32, 256), [512] * 24),
    ],
)
def test_ablations_keep_their_tokens_and_the_widening(
    pool_strides: tuple[tuple[int, int], ...], last_grid: tuple[int, int], key_tokens: list[int]
) -> None:
    """The pooling ablations: 128, 512, 2048 and 8192 tokens in the last stage, always 768 wide."""
    model, shapes, scores = trace_shapes(pool_strides=pool_strides)
    assert shapes[-1] == (1, last_grid[0] * last_grid[1], 768)
    assert [score[-1] for score in scores] == key_tokens
    assert 51.35e6 < sum(p.numel() for p in model.parameters()) < 52.25e6


def test_key_strides_shrink_per_axis() -> None:
    """FAIR's rule divides each axis by its own query stride; timm's waits until both axes pool (RECIPES 3.4)."""
    plans = plan_blocks(MASTConfig(depths=(1, 2, 1, 1), pool_strides=((1, 2), (1, 4), (2, 2))))
    assert [plan.stride_kv for plan in plans] == [(4, 4), (4, 2), (4, 2), (4, 1), (2, 1)]


@pytest.mark.parametrize("pool_strides", [((2, 2), (1, 3), (3, 1)), ((1, 4), (3, 5), (2, 2)), ((1, 1), (1, 2), (2, 1))])
@pytest.mark.parametrize("size", [(24, 96), (37, 101)])
def test_any_pooling_strides(pool_strides: tuple[tuple[int, int], ...], size: tuple[int, int]) -> None:
    model = make_model("mast_debug", input_size=size, num_classes=7, pool_strides=pool_strides)
    assert model(make_input(size=size)).shape == (2, 7)


def test_every_block_gets_contiguous_tokens() -> None:
    """A residual sum takes over the layout of what it is added to: one transposed at the start stays so for a stage."""
    model = make_model("mast_debug", input_size=SIZE, depths=(2, 1, 1, 1))
    contiguous: list[bool] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: contiguous.append(inputs[0].is_contiguous()))
    model(torch.randn(2, 1, *SIZE))
    assert contiguous == [True] * len(model.blocks)


def test_the_attention_path_is_named_never_auto() -> None:
    model = make_model("mast_debug", input_size=(16, 16))
    assert model.config.attention == "auto"
    assert model.attention == "sdpa"  # on this CPU, as few tokens as these
    with torch.device("meta"):
        other = make_model("mast_debug", input_size=(128, 1024))
    assert other.attention == "sdpa" and other.bfloat16().attention == "folded"  # any other device
    assert make_model("mast_debug", input_size=(16, 16), attention="folded").attention == "folded"
    assert model.set_attention("sdpa").attention == "sdpa"
