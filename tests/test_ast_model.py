"""AST: parity with Hugging Face, geometry and size of the paper's Table 1, heads, training behaviour."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models import AST, ASTConfig, create_model
from models.ast_model import ATTENTION_PATHS
from models.layers import DropPath


def make_ast(name: str = "ast_debug", seed: int = 0, **arguments: Any) -> Any:
    """A model whose every parameter is random, norms, biases and position embeddings included, in eval mode."""
    model: Any = create_model(name, **arguments)
    assert isinstance(model, AST)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter_name.endswith(("_token", "pos_embed")):
                parameter.copy_(noise)
            elif parameter.ndim == 1:
                parameter.copy_(1 + 0.2 * noise if parameter_name.endswith("weight") else 0.1 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    return model.eval()


def make_input(batch: int = 2, size: tuple[int, int] = (128, 1024), channels: int = 1) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def huggingface_state(model: Any) -> dict[str, Tensor]:
    """Our weights under the in-memory names of transformers 5."""
    body = "audio_spectrogram_transformer."
    block_names = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    names = {
        "cls_token": f"{body}embeddings.cls_token",
        "dist_token": f"{body}embeddings.distillation_token",
        "pos_embed": f"{body}embeddings.position_embeddings",
    }
    modules = {
        "patch_embed.proj": f"{body}embeddings.patch_embeddings.projection",
        "norm": f"{body}layernorm",
        "head_norm": "classifier.layernorm",
        "head.fc": "classifier.dense",
    }
    for layer in range(model.config.depth):
        modules |= {f"blocks.{layer}.{ours}": f"{body}layers.{layer}.{theirs}" for ours, theirs in block_names.items()}
    for ours, theirs in modules.items():
        names |= {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
    state = {}
    for key, value in model.state_dict().items():
        if ".attn.qkv." in key:
            index, kind = key.split(".")[1], key.split(".")[-1]
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                state[f"{body}layers.{index}.attention.{part}_proj.{kind}"] = rows
        else:
            state[names[key]] = value
    return state


def make_huggingface(model: Any) -> nn.Module:
    """Hugging Face's AST of the same geometry that shares the weights of `model`."""
    transformers = pytest.importorskip("transformers", minversion="5")
    config = model.config
    theirs = transformers.ASTConfig(
        hidden_size=config.embed_dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=int(config.embed_dim * config.mlp_ratio),
        layer_norm_eps=config.norm_eps,
        patch_size=config.patch_size,
        frequency_stride=config.patch_stride,
        time_stride=config.patch_stride,
        num_mel_bins=config.input_size[0],
        max_length=config.input_size[1],
        num_labels=config.num_classes,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",  # "eager" rounds the softmax to float32, even in a float64 model
    )
    # Looked up before: transformers imports lazily, and torchaudio would keep a constant on the meta device for good.
    reference_class = transformers.ASTForAudioClassification
    with torch.device("meta"):
        reference = reference_class(theirs)
    reference.load_state_dict(huggingface_state(model), strict=True, assign=True)
    return reference.eval()


@torch.no_grad()
def check_huggingface_parity(model: Any, x: Tensor, tolerance: float) -> None:
    reference = make_huggingface(model)
    expected = reference(x[:, 0].transpose(1, 2)).logits  # theirs takes (batch, frames, mels)
    assert expected.std() > 0.1  # a collapsed output would agree with anything
    for path in ATTENTION_PATHS:
        logits = model.set_attention(path)(x)
        torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(128, 1024), (64, 100)])
def test_logits_equal_huggingface(size: tuple[int, int]) -> None:
    """One epsilon on both sides: Hugging Face has a single one, 1e-12 by default, where AST has 1e-6 and 1e-5."""
    model = make_ast(num_classes=50, input_size=size, embed_dim=32, num_heads=4, depth=2, head_norm_eps=1e-6)
    check_huggingface_parity(model, make_input(1, size), tolerance=1e-5)
    check_huggingface_parity(model.double(), make_input(1, size).double(), tolerance=1e-12)


def test_logits_equal_huggingface_at_base_width() -> None:
    """The paper's width and full input; two of the twelve equal blocks keep it to seconds."""
    model = make_ast("ast_base", depth=2, head_norm_eps=1e-6)
    check_huggingface_parity(model, make_input(batch=1), tolerance=1e-5)


