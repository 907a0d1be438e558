"""Random weights with the names and shapes of published ones, from timm itself, and narrow models to load them into."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import create_model
from models.pretrained import LoadReport

StateDict = dict[str, Tensor]
WIDTH, HEADS, DEPTH = 32, 2, 2
timm = pytest.importorskip("timm")


def randomised(module: nn.Module) -> Any:
    """Random biases, norms and position tables too, which are built as zeros and ones and would hide an exchange."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(x)


def deit(img_size: int | tuple[int, int] = 384, patch_stride: int = 16, in_chans: int = 3, depth: int = DEPTH) -> Any:
    """timm's distilled DeiT, narrow. At 384 its position grid is 24 x 24, as in the published weights."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import PatchEmbed

    class Overlapping(PatchEmbed):
        """Patches that overlap, the change AST's code makes to timm."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.grid_size = tuple((size - 16) // patch_stride + 1 for size in self.img_size)
            self.num_patches = self.grid_size[0] * self.grid_size[1]
            self.proj.stride = (patch_stride, patch_stride)
            self.strict_img_size = False

    return randomised(
        VisionTransformerDistilled(
            img_size=img_size,
            patch_size=16,
            in_chans=in_chans,
            embed_dim=WIDTH,
            depth=depth,
            num_heads=HEADS,
            embed_layer=Overlapping,
        )
    )


def mvitv2(img_size: int = 64, depths: tuple[int, ...] = (1, 2, 1, 1), classes: int = 10) -> nn.Module:
    """timm's MViTv2 of our mast_debug's width."""
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    cfg = MultiScaleVitCfg(embed_dim=8, depths=depths)
    return randomised(MultiScaleVit(cfg, img_size=(img_size, img_size), num_classes=classes))


def official_ast(grid: tuple[int, int] = (12, 101), classes: int = 7) -> StateDict:
    """State dict as AST's train script saves it from DataParallel, DeiT's two dead heads included."""
    v = deit(in_chans=1).state_dict()
    v["pos_embed"] = torch.randn(1, 2 + grid[0] * grid[1], WIDTH)
    head = randomised(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))).state_dict()
    return {f"module.v.{k}": t for k, t in v.items()} | {f"module.mlp_head.{k}": t for k, t in head.items()}


def as_fair(state_dict: StateDict, depths: tuple[int, ...]) -> StateDict:
    """timm's MViTv2 names to FAIR's, the inverse of timm's `checkpoint_filter_fn`."""
    renamed = {}
    for key, tensor in state_dict.items():
        parts = key.split(".")
        if parts[0] == "stages":
            key = ".".join(["blocks", str(sum(depths[: int(parts[1])]) + int(parts[3])), *parts[4:]])
        key = key.replace("shortcut_proj_attn", "proj").replace("head.fc", "head.projection")
        renamed[key] = tensor
    return renamed


def ast(**overrides: Any) -> Any:
    return create_model("ast_debug", **{"num_classes": 7, "input_size": (128, 128), **overrides})


def mast(**overrides: Any) -> Any:
    defaults: dict[str, Any] = {"num_classes": 10, "input_size": (64, 64), "in_chans": 3, "depths": (1, 2, 1, 1)}
    return create_model("mast_debug", **{**defaults, "pool_strides": ((2, 2),) * 3, **overrides})


def assert_complete(report: LoadReport, model: nn.Module, source: StateDict) -> None:
    """Every key of the model, and of the source, is in the report exactly once."""
    assert sorted(entry.key for entry in report.entries if entry.key) == sorted(model.state_dict())
    sources = [key for entry in report.entries for key in entry.source_keys]
    assert sorted(sources) == sorted(key.removeprefix("module.") for key in source)


def with_description(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The file again, with the description that `change` makes of its description."""
    with safe_open(path, framework="pt") as file:
        (name, text), *_ = file.metadata().items()
    description = json.loads(text)
    changed = change(description)
    text = changed if isinstance(changed, str) else json.dumps(description if changed is None else changed)
    altered = path.with_name("altered.safetensors")
    save_file(load_file(path), altered, metadata={name: text})
    return altered
