"""Behaviour that both models share: heads, inputs, precision, training behaviour, cost and timm's interface."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from make_models import make_input, make_model
from timm.layers import DropPath
from torch import Tensor, nn

from models import AST, MAST, create_model

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["ast_debug", "mast_debug"]
PATHS = [(f"{family.__name__.lower()}_debug", path) for family in (AST, MAST) for path in family.attention_paths]
SIZE = (32, 96)  # the smallest whose grids keep at least two rows and two columns in every block of MAST


# --- inputs and configs


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in NAMES for size in ((16, 16), (17, 25), (37, 101), (128, 333), (16, 227))]
    + [("mast_debug", (1, 1)), ("mast_debug", (5, 3))],  # smaller than AST's patch
)
def test_any_input_size_on_every_path(name: str, size: tuple[int, int]) -> None:
    model = make_model(name, input_size=size, num_classes=7)
    x = make_input(size=size)
    expected = model.set_attention("reference")(x)
    assert expected.shape == (2, 7)
    last = list(model.block_shapes())[-1]
    assert model.forward_features(x).shape == (2, last.prefix_tokens + last.tokens, last.width)
    for path in model.attention_paths:
        torch.testing.assert_close(model.set_attention(path)(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 96, 32), (2, 1, 32, 97), (2, 2, 32, 96), (1, 32, 96), (2, 1, 1, 32, 96)])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_shape_is_an_error_with_both_shapes(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="32 mels, 96 frames") as error:
        create_model(name, input_size=SIZE)(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(
            (name, arguments)
            for name in NAMES
            for arguments in (
                {"num_classes": 0},
                {"num_classes": {}},
                {"num_classes": {"verb": 97, "noun": 0}},
                {"embed_dim": 9, "num_heads": 2},
                {"num_heads": 0},
                {"in_chans": 0},
                {"attention": "flash"},
                {"drop_path_rate": 1.0},
                {"drop_path_rate": -0.1},
                {"input_size": (0, 100)},
                {"input_size": (128, 10**6)},
            )
        ),
        ("ast_debug", {"input_size": (15, 100)}),
        ("ast_debug", {"depth": 0}),
        ("ast_debug", {"depth": 10**6}),
        ("mast_debug", {"depths": (1, 1, 1)}),
        ("mast_debug", {"depths": (1, 1, 1, 10**6)}),
        ("mast_debug", {"pool_strides": ((2, 2), (2, 2))}),
        ("mast_debug", {"pool_strides": ((2, 2), (2, 2), (0, 2))}),
        ("mast_debug", {"kv_stride": (0, 4)}),
    ],
)
def test_a_config_that_cannot_be_built_is_an_error(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        create_model(name, **arguments)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_attention_path_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="attention must be one of"):
        create_model(name, input_size=SIZE).set_attention("flash")


@pytest.mark.parametrize("name", NAMES)
def test_config_survives_json(name: str) -> None:
    config = create_model(name, num_classes={"verb": 97, "noun": 300}, input_size=(64, 100)).config
    assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [
        ("ast_base", 527, 86_594_063),
        ("ast_base", 309, 86_426_421),
        ("ast_base", {"verb": 97, "noun": 300}, 86_494_093),
        ("ast_base", 32, 86_213_408),
        ("mast_base", 527, 51_379_919),
        ("mast_base", 309, 51_212_277),
        ("mast_base", {"verb": 97, "noun": 300}, 51_279_949),
        ("mast_base", 34, 51_000_802),
        ("mast_base", 32, 50_999_264),
    ],
)
def test_parameters_at_every_class_count(name: str, num_classes: int | dict[str, int], expected: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name, num_classes=num_classes).parameters()) == expected


@pytest.mark.parametrize(
    ("size", "ast_width", "mast_width"), [("base", 768, 96), ("small", 384, 48), ("tiny", 192, 24)]
)
def test_presets_differ_in_width_alone(size: str, ast_width: int, mast_width: int) -> None:
    with torch.device("meta"):
        ast, mast = create_model(f"ast_{size}").config, create_model(f"mast_{size}").config
    assert (ast.embed_dim, ast.depth, ast.embed_dim // ast.num_heads) == (ast_width, 12, 64)
    assert (mast.embed_dim, mast.depths, mast.num_heads) == (mast_width, (2, 3, 16, 3), 1)


# --- logits


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_the_tokens_feeds_every_head(name: str) -> None:
    """MAST's of all tokens, AST's of the two prefix tokens; AST's heads share a LayerNorm before them."""
    model = make_model(name, num_classes={"verb": 3, "noun": 4}, input_size=SIZE)
    x = make_input(batch=3)
    tokens = model.forward_features(x)
    embedding = model.forward_head(tokens, pre_logits=True)
    assert embedding.shape == (3, model.embedding_dim)
    torch.testing.assert_close(embedding, tokens[:, : 2 if isinstance(model, AST) else None].mean(dim=1))
    normed = model.head_norm(embedding) if isinstance(model, AST) else embedding
    for head, logits in model(x).items():
        torch.testing.assert_close(logits, model.head.fc[head](normed))


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_raw_and_the_same_in_training_and_evaluation(name: str) -> None:
    model = make_model(name, input_size=SIZE, num_classes=7)
    evaluated = model.eval()(make_input())
    assert evaluated.min() < 0
    assert torch.equal(evaluated, model.train()(make_input()))


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_a_clip_does_not_depend_on_its_batch(name: str, path: str) -> None:
    model = make_model(name, input_size=SIZE, attention=path)
    x = make_input(batch=4)
    x[2] = float("nan")
    logits = model(x)
    for clip in (0, 1, 3):
        torch.testing.assert_close(logits[clip], model(x[clip : clip + 1])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_classes", [40, {"verb": 40, "noun": 4}])
@pytest.mark.parametrize("name", NAMES)
def test_pooling_and_heads_are_float32_under_autocast(name: str, num_classes: int | dict[str, int]) -> None:
    model = make_model(name, input_size=SIZE, num_classes=num_classes)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = model.forward_features(make_input(batch=8))
        logits, embedding = model.forward_head(tokens), model.pool(tokens)
    expected = model.forward_head(tokens.float())
    if isinstance(num_classes, int):
        logits, expected = {"label": logits}, {"label": expected}
    assert embedding.dtype == torch.float32
    for head, values in logits.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, expected[head], rtol=0, atol=1e-6)
        assert not torch.equal(values, values.bfloat16().float())  # which would have been rounded


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_a_converted_model_gives_logits_of_its_weights_precision(name: str, dtype: torch.dtype) -> None:
    model = make_model(name, input_size=SIZE).to(dtype)
    assert model(make_input().to(dtype)).dtype == dtype


