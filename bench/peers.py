"""Public implementations that ours are compared with. Their weights are random or copied from ours; no download."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import AST, MAST, create_model
from reproduce.environment import computing_in


class LogitsOf(nn.Module):
    """Give transformers' AST our interface: (batch, 1, mels, frames) -> (batch, classes) logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x[:, 0].transpose(1, 2)).logits  # transformers takes (batch, frames, mels)


def transformers_ast(ours: AST) -> nn.Module:
    """Build transformers' ASTForAudioClassification: the same geometry, random weights, its default attention path."""
    transformers = pytest.importorskip("transformers", reason="the peer needs transformers")
    config = ours.config
    theirs = transformers.ASTConfig(
        hidden_size=config.embed_dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=int(config.embed_dim * config.mlp_ratio),
        patch_size=config.patch_size,
        frequency_stride=config.patch_stride,
        time_stride=config.patch_stride,
        num_mel_bins=config.input_size[0],
        max_length=config.input_size[1],
        num_labels=config.num_classes,
    )
    return LogitsOf(transformers.ASTForAudioClassification(theirs))


def timm_mvitv2(ours: MAST) -> nn.Module:
    """Build timm's MViTv2 with the weights of `ours`.

    Raises:
        ValueError: the input is not square; timm's model takes square inputs alone.
    """
    mvitv2 = pytest.importorskip("timm.models.mvitv2", reason="the peer needs timm")
    config = ours.config
    size, frames = config.input_size
    if size != frames:
        raise ValueError(f"timm's MViTv2 takes square inputs only, not {config.input_size}")
    cfg = mvitv2.MultiScaleVitCfg(
        depths=config.depths,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        stride_q=((1, 1), *config.pool_strides),
    )
    theirs = mvitv2.MultiScaleVit(cfg, size, in_chans=config.in_chans, num_classes=config.num_classes)
    theirs.load_state_dict(timm_names(ours), strict=True)
    return theirs


def timm_names(ours: MAST) -> dict[str, Tensor]:
    """Return our weights under timm's names."""
    blocks = [(stage, block) for stage, depth in enumerate(ours.config.depths) for block in range(depth)]
    renamed = {}
    for key, value in ours.state_dict().items():
        if key.startswith("blocks."):
            _, index, name = key.split(".", 2)
            stage, block = blocks[int(index)]
            if name.startswith("proj."):
                name = "shortcut_proj_attn" + name.removeprefix("proj")
            name = name.replace("rel_pos_freq", "rel_pos_h").replace("rel_pos_time", "rel_pos_w")
            key = f"stages.{stage}.blocks.{block}.{name}"
        renamed[key] = value
    return renamed


def square_mast(name: str, size: int) -> MAST:
    """Build the preset `name` for `size` x `size`, pooling both axes everywhere, as MViTv2 does.

    Raises:
        TypeError: the preset is not a MAST.
    """
    model = create_model(name, input_size=(size, size), pool_strides=((2, 2), (2, 2), (2, 2)))
    if not isinstance(model, MAST):
        raise TypeError(f"{name} is not a MAST")
    return model


@torch.no_grad()
def check_equal(ours: nn.Module, theirs: nn.Module, x: Tensor, tolerance: float) -> None:
    """Fail unless both models give the same logits for x: only then does comparing their times mean anything."""
    with computing_in("float32", x.device):  # without TF32
        expected = theirs.eval()(x)
        torch.testing.assert_close(ours.eval()(x), expected, rtol=0, atol=tolerance)
