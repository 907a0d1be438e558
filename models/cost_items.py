"""What a model states about its cost: MACs per block and kind, tokens per block, saved activations per block.

`models/complexity.py` adds the items up and explains the two ways of counting; the functions here give the items of the
layers that models share. A model yields them from `cost_items`, `block_shapes` and `saved_activations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from models.layers import ClassifierHead, Mlp
from models.recompute import is_recomputed

MODULE_KINDS = ("conv", "linear", "norm", "pool")
PRODUCT_KINDS = ("attention", "relative position")
PTFLOPS_0_7_KINDS = ("linear bias",)
FLOAT32_BYTES, BFLOAT16_BYTES, INDEX_BYTES = 4, 2, 8


@dataclass(frozen=True)
class CostItem:
    """MACs of one kind in one block.

    Args:
        block: "patch embedding", "block 0", ..., "head".
        kind: one of `MODULE_KINDS`, `PRODUCT_KINDS` and `PTFLOPS_0_7_KINDS`.
        macs: for one clip.
    """

    block: str
    kind: str
    macs: int


@dataclass(frozen=True)
class BlockShape:
    """Tokens that leave a block, for Table 1 and the architecture drawing.

    Args:
        block: "patch embedding" or "block N".
        tokens: grid[0] * grid[1].
        grid: (frequency, time).
        width: elements per token.
        prefix_tokens: tokens before those of the grid.
    """

    block: str
    tokens: int
    grid: tuple[int, int]
    width: int
    prefix_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class SavedActivations:
    """Elements of one clip that autograd saves in one block between the forward and the backward pass.

    Args:
        block: "block N" or "head".
        inputs: elements that enter the block; all that activation checkpointing of blocks saves.
        float32: inputs of LayerNorms, float32 under autocast too.
        autocast: all other activations, bfloat16 under autocast.
        indices: positions of max-pooling, int64.
    """

    block: str
    inputs: int
    float32: int
    autocast: int
    indices: int = 0

    def bytes(self, mixed: bool) -> int:
        """Bytes of one clip; `mixed`: under autocast to bfloat16, otherwise in float32."""
        narrow = BFLOAT16_BYTES if mixed else FLOAT32_BYTES
        return self.float32 * FLOAT32_BYTES + self.autocast * narrow + self.indices * INDEX_BYTES


def linear_items(block: str, layer: nn.Linear, positions: int) -> Iterator[CostItem]:
    """MACs of a Linear at `positions` positions. ptflops 0.6.9 adds its bias once per call, 0.7 once per position."""
    bias = layer.out_features if layer.bias is not None else 0
    yield CostItem(block, "linear", positions * layer.in_features * layer.out_features + bias)
    yield CostItem(block, "linear bias", (positions - 1) * bias)


def conv_macs(layer: nn.Conv2d, positions: int) -> int:
    """MACs of a convolution with `positions` output positions, bias included."""
    per_position = prod(layer.kernel_size) * layer.in_channels * layer.out_channels // layer.groups
    return positions * (per_position + (layer.out_channels if layer.bias is not None else 0))


def norm_macs(elements: int) -> int:
    """MACs of a LayerNorm over `elements` elements."""
    return 2 * elements


def mlp_items(block: str, mlp: Mlp, tokens: int) -> Iterator[CostItem]:
    """MACs of an MLP on `tokens` tokens, without the LayerNorm before it."""
    yield from linear_items(block, mlp.fc1, tokens)
    yield from linear_items(block, mlp.fc2, tokens)


def head_items(head: ClassifierHead) -> Iterator[CostItem]:
    """MACs of the classifiers."""
    fc: Any = head.fc
    for layer in fc.values() if isinstance(fc, nn.ModuleDict) else [fc]:
        if isinstance(layer, nn.Linear):
            yield from linear_items("head", layer, 1)


def mlp_saved(mlp: Mlp, tokens: int, batch: int, device_type: str, dtypes: tuple[torch.dtype, torch.dtype]) -> int:
    """Elements of one clip that an MLP saves: fc1's output, and LayerNorm's and GELU's where they are not recomputed.

    Args:
        mlp: on `tokens` tokens per clip.
        tokens: per clip.
        batch: clips on the device at a time.
        device_type: "cpu", "cuda", ...
        dtypes: of the MLP's input and of the products.
    """
    dim, hidden = mlp.fc1.in_features, mlp.fc1.out_features
    saved = tokens * hidden
    for width, dtype in zip((dim, hidden), dtypes, strict=True):
        if not is_recomputed(batch * tokens * width, device_type, dtype, mlp.recompute_from):
            saved += tokens * width
    return saved
