"""AST: parity with Hugging Face, geometry and size of the paper's Table 1, its head and its MLP."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from make_models import SoftmaxShapes, make_input, make_model, saved_sizes
from torch import Tensor, nn

from models import create_model
from models.ast_model import ATTENTION_PATHS
from models.recompute import is_recomputed


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
    model = make_model("ast_debug", num_classes=50, input_size=size, num_heads=4, head_norm_eps=1e-6)
    check_huggingface_parity(model, make_input(1, size), tolerance=1e-5)
    check_huggingface_parity(model.double(), make_input(1, size).double(), tolerance=1e-12)


def test_logits_equal_huggingface_at_base_width() -> None:
    """The paper's width and full input; two of the twelve equal blocks keep it to seconds."""
    model = make_model("ast_base", depth=2, head_norm_eps=1e-6)
    check_huggingface_parity(model, make_input(1, (128, 1024)), tolerance=1e-5)


def test_norm_epsilons_are_deits_and_the_mlp_heads() -> None:
    model: Any = create_model("ast_debug", input_size=(16, 16))
    eps = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert eps.pop("head_norm") == 1e-5
    assert len(eps) == 2 * 2 + 1 and set(eps.values()) == {1e-6}


def test_feature_sizes_are_those_of_table_1() -> None:
    """1212 = 12 x 101 patches, 768 wide, in every block; the two prefix tokens are the ones Table 1 omits."""
    shapes = []
    with torch.device("meta"):
        model: Any = create_model("ast_base", attention="reference")
    for module in (model.patch_embed.proj, *model.blocks):
        module.register_forward_hook(lambda m, i, y: shapes.append(tuple(y.shape)))
    with SoftmaxShapes() as scores:
        logits = model(torch.empty(1, 1, 128, 1024, device="meta"))
    assert shapes == [(1, 768, 12, 101)] + [(1, 2 + 1212, 768)] * 12
    assert scores.shapes == [(1, 12, 1214, 1214)] * 12
    assert logits.shape == (1, 527)


def test_a_recomputed_mlp_saves_its_input_and_its_hidden_layer_alone() -> None:
    model = make_model("ast_debug", input_size=(32, 48)).set_recompute(0).double()
    block = model.blocks[0]
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    saved = saved_sizes(lambda: block.mlp(x, block.norm2), *block.parameters())
    assert sorted(saved) == [x.numel(), 4 * x.numel()]
    y = block.mlp(x, block.norm2)
    inputs = [x, *block.mlp.parameters(), *block.norm2.parameters()]
    plain = block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(x))))
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(
        torch.autograd.grad(y.square().sum(), inputs), torch.autograd.grad(plain.square().sum(), inputs)
    )


def test_recomputation_starts_later_on_accelerators() -> None:
    """A second run costs launches there, and time by size on a CPU."""
    for dtype, of_cpu in ((torch.float32, 2**19), (torch.bfloat16, 2**20)):
        for elements, cpu, cuda in ((of_cpu - 1, False, False), (2**25 - 1, True, False), (2**25, True, True)):
            assert (is_recomputed(elements, "cpu", dtype), is_recomputed(elements, "cuda", dtype)) == (cpu, cuda)
    assert is_recomputed(10, "cuda", torch.float32, threshold=10)
    assert not is_recomputed(9, "cpu", torch.float32, threshold=10)