def test_norm_epsilons_are_deits_and_the_mlp_heads() -> None:
    model: Any = create_model("ast_debug", input_size=(16, 16))
    eps = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert eps.pop("head_norm") == 1e-5
    assert len(eps) == 2 * 2 + 1 and set(eps.values()) == {1e-6}


class ScoreShapes(TorchDispatchMode):
    """Collects the shape (batch, heads, queries, keys) of every softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._softmax.default:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def test_feature_sizes_are_those_of_table_1() -> None:
    """1212 = 12 x 101 patches, 768 wide, in every block; the two prefix tokens are the ones Table 1 omits."""
    shapes = []
    with torch.device("meta"):
        model: Any = create_model("ast_base", attention="reference")
    for module in (model.patch_embed.proj, *model.blocks):
        module.register_forward_hook(lambda m, i, y: shapes.append(tuple(y.shape)))
    with ScoreShapes() as scores:
        logits = model(torch.empty(1, 1, 128, 1024, device="meta"))
    assert shapes == [(1, 768, 12, 101)] + [(1, 2 + 1212, 768)] * 12
    assert scores.shapes == [(1, 12, 1214, 1214)] * 12
    assert logits.shape == (1, 527)


def count_parameters(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, **arguments).parameters())


@pytest.mark.parametrize(
    ("num_classes", "expected"),
    [(527, 86_594_063), (309, 86_426_421), ({"verb": 97, "noun": 300}, 86_494_093), (32, 86_213_408)],
)
def test_parameters_at_every_class_count(num_classes: int | dict[str, int], expected: int) -> None:
    assert count_parameters("ast_base", num_classes=num_classes) == expected


def test_small_and_tiny_keep_depth_and_head_size() -> None:
    with torch.device("meta"):
        for name, width in (("ast_base", 768), ("ast_small", 384), ("ast_tiny", 192)):
            model: Any = create_model(name)
            config = model.config
            assert (config.embed_dim, config.depth, config.embed_dim // config.num_heads) == (width, 12, 64)


@pytest.mark.parametrize("path", ATTENTION_PATHS)
@pytest.mark.parametrize("num_classes", [5, {"verb": 3, "noun": 4}])
def test_gradients_reach_every_parameter(path: str, num_classes: int | dict[str, int]) -> None:
    model = make_ast(num_classes=num_classes, input_size=(36, 66), attention=path).double()
    logits = model(make_input(size=(36, 66)).double())
    heads = logits.values() if isinstance(logits, dict) else [logits]
    sum((head**2).sum() for head in heads).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6]
    assert dead == []


@pytest.mark.parametrize("size", [(16, 16), (17, 25), (26, 16), (64, 64), (37, 101), (128, 333)])
def test_any_input_size(size: tuple[int, int]) -> None:
    model = make_ast(input_size=size, num_classes=7)
    x = make_input(size=size)
    patches = ((size[0] - 16) // 10 + 1) * ((size[1] - 16) // 10 + 1)
    assert model.forward_features(x).shape == (2, 2 + patches, 32)
    expected = model.set_attention("reference")(x)
    assert expected.shape == (2, 7)
    for path in ATTENTION_PATHS:
        torch.testing.assert_close(model.set_attention(path)(x), expected, rtol=0, atol=1e-5)


def test_several_input_channels() -> None:
    model = make_ast(input_size=(32, 48), in_chans=3, num_classes=7)
    assert model(make_input(size=(32, 48), channels=3)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(2, 1, 48, 32), (2, 1, 32, 49), (2, 2, 32, 48), (1, 32, 48), (2, 1, 1, 32, 48)])
def test_wrong_input_shape_is_an_error_with_both_shapes(shape: tuple[int, ...]) -> None:
    model: Any = create_model("ast_debug", input_size=(32, 48))
    with pytest.raises(ValueError, match="32 mels, 48 frames") as error:
        model(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_size": (15, 100)},
        {"num_classes": 0},
        {"num_classes": {}},
        {"num_classes": {"verb": 97, "noun": 0}},
        {"embed_dim": 33},
        {"attention": "flash"},
        {"drop_path_rate": 1.0},
        {"drop_path_rate": -0.1},
    ],
)
def test_a_config_that_cannot_be_built_is_an_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        create_model("ast_debug", **arguments)


def test_unknown_attention_path_is_an_error() -> None:
    with pytest.raises(ValueError, match="attention must be one of"):
        make_ast(input_size=(16, 16)).set_attention("flash")


def test_config_survives_json() -> None:
    config = ASTConfig(num_classes={"verb": 97, "noun": 300}, input_size=(64, 100))
    assert ASTConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_embedding_is_the_mean_of_the_prefix_tokens_and_feeds_every_head() -> None:
    model = make_ast(num_classes={"verb": 3, "noun": 4}, input_size=(32, 48))
    x = make_input(batch=3, size=(32, 48))
    tokens = model.forward_features(x)
    embedding = model.forward_head(tokens, pre_logits=True)
    assert embedding.shape == (3, model.embedding_dim) == (3, 32)
    torch.testing.assert_close(embedding, tokens[:, :2].mean(dim=1))
    logits = model(x)
    assert {head: tuple(y.shape) for head, y in logits.items()} == {"verb": (3, 3), "noun": (3, 4)}
    for head, y in logits.items():
        torch.testing.assert_close(y, model.head.fc[head](model.head_norm(embedding)))


def test_logits_are_raw_and_the_same_in_training_and_evaluation() -> None:
    model = make_ast(input_size=(32, 48), num_classes=7)
    x = make_input(size=(32, 48))
    evaluated = model.eval()(x)
    assert evaluated.min() < 0
    assert torch.equal(evaluated, model.train()(x))


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_a_clip_does_not_depend_on_its_batch(path: str) -> None:
    model = make_ast(input_size=(32, 48), attention=path)
    x = make_input(batch=4, size=(32, 48))
    x[2] = float("nan")
    logits = model(x)
    for clip in (0, 1, 3):
        torch.testing.assert_close(logits[clip], model(x[clip : clip + 1])[0], rtol=0, atol=1e-5)


def test_drop_path_rates_grow_linearly_over_the_blocks() -> None:
    model: Any = create_model("ast_debug", depth=4, input_size=(16, 16), drop_path_rate=0.3)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_drop_path_drops_whole_clips_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25)
    x = torch.ones(4000, 3, 2)
    assert torch.equal(layer.eval()(x), x)
    y = layer.train()(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(y, y[:, :1, :1].expand_as(y))
    assert y.mean().item() == pytest.approx(1.0, abs=0.03)


def test_drop_path_acts_in_training_only() -> None:
    model = make_ast(input_size=(32, 48), depth=4, drop_path_rate=0.5)
    x = make_input(size=(32, 48))
    torch.manual_seed(0)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_gradient_checkpointing_recomputes_and_gives_equal_gradients() -> None:
    model = make_ast(input_size=(32, 48), drop_path_rate=0.5, depth=3).train()
    calls: list[int] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda m, i: calls.append(1))
    x = make_input(batch=4, size=(32, 48))
    gradients = []
    for enable, passes in ((False, 1), (True, 2)):
        calls.clear()
        torch.manual_seed(0)
        model.zero_grad()
        model.set_grad_checkpointing(enable)(x).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        assert len(calls) == 3 * passes
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_large_mlp_keeps_its_input_and_its_hidden_layer_alone_for_the_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not what LayerNorm and GELU give: redone in the backward pass, with equal gradients."""
    monkeypatch.setattr("models.layers.RECOMPUTED_FROM", 0)
    block = make_ast(input_size=(32, 48)).blocks[0].double()
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    parameters = {tensor.data_ptr() for tensor in block.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = block.mlp(x, block.norm2)
    assert sorted(size for place, size in kept.items() if place not in parameters) == [x.numel(), 4 * x.numel()]
    inputs = [x, *block.mlp.parameters(), *block.norm2.parameters()]
    plain = block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(x))))
    torch.testing.assert_close(y, plain)
    for ours, theirs in zip(
        torch.autograd.grad(y.square().sum(), inputs), torch.autograd.grad(plain.square().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_parameters_without_decay_exist() -> None:
    model: Any = create_model("ast_debug", input_size=(16, 16))
    names = {name for name, _ in model.named_parameters()}
    assert model.no_weight_decay() == {"cls_token", "dist_token", "pos_embed"} <= names
