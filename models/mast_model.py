"""MAST, the Multiscale Audio Spectrogram Transformer (Zhu & Omar 2023, Table 1): MViTv2-B on a 128 x 1024 log-mel.

What the paper changes in MViTv2-B (facebookresearch/mvit `configs/MVITv2_B.yaml`): one input channel, a rectangular
input, and in block 21 a pooling along time only, which keeps eight frequency rows. Shapes: B batch, N tokens, C width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.base import SpectrogramTransformer
from models.layers import ClassifierHead, DropPath, Mlp, check_heads, check_input, drop_path_rates, init_linear_weights
from models.pooling_attention import ATTENTION_PATHS, Grid, PoolingAttention, pooled_grid
from models.registry import register_model

PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING = 7, 4, 3


@dataclass(frozen=True)
class MASTConfig:
    """Everything that defines a MAST. The defaults are the paper's `mast_base` at 128 x 1024.

    Args:
        num_classes: int, or {head name: classes}.
        input_size: (mels, frames).
        in_chans: spectrogram channels.
        embed_dim, num_heads: width and heads of the first stage; both double with every stage, so the head
            size is the same everywhere.
        depths: blocks per stage; the first block of stages 2, 3, 4 (blocks 2, 5, 21) widens and pools.
        pool_strides: query pooling (frequency, time) of those blocks; (1, 1) removes a pooling, keeps the widening.
        kv_stride: key/value pooling of the first stage; every query pooling divides it per axis, down to 1
            (FAIR's POOL_KV_STRIDE_ADAPTIVE).
        mlp_ratio: hidden width over width.
        cls_token: one class token instead of the mean over tokens (no IN-1K weights have it).
        drop_path_rate: linear over the blocks, on both branches; MViTv2-B trains with 0.3.
        norm_eps: LayerNorm epsilon.
        attention: one of `ATTENTION_PATHS`, or "auto", the one for the device; outputs agree.
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
    cls_token: bool = False
    drop_path_rate: float = 0.0
    norm_eps: float = 1e-6
    attention: str = "auto"

    def __post_init__(self) -> None:
        # JSON gives lists back; a frozen config compares by value only with tuples.
        object.__setattr__(self, "input_size", tuple(self.input_size))
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "pool_strides", tuple((int(f), int(t)) for f, t in self.pool_strides))
        object.__setattr__(self, "kv_stride", tuple(self.kv_stride))
        check_heads(self.num_classes)
        if len(self.pool_strides) != len(self.depths) - 1:
            raise ValueError(f"{len(self.depths)} depths need one pool_stride less, got {self.pool_strides}")
        if any(min(stride) < 1 for stride in (*self.pool_strides, self.kv_stride)):
            raise ValueError(f"strides must be at least 1, got pool {self.pool_strides} and kv {self.kv_stride}")
        if min(self.input_size) < 1:
            raise ValueError(f"input_size must be positive, got {self.input_size}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        if self.attention not in ("auto", *ATTENTION_PATHS):
            raise ValueError(f"attention must be auto or one of {ATTENTION_PATHS}, got {self.attention!r}")

    @property
    def grid(self) -> Grid:
        """Tokens along (frequency, time) after the patch embedding: 32 x 256 at 128 x 1024."""
        return pooled_grid(self.input_size, (PATCH_STRIDE, PATCH_STRIDE))


@dataclass(frozen=True)
class BlockPlan:
    """Sizes of one block, derived from the config."""

    dim: int
    dim_out: int
    num_heads: int
    grid: Grid
    stride_q: Grid
    stride_kv: Grid

    @property
    def grid_out(self) -> Grid:
        return pooled_grid(self.grid, self.stride_q)


def plan_blocks(config: MASTConfig) -> list[BlockPlan]:
    """One plan a block, in order."""
    plans: list[BlockPlan] = []
    dim, grid, stride_kv = config.embed_dim, config.grid, config.kv_stride
    for stage, depth in enumerate(config.depths):
        dim_out, num_heads = config.embed_dim * 2**stage, config.num_heads * 2**stage
        for position in range(depth):
            stride_q = config.pool_strides[stage - 1] if stage and position == 0 else (1, 1)
            stride_kv = (max(stride_kv[0] // stride_q[0], 1), max(stride_kv[1] // stride_q[1], 1))
            plan = BlockPlan(dim, dim_out, num_heads, grid, stride_q, stride_kv)
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
        self.prefix_tokens = int(config.cls_token)
        self.norm1 = nn.LayerNorm(plan.dim, eps=config.norm_eps)
        self.attn = PoolingAttention(
            plan.dim,
            plan.dim_out,
            plan.num_heads,
            plan.grid,
            plan.stride_q,
            plan.stride_kv,
            prefix_tokens=self.prefix_tokens,
            norm_eps=config.norm_eps,
            path=config.attention,
        )
        self.proj = nn.Linear(plan.dim, plan.dim_out) if plan.dim != plan.dim_out else None
        # MViTv2's stride + 1 at even strides; odd at odd ones too, or the skip's grid would not be the queries'.
        freq, time = plan.stride_q[0] // 2, plan.stride_q[1] // 2
        pool = nn.MaxPool2d((2 * freq + 1, 2 * time + 1), plan.stride_q, (freq, time))
        self.pool_skip = pool if max(plan.stride_q) > 1 else None
        self.norm2 = nn.LayerNorm(plan.dim_out, eps=config.norm_eps)
        self.mlp = Mlp(plan.dim_out, int(plan.dim_out * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def _pool_skip(self, x: Tensor) -> Tensor:
        """(B, P + tokens, dim_out) to (B, P + pooled tokens, dim_out), the prefix untouched."""
        if self.pool_skip is None:
            return x
        B, _, C = x.shape
        prefix, body = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        body = self.pool_skip(body.reshape(B, *self.plan.grid, C).permute(0, 3, 1, 2))
        body = body.permute(0, 2, 3, 1).reshape(B, -1, C)
        return torch.cat((prefix, body), dim=1) if self.prefix_tokens else body

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        skip = self._pool_skip(x if self.proj is None else self.proj(normed))
        x = skip + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(x, self.norm2))


class PatchEmbed(nn.Module):
    """7x7 patches at stride 4, (B, in_chans, mels, frames) to (B, F*T, C), frequency-major."""

    def __init__(self, config: MASTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING)

    def forward(self, x: Tensor) -> Tensor:
        # Contiguous, or every sum of the first stage would keep the convolution's layout, and every LayerNorm copy it.
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()


class MAST(SpectrogramTransformer):
    """The model. `forward`: (B, in_chans, mels, frames) to (B, classes), or to {head: (B, classes)}.

    The embedding is the mean over tokens after the last LayerNorm, or the class token where there is one. Logits
    are raw in training and evaluation alike (FAIR's head applies softmax in evaluation).
    """

    config: MASTConfig
    attention_paths = ("auto", *ATTENTION_PATHS)

    def __init__(self, config: MASTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim)) if config.cls_token else None
        plans = plan_blocks(config)
        rates = drop_path_rates(config.drop_path_rate, len(plans))
        self.blocks = nn.ModuleList(Block(plan, config, rate) for plan, rate in zip(plans, rates, strict=True))
        self.norm = nn.LayerNorm(self.embedding_dim, eps=config.norm_eps)
        self.head = ClassifierHead(self.embedding_dim, config.num_classes)
        self.apply(init_linear_weights)
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    @property
    def embedding_dim(self) -> int:
        return self.config.embed_dim * 2 ** (len(self.config.depths) - 1)

    @property
    def attention(self) -> str:
        """The paths by which its blocks compute attention where the model is now, such as "chunked, sdpa"."""
        device = self.patch_embed.proj.weight.device
        return ", ".join(dict.fromkeys(block.attn.path_on(device) for block in self.blocks))

    def no_weight_decay(self) -> set[str]:
        """Names left undecayed besides biases and norms; FAIR decays the relative positions."""
        return {"cls_token"} if self.cls_token is not None else set()

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, N, C) after the last LayerNorm."""
        check_input(x, self.config.in_chans, self.config.input_size)
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        return self.norm(self.run_blocks(x))

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean over tokens, or the class token where there is one, (B, C)."""
        return tokens.mean(dim=1) if self.cls_token is None else tokens[:, 0]


def _mast(preset: dict[str, Any], arguments: dict[str, Any]) -> MAST:
    return MAST(MASTConfig(**{**preset, **arguments}))


@register_model
def mast_base(**arguments: Any) -> MAST:
    """The paper's MAST: 51.4 M parameters, 25.6 G module-only MACs at 128 x 1024."""
    return _mast({}, arguments)


@register_model
def mast_small(**arguments: Any) -> MAST:
    """Half of mast_base's width at the same depth and heads."""
    return _mast({"embed_dim": 48}, arguments)


@register_model
def mast_tiny(**arguments: Any) -> MAST:
    """A quarter of mast_base's width at the same depth and heads."""
    return _mast({"embed_dim": 24}, arguments)


@register_model
def mast_debug(**arguments: Any) -> MAST:
    """Seconds on a CPU; for tests of the path, not for accuracy."""
    return _mast({"embed_dim": 8, "depths": (1, 1, 1, 1)}, arguments)