# --- training


@pytest.mark.parametrize("num_classes", [5, {"verb": 3, "noun": 4}])
@pytest.mark.parametrize(("name", "path"), PATHS)
def test_gradients_reach_every_parameter(name: str, path: str, num_classes: int | dict[str, int]) -> None:
    model = make_model(name, num_classes=num_classes, input_size=SIZE, attention=path).double()
    logits = model(make_input().double())
    heads = logits.values() if isinstance(logits, dict) else [logits]
    sum((head**2).sum() for head in heads).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    unmoved = {key for key, p in model.named_parameters() if p.grad.abs().max() < 1e-9}
    # A key bias adds the same to all scores of a query, which softmax ignores. (AST's is a part of qkv.bias.)
    silent = {f"blocks.{index}.attn.norm_k.bias" for index in range(len(model.blocks))}
    assert unmoved == (silent if isinstance(model, MAST) else set())


@pytest.mark.parametrize(("name", "depth"), [("ast_base", 12), ("mast_base", 24)])
def test_drop_path_rates_grow_linearly_over_the_blocks(name: str, depth: int) -> None:
    with torch.device("meta"):
        model = create_model(name, drop_path_rate=0.3)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.3 * index / (depth - 1) for index in range(1, depth)])


@pytest.mark.parametrize("recompute_from", [0, None])
@pytest.mark.parametrize(("name", "path"), PATHS)
def test_checkpointed_and_recomputed_blocks_give_equal_gradients(
    name: str, path: str, recompute_from: int | None
) -> None:
    model = make_model(name, input_size=SIZE, drop_path_rate=0.5, attention=path).train()
    calls: list[int] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda m, i: calls.append(1))
    gradients = []
    for enable, elements, passes in ((False, None, 1), (True, recompute_from, 2), (False, 0, 1)):
        calls.clear()
        torch.manual_seed(0)
        model.zero_grad()
        model.set_recompute(elements).set_grad_checkpointing(enable)(make_input(batch=4)).square().sum().backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters()})
        assert len(calls) == len(model.blocks) * passes
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_gradients_in_bfloat16_are_those_of_float32_for_every_parameter(name: str) -> None:
    """Sums over 16,384 rows, which bfloat16 does not hold: a sum in it stops growing at 256 times its terms."""
    torch.manual_seed(0)
    model, x = create_model(name, num_classes=10, input_size=(128, 512)).train(), make_input(4, (128, 512))
    gradients = []
    for mixed in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits: Any = model(x)
        F.cross_entropy(logits.float(), torch.arange(4)).backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    exact, low = gradients
    for key, gradient in exact.items():
        if not key.endswith("norm_k.bias"):  # which changes no probability without positions, and hardly with them
            assert (low[key] - gradient).norm() < 0.3 * gradient.norm(), key


