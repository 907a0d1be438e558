"""MAST, the Multiscale Audio Spectrogram Transformer (Zhu & Omar 2023, Table 1): MViTv2-B on a 128 x 1024 log-mel.

What the paper changes in MViTv2-B (facebookresearch/mvit `configs/MVITv2_B.yaml`): one input channel, a rectangular
input, and in block 21 a pooling along time only, which keeps eight frequency rows. Shapes: B batch, N tokens, C width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import SpectrogramTransformer
from models.cost_items import (
    BlockShape,
    CostItem,
    SavedActivations,
    conv_macs,
    head_items,
    linear_items,
    mlp_items,
    mlp_saved,
    norm_macs,
)
from models.layers import (
    ClassifierHead,
    DropPath,
    Mlp,
    at_least_float32,
    check_config,
    drop_path_rates,
    init_linear_weights,
)
from models.pooling_attention import ATTENTION_PATHS, BlockPlan, PoolingAttention, pooled_grid
from models.recompute import is_recomputed
from models.registry import register_presets
from models.weight_files import CheckpointError
from models.weight_formats import Action, Grid, PublishedWeights, WeightFormat, WeightSource

PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING = 7, 4, 3

REL_POS_RULES = ((r"\.rel_pos_h$", ".rel_pos_freq"), (r"\.rel_pos_w$", ".rel_pos_time"))
PRETRAINED_FORMATS = {
    "ours": WeightFormat(marker=r"blocks\.\d+\.attn\.rel_pos_freq"),
    "mvitv2-timm": WeightFormat(
        marker=r"stages\.\d+\.blocks\.\d+\.attn\.rel_pos_h",
        rules=((r"^(blocks\.\d+)\.shortcut_proj_attn\.", r"\1.proj."), *REL_POS_RULES),
        head=("head.fc",),
    ),
    "mvitv2-fair": WeightFormat(
        marker=r"blocks\.\d+\.attn\.rel_pos_h",
        rules=((r"^head\.projection\.", "head.fc."), *REL_POS_RULES),
        head=("head.fc",),
    ),
}
PUBLISHED = {
    "imagenet": PublishedWeights(
        repo_id="timm/mvitv2_base.fb_in1k",
        url="https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_B_in1k.pyth",
        preset="mast_base",
        fields=("embed_dim", "depths", "num_heads", "mlp_ratio"),
    ),
}


@dataclass(frozen=True)
class MASTConfig:
    """Everything that defines a MAST. The defaults are the paper's `mast_base` at 128 x 1024.

    Args:
        num_classes: int, or {head name: classes}.
        input_size: (mels, frames).
        in_chans: spectrogram channels.
        embed_dim: width of the first stage; doubles with every stage.
        num_heads: heads of the first stage; doubles with every stage, so the head size is the same everywhere.
        depths: blocks per stage; the first block of stages 2, 3, 4 (blocks 2, 5, 21) widens and pools.
        pool_strides: query pooling (frequency, time) of those blocks; (1, 1) removes a pooling, keeps the widening.
        kv_stride: key/value pooling of the first stage; every query pooling divides it per axis, down to 1
            (FAIR's POOL_KV_STRIDE_ADAPTIVE).
        mlp_ratio: hidden width over width.
        drop_path_rate: linear over the blocks, on both branches; MViTv2-B trains with 0.3.
        norm_eps: LayerNorm epsilon.
        attention: one of `ATTENTION_PATHS`, or "auto", the one for the device; outputs agree.

    Raises:
        ValueError: sizes that cannot be built.
    """

    num_classes: int | Mapping[str, int] = 527
    input_size: tuple[int, int] = (128, 1024)
    in_chans: int = 1
    embed_dim: int = 96
    num_heads: int = 1
    depths: tuple[int, ...] = (2, 3, 16, 3)
    pool_strides: tuple[Grid, ...] = ((2, 2), (2, 2), (1, 2))
    kv_stride: Grid = (4, 4)
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    norm_eps: float = 1e-6
    attention: str = "auto"

    def __post_init__(self) -> None:
        # JSON gives lists back; a frozen config compares by value only with tuples.
        object.__setattr__(self, "input_size", tuple(self.input_size))
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "pool_strides", tuple((int(f), int(t)) for f, t in self.pool_strides))
        object.__setattr__(self, "kv_stride", tuple(self.kv_stride))
        check_config(self, sum(self.depths))
        if len(self.pool_strides) != len(self.depths) - 1:
            raise ValueError(f"{len(self.depths)} depths need one pool_stride less, got {self.pool_strides}")
        if any(min(stride) < 1 for stride in (*self.pool_strides, self.kv_stride)):
            raise ValueError(f"strides must be at least 1, got pool {self.pool_strides} and kv {self.kv_stride}")
        if self.attention not in ("auto", *ATTENTION_PATHS):
            raise ValueError(f"attention must be auto or one of {ATTENTION_PATHS}, got {self.attention!r}")

    @property
    def grid(self) -> Grid:
        """Tokens along (frequency, time) after the patch embedding: 32 x 256 at 128 x 1024."""
        return pooled_grid(self.input_size, (PATCH_STRIDE, PATCH_STRIDE))


def plan_blocks(config: MASTConfig) -> list[BlockPlan]:
    """Sizes of every block, in order."""
    plans: list[BlockPlan] = []
    dim, grid, stride_kv = config.embed_dim, config.grid, config.kv_stride
    for stage, depth in enumerate(config.depths):
        dim_out, num_heads = config.embed_dim * 2**stage, config.num_heads * 2**stage
        for position in range(depth):
            stride_q = config.pool_strides[stage - 1] if stage and position == 0 else (1, 1)
            stride_kv = (max(stride_kv[0] // stride_q[0], 1), max(stride_kv[1] // stride_q[1], 1))
            plan = BlockPlan(
                dim=dim, dim_out=dim_out, num_heads=num_heads, grid=grid, stride_q=stride_q, stride_kv=stride_kv
            )
            plans.append(plan)
            dim, grid = dim_out, plan.grid_out
    return plans


class Block(nn.Module):
    """MMSA-MLP block, (B, N, dim) to (B, N', dim_out). Eq. (1), except where MViTv2's code differs:

    when the width changes, the skip path is pool(proj(LN(x))), not pool(x).
    """

    def __init__(self, plan: BlockPlan, config: MASTConfig, drop_path: float) -> None:
        super().__init__()
        self.plan = plan
        self.norm1 = nn.LayerNorm(plan.dim, eps=config.norm_eps)
        self.attn = PoolingAttention(plan, config.norm_eps, config.attention)
        self.proj = nn.Linear(plan.dim, plan.dim_out) if plan.dim != plan.dim_out else None
        # MViTv2's kernel of stride + 1 at even strides; at odd ones the stride, so that the grid is the queries'.
        freq, time = plan.stride_q[0] // 2, plan.stride_q[1] // 2
        pool = nn.MaxPool2d((2 * freq + 1, 2 * time + 1), plan.stride_q, (freq, time))
        self.pool_skip = pool if max(plan.stride_q) > 1 else None
        self.norm2 = nn.LayerNorm(plan.dim_out, eps=config.norm_eps)
        self.mlp = Mlp(plan.dim_out, int(plan.dim_out * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def _pool_skip(self, x: Tensor) -> Tensor:
        """(B, tokens, dim_out) to (B, pooled tokens, dim_out)."""
        if self.pool_skip is None:
            return x
        B, _, C = x.shape
        grid = self.pool_skip(x.reshape(B, *self.plan.grid, C).permute(0, 3, 1, 2))
        return grid.permute(0, 2, 3, 1).reshape(B, -1, C)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        skip = self._pool_skip(x if self.proj is None else self.proj(normed))
        x = skip + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(x, self.norm2))

    def cost_items(self, name: str) -> Iterator[CostItem]:
        """MACs of the block named `name`."""
        attn, plan = self.attn, self.plan
        tokens, queries, keys = prod(plan.grid), prod(plan.grid_out), prod(plan.key_grid)
        pooled = queries + 2 * keys  # positions of q, k and v after pooling, each dim_out wide over all heads
        yield CostItem(name, "norm", norm_macs(tokens * plan.dim + (pooled + queries) * plan.dim_out))
        yield from linear_items(name, attn.qkv, tokens)
        yield from linear_items(name, attn.proj, queries)
        yield CostItem(name, "conv", plan.num_heads * conv_macs(attn.pool_q, pooled))
        yield CostItem(name, "attention", 2 * queries * keys * plan.dim_out)
        yield CostItem(name, "relative position", queries * sum(plan.key_grid) * plan.dim_out)
        if self.proj is not None:
            yield from linear_items(name, self.proj, tokens)
        if self.pool_skip is not None:
            yield CostItem(name, "pool", tokens * plan.dim_out)
        yield from mlp_items(name, self.mlp, queries)

    def saved_activations(self, name: str, batch: int, device: torch.device) -> SavedActivations:
        """Activations that autograd saves of one clip of `batch` in the block named `name`."""
        plan, path = self.plan, self.attn.path_on(device)
        tokens, queries, keys = prod(plan.grid), prod(plan.grid_out), prod(plan.key_grid)
        entering, leaving = tokens * plan.dim, queries * plan.dim_out
        recomputed = is_recomputed(batch * tokens * plan.dim_out, device.type, self.attn.recompute_from)
        # What pooling gives to the LayerNorms of q, k and v.
        pooled = 0 if recomputed else leaving + 2 * keys * plan.dim_out
        # The normed input; q, k and v before pooling; the projection's input.
        saved = entering + 3 * tokens * plan.dim_out + leaving
        if not (recomputed and path == "chunked"):  # whose inputs are recomputed with the pooling
            saved += self._saved_by_product(path)
        if self.pool_skip is not None:
            saved += tokens * plan.dim_out
        return SavedActivations(
            block=name,
            inputs=entering,
            float32=entering + pooled + leaving,
            autocast=saved + mlp_saved(self.mlp, queries, batch, device.type),
            indices=leaving if self.pool_skip is not None else 0,
        )

    def _saved_by_product(self, path: str) -> int:
        """Elements that the attention product saves of q, k and v, and of the tables' products with q."""
        plan = self.plan
        queries, keys = prod(plan.grid_out), prod(plan.key_grid)
        if path == "chunked":  # q, k and v alone
            return plan.dim_out * (queries + 2 * keys)
        copies = 2 * plan.dim_out * queries  # of q, for its products with both tables
        if path == "folded":  # q, k, v and the result, padded to one head size
            return copies + plan.num_heads * 2 * (queries + keys) * self.attn.folded_head_dim
        if path == "flex":  # q, k, v, the result, and the tables' products
            return copies + 2 * (queries + keys) * plan.dim_out + plan.num_heads * queries * sum(plan.key_grid)
        # q, k, v, the result, and a (queries x keys) bias or probabilities per head
        return copies + 2 * (queries + keys) * plan.dim_out + plan.num_heads * queries * keys


class PatchEmbed(nn.Module):
    """7x7 patches at stride 4, (B, in_chans, mels, frames) to (B, F*T, C), frequency-major."""

    def __init__(self, config: MASTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING)

    def forward(self, x: Tensor) -> Tensor:
        # Contiguous; otherwise every sum of the first stage keeps the convolution's layout and every LayerNorm copies.
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()


class MAST(SpectrogramTransformer):
    """The model. `forward`: (B, in_chans, mels, frames) to (B, classes), or to {head: (B, classes)}.

    The embedding is the mean over tokens after the last LayerNorm. Logits are raw in training and evaluation alike
    (FAIR's head applies softmax in evaluation).
    """

    config: MASTConfig
    config_class = MASTConfig
    attention_paths = ("auto", *ATTENTION_PATHS)
    pretrained_formats = PRETRAINED_FORMATS
    published = PUBLISHED
    retired_fields: ClassVar[Mapping[str, Any]] = {"cls_token": False}

    def __init__(self, config: MASTConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(config)
        plans = plan_blocks(config)
        rates = drop_path_rates(config.drop_path_rate, len(plans))
        self.blocks = nn.ModuleList(Block(plan, config, rate) for plan, rate in zip(plans, rates, strict=True))
        self.norm = nn.LayerNorm(self.embedding_dim, eps=config.norm_eps)
        self.head = ClassifierHead(self.embedding_dim, config.num_classes)
        self.apply(init_linear_weights)

    @property
    def embedding_dim(self) -> int:
        return self.config.embed_dim * 2 ** (len(self.config.depths) - 1)

    def no_weight_decay(self) -> set[str]:
        """None besides biases and norms: FAIR decays the relative positions (ZERO_DECAY_POS_CLS False)."""
        return set()

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, F*T, C)."""
        return self.patch_embed(x)

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean over tokens, (B, C)."""
        return at_least_float32(tokens).mean(dim=1)

    # --- Cost of one clip

    def cost_items(self) -> Iterator[CostItem]:
        yield CostItem("patch embedding", "conv", conv_macs(self.patch_embed.proj, prod(self.config.grid)))
        for number, block in enumerate(self.blocks):
            yield from block.cost_items(f"block {number}")
        yield CostItem("head", "norm", norm_macs(prod(self.blocks[-1].plan.grid_out) * self.embedding_dim))
        yield from head_items(self.head)

    def block_shapes(self) -> Iterator[BlockShape]:
        grid = self.config.grid
        yield BlockShape("patch embedding", prod(grid), grid, self.config.embed_dim)
        for number, block in enumerate(self.blocks):
            grid = block.plan.grid_out
            yield BlockShape(f"block {number}", prod(grid), grid, block.plan.dim_out)

    def saved_activations(self, batch: int, device: torch.device) -> Iterator[SavedActivations]:
        for number, block in enumerate(self.blocks):
            yield block.saved_activations(f"block {number}", batch, device)
        elements = prod(self.blocks[-1].plan.grid_out) * self.embedding_dim
        inputs = prod(self.config.input_size) * self.config.in_chans
        yield SavedActivations(block="head", inputs=elements, float32=elements, autocast=inputs)

    def relative_position_terms(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        means: list[tuple[Tensor, Tensor]] = []

        def collect(attn: PoolingAttention, q: Tensor) -> None:
            freq, time = attn.relative_terms(q.transpose(1, 2))  # (B, H, F, T, f) and (B, H, F, T, t)
            means.append((freq.mean(dim=(0, 1, 3)), time.mean(dim=(0, 1, 2))))

        hooks = [
            block.attn.norm_q.register_forward_hook(lambda _, __, q, attn=block.attn: collect(attn, q))
            for block in self.blocks
        ]
        try:
            self.forward_features(x)
        finally:
            for hook in hooks:
                hook.remove()
        return means

    # --- Weights of other sources

    def rename_key(self, key: str) -> str:
        """timm's "stages.S.blocks.B" to "blocks.N"; a block that the model lacks keeps its name."""
        stage_block = re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", key)
        if stage_block is None:
            return key
        stage, block = int(stage_block[1]), int(stage_block[2])
        depths = self.config.depths
        if stage >= len(depths) or block >= depths[stage]:
            return key
        return f"blocks.{sum(depths[:stage]) + block}.{key[stage_block.end() :]}"

    def adapt(self, key: str, tensor: Tensor, target: Tensor, source: WeightSource) -> tuple[Tensor, Action]:
        if source.grid is not None:
            raise CheckpointError(f"{source.name}: source_grid is for AST, MAST's tables need none: leave it out")
        if tensor.ndim == 5 and tensor.shape[2] == 1:
            tensor = tensor.squeeze(2)  # a video kernel of one frame, FAIR's CHECKPOINT_SQUEEZE_TEMPORAL
        is_table = key.endswith((".rel_pos_freq", ".rel_pos_time")) and tensor.ndim == 2
        if is_table and len(tensor) != len(target):
            return resize_relative_positions(tensor.to(target.dtype), len(target)), "resized"
        return super().adapt(key, tensor, target, source)


def resize_relative_positions(table: Tensor, rows: int) -> Tensor:
    """Linear interpolation of one axis' table, (source rows, D) to (rows, D), as timm's `checkpoint_filter_fn` does."""
    return F.interpolate(table.T[None], size=rows, mode="linear", align_corners=False)[0].T


# mast_base is the paper's MAST: 51.4 M parameters, 25.6 G module-only MACs at 128 x 1024. small and tiny have a half
# and a quarter of its width at the same depth and heads; debug runs in seconds on a CPU, to test the path.
register_presets(
    MAST,
    {
        "mast_base": {},
        "mast_small": {"embed_dim": 48},
        "mast_tiny": {"embed_dim": 24},
        "mast_debug": {"embed_dim": 8, "depths": (1, 1, 1, 1)},
    },
)
