"""Layers that both models use: the MLP, drop path and the classifier head; and checks of their sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from models.linear import linear
from models.recompute import recompute

# A damaged checkpoint may ask for any size. 32,768 frames are 5.5 minutes at 10 ms per frame.
MAX_SIZE, MAX_BLOCKS = 2**15, 1000


def make_drop_path(rate: float) -> nn.Module:
    """timm's DropPath, which drops a residual branch per sample with probability `rate` (stochastic depth, Huang 2016).

    At rate 0 the identity: to import timm takes 1.8 s of CPU time.
    """
    if rate == 0.0:
        return nn.Identity()
    from timm.layers import DropPath

    return DropPath(rate)


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """norm(x) in the dtype of x; computed in float32 where it has gradients on a CPU.

    In bfloat16 torch 2.14 sums the gradients of weight and bias there over all rows in bfloat16: over 131,072 rows of
    96 those of the bias come out at a tenth. On CUDA autocast has LayerNorms in float32.
    """
    weight = getattr(norm, "weight", None)
    narrow = x.dtype in (torch.bfloat16, torch.float16) and weight is not None and weight.dtype == torch.float32
    return norm(x.float()).to(x.dtype) if narrow and x.device.type == "cpu" and torch.is_grad_enabled() else norm(x)


class Mlp(nn.Module):
    """LayerNorm, Linear, GELU, Linear on (batch, tokens, dim); the LayerNorm belongs to the block.

    `recompute_from`: see `SpectrogramTransformer.set_recompute`.
    """

    recompute_from: int | None = None

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        hidden = recompute(lambda x: linear(self.fc1, layer_norm(norm, x)), x, threshold=self.recompute_from)
        return recompute(lambda hidden: linear(self.fc2, self.act(hidden)), hidden, threshold=self.recompute_from)


class ClassifierHead(nn.Module):
    """One linear classifier, or one per named head on the same embedding.

    Maps (batch, dim) to (batch, classes), or to {head name: (batch, classes)}; with 0 classes to the embedding itself.

    Args:
        dim: embedding size.
        num_classes: int, or {head name: classes}.
    """

    def __init__(self, dim: int, num_classes: int | Mapping[str, int]) -> None:
        super().__init__()
        self.fc: nn.Module
        if isinstance(num_classes, int):
            self.fc = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        else:
            self.fc = nn.ModuleDict({head: nn.Linear(dim, classes) for head, classes in num_classes.items()})

    def forward(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        if isinstance(self.fc, nn.ModuleDict):
            return {head: fc(embedding) for head, fc in self.fc.items()}
        return self.fc(embedding)


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The dtype to which autocast casts matrix products on devices of this type; None where autocast is off."""
    # Not `is_autocast_available`: torch.compile of torch 2.6 cannot trace it.
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return None


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which matrix products of x are computed: that of autocast, which leaves float64 as it is."""
    return x.dtype if x.dtype == torch.float64 else autocast_dtype(x.device.type) or x.dtype


def init_linear_weights(module: nn.Module) -> None:
    """Initialise a Linear as ViT does: weights from a truncated normal of deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32 if it is narrower, otherwise as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_heads(num_classes: int | Mapping[str, int]) -> None:
    """Raise ValueError unless there is at least one head and every head has at least one class."""
    sizes = [num_classes] if isinstance(num_classes, int) else list(num_classes.values())
    if not sizes or any(size < 1 for size in sizes):
        raise ValueError(f"num_classes must be a positive int or a non-empty dict of them, got {num_classes!r}")


def check_config(config: Any, depth: int) -> None:
    """Check the fields that the models' configs share.

    Args:
        config: a dataclass with num_classes, input_size, in_chans, embed_dim and num_heads.
        depth: its number of blocks.

    Raises:
        ValueError: sizes that cannot be built, or beyond `MAX_SIZE` and `MAX_BLOCKS`; or a field of real numbers that
            holds something else, which a layer would refuse in its first forward pass only.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type == "float" and not (isinstance(value, Real) and math.isfinite(value)):
            raise ValueError(f"{field.name} must be a finite number, got {value!r:.40}")
    check_heads(config.num_classes)
    if len(config.input_size) != 2 or min(config.input_size) < 1 or max(config.input_size) > MAX_SIZE:
        raise ValueError(f"input_size must be (mels, frames) from 1 to {MAX_SIZE}, got {config.input_size}")
    if not 1 <= depth <= MAX_BLOCKS:
        raise ValueError(f"a model has 1 to {MAX_BLOCKS} blocks, got {depth}")
    for name in ("in_chans", "embed_dim", "num_heads"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")
    if config.embed_dim % config.num_heads:
        raise ValueError(f"embed_dim {config.embed_dim} is not a multiple of num_heads {config.num_heads}")


def check_input(x: Tensor, in_chans: int, input_size: tuple[int, int]) -> None:
    """Raise ValueError unless x is (batch, in_chans, mels, frames) of the size that the model was built for."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (in_chans, *input_size):
        raise ValueError(
            f"expected (batch, {in_chans}, {input_size[0]} mels, {input_size[1]} frames), got {tuple(x.shape)}: "
            "pad or crop the spectrogram, or build the model with another input_size"
        )


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Rates that rise linearly from 0 at the first block to `rate` at the last, as in DeiT and MViTv2.

    Raises:
        ValueError: `rate` outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
    return [float(r) for r in torch.linspace(0, rate, depth, device="cpu")]