@pytest.mark.parametrize(
    ("name", "expected"), [("ast_debug", {"cls_token", "dist_token", "pos_embed"}), ("mast_debug", set())]
)
def test_parameters_without_decay_are_those_of_the_reference(name: str, expected: set[str]) -> None:
    """FAIR decays the relative positions (ZERO_DECAY_POS_CLS False)."""
    model = create_model(name, input_size=SIZE)
    assert model.no_weight_decay() == expected <= {key for key, _ in model.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_model_gives_the_same_logits(name: str) -> None:
    model = make_model(name, input_size=SIZE, num_classes=7)
    exported = torch.export.export(model, (make_input(),)).module()
    torch.testing.assert_close(exported(make_input()), model(make_input()))


# --- timm's interface


@pytest.mark.parametrize("name", NAMES)
def test_intermediates_are_the_token_grids_that_leave_the_blocks(name: str) -> None:
    model, x = make_model(name, input_size=SIZE), make_input()
    leaving: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda m, i, y: leaving.append(y)) for block in model.blocks]
    tokens, grids = model.forward_intermediates(x)
    for hook in hooks:
        hook.remove()
    assert torch.equal(tokens, model.forward_features(x))
    shapes = list(model.block_shapes())[1:]
    for grid, block, shape in zip(grids, leaving, shapes, strict=True):
        assert grid.shape == (2, shape.width, *shape.grid)
        assert torch.equal(grid.flatten(2).transpose(1, 2), block[:, shape.prefix_tokens :])
    last = model.forward_intermediates(x, indices=1, norm=True, output_fmt="NLC", intermediates_only=True)
    assert torch.equal(last[0], tokens[:, shapes[-1].prefix_tokens :])
    assert len(model.forward_intermediates(x, indices=[0, -1], intermediates_only=True)) == 2
    with pytest.raises(ValueError, match="output_fmt"):
        model.forward_intermediates(x, output_fmt="NHWC")


@pytest.mark.parametrize("name", NAMES)
def test_intermediates_stop_early_and_give_prefix_tokens_on_request(name: str) -> None:
    model, x = make_model(name, input_size=SIZE), make_input()
    calls: list[int] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda m, i: calls.append(1))
    ((grid, prefix),) = model.forward_intermediates(
        x, indices=[0], return_prefix_tokens=True, stop_early=True, intermediates_only=True
    )
    assert len(calls) == 1
    shape = list(model.block_shapes())[1]
    assert prefix.shape == (2, shape.prefix_tokens, shape.width)
    assert torch.equal(grid, model.forward_intermediates(x, indices=[0], intermediates_only=True)[0])


@pytest.mark.parametrize("name", NAMES)
def test_without_classifier_and_pooling_the_tokens_are_left(name: str) -> None:
    model, x = make_model(name, input_size=SIZE), make_input()
    model.reset_classifier(0, "")
    assert torch.equal(model(x), model.forward_features(x))
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_timm_uses_the_models_as_its_own(name: str) -> None:
    """What timm's tests and its training script ask of a model."""
    timm = pytest.importorskip("timm")
    from timm.optim import create_optimizer_v2

    model, x = timm.create_model(name, num_classes=5, img_size=SIZE, drop_path_rate=0.1).eval(), make_input()
    state, cfg = model.state_dict(), model.default_cfg
    assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= set(state)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (1, 128, 1024)
    embedding = model.forward_head(model.forward_features(x), pre_logits=True)
    assert embedding.shape[1] == model.head_hidden_size == model.num_features
    assert timm.create_model(name, num_classes=0, img_size=SIZE)(x).shape == embedding.shape
    assert timm.create_model(name, num_classes=0, global_pool="", img_size=SIZE)(x).ndim == 3
    groups = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.7).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    model.set_grad_checkpointing(True)
    features = timm.create_model(name, features_only=True, out_indices=(0, -1), img_size=SIZE)
    grids = features(x)
    assert [grid.shape[1] for grid in grids] == features.feature_info.channels()
    assert features.feature_info.reduction() == [round(SIZE[1] / grid.shape[3]) for grid in grids]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_classifier_leaves_the_embedding_as_it_was(name: str) -> None:
    model, x = make_model(name, input_size=SIZE, num_classes=7), make_input()
    embedding = model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier({"verb": 3, "noun": 4})
    assert {head: y.shape[1] for head, y in model(x).items()} == model.num_classes == {"verb": 3, "noun": 4}
    model.reset_classifier(11)
    assert model(x).shape == (2, 11) and model.config.num_classes == 11
    assert isinstance(model.get_classifier(), nn.Linear)
    model.reset_classifier(0)
    assert torch.equal(model(x), embedding)
    assert (model.num_classes, model.num_features) == (0, embedding.shape[1])
    with pytest.raises(ValueError, match="global_pool"):
        model.reset_classifier(5, global_pool="avg")
