"""What weights are refused, and what a load reports: no key is lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from make_weights import WIDTH, StateDict, ast, deit, mast, mvitv2, official_ast
from torch import Tensor, nn

from models import create_model
from models.checkpoints import weights_sha256
from models.pretrained import detect_format, load_pretrained
from models.weight_files import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")


def _without(key: str) -> Callable[[StateDict], StateDict]:
    return lambda sd: {k: t for k, t in sd.items() if k != key}


def _with(key: str, tensor: Tensor) -> Callable[[StateDict], StateDict]:
    return lambda sd: sd | {key: tensor}


@pytest.mark.parametrize(
    ("family", "edit", "message"),
    [
        ("ast", _without("blocks.1.norm2.bias"), "nothing for 'blocks.1.norm2.bias'"),
        ("ast", _without("dist_token"), "nothing for 'dist_token'"),
        ("ast", _without("pos_embed"), "nothing for 'pos_embed'"),
        ("ast", _with("blocks.2.norm1.bias", torch.zeros(WIDTH)), "surplus 'blocks.2.norm1.bias'"),
        ("ast", _with("norm.weight", torch.zeros(9)), r"'norm.weight' is \(9,\), the model needs \(32,\)"),
        ("ast", _with("pos_embed", torch.zeros(1, 2 + 5, WIDTH)), "'pos_embed' has 5 patches of unknown layout"),
        ("ast", _with("pos_embed", torch.zeros(2 + 576, WIDTH)), "'pos_embed' is"),
        ("ast", _with("pos_embed", torch.zeros(1, 2 + 576, 9)), "'pos_embed' is"),
        ("ast", _with("norm.weight", torch.tensor([torch.nan, *[1.0] * (WIDTH - 1)])), "'norm.weight' contains NaN"),
        ("ast", _with("norm.weight", torch.ones(WIDTH, dtype=torch.int8)), "'norm.weight' is torch.int8"),
        ("ast", _with("patch_embed.proj.weight", torch.zeros(WIDTH, 2, 16, 16)), "'patch_embed.proj.weight' is"),
        ("mast", _without("stages.1.blocks.1.attn.qkv.weight"), "nothing for 'blocks.2.attn.qkv.weight'"),
        ("mast", _without("head.fc.bias"), "nothing for 'head.fc.bias'"),
        ("mast", _with("head.fc.bias", torch.zeros(9)), r"'head.fc.weight', 'head.fc.bias' have shapes"),
        ("mast", _with("stages.1.blocks.2.norm1.bias", torch.zeros(8)), "surplus 'stages.1.blocks.2.norm1.bias'"),
        ("mast", _with("blocks.0.norm1.bias", torch.zeros(8)), "both become 'blocks.0.norm1.bias'"),
        ("mast", _with("stages.0.blocks.0.attn.rel_pos_h", torch.zeros(31, 9)), "rel_pos_h' is"),
    ],
)
def test_a_key_that_does_not_fit_is_named_and_the_model_stays_as_it_was(family: str, edit: Any, message: str) -> None:
    model, source = (ast(), deit()) if family == "ast" else (mast(), mvitv2())
    before = weights_sha256(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(model, edit(source.state_dict()))
    assert "\n" not in str(caught.value)
    assert weights_sha256(model) == before


def test_weights_of_the_other_model_are_refused() -> None:
    with pytest.raises(CheckpointError, match="deit weights fit AST, not MAST"):
        load_pretrained(mast(), deit().state_dict())
    with pytest.raises(CheckpointError, match="mvitv2-timm weights fit MAST, not AST"):
        load_pretrained(ast(), mvitv2().state_dict())
    with pytest.raises(CheckpointError, match="ours weights fit MAST, not AST"):
        load_pretrained(ast(), mast().state_dict())
    with pytest.raises(CheckpointError, match="source_grid is for AST"):
        load_pretrained(mast(), mvitv2().state_dict(), source_grid=(2, 2))
    with pytest.raises(CheckpointError, match="build the model with create_model"):
        load_pretrained(nn.Linear(2, 2), mvitv2().state_dict())


def test_unknown_format_shows_its_keys() -> None:
    with pytest.raises(CheckpointError, match=r"unknown format with keys 'conv1.weight', 'fc.bias'"):
        detect_format({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})


def test_the_summary_is_one_line_that_names_what_is_not_the_sources() -> None:
    report = load_pretrained(create_model("ast_debug", num_classes=5), official_ast())
    summary = report.summary()
    assert "\n" not in summary
    assert summary.startswith(f"state dict [ast-official]: {report.matched} matched, ")
    assert "4 initialised ('head_norm.weight', " in summary
    assert "8 dropped by rule ('v.head.weight', " in summary
    assert report.adapted == 4


def test_weights_hash_depends_on_values_names_and_types_alone() -> None:
    model = create_model("mast_debug", num_classes=3, input_size=(64, 64))
    twin = create_model("mast_debug", num_classes=3, input_size=(64, 64))
    assert weights_sha256(model) != weights_sha256(twin)
    twin.load_state_dict(model.state_dict())
    assert weights_sha256(model) == weights_sha256(twin.to(memory_format=torch.channels_last))
    assert weights_sha256(model) != weights_sha256(twin.bfloat16())
    a, b = nn.Module(), nn.Module()
    a.x, b.y = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    assert weights_sha256(a) != weights_sha256(b)
