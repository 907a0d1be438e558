"""AST, the Audio Spectrogram Transformer (Gong 2021), after YuanGongND/ast `src/models/ast_models.py`.

DeiT-B distilled on overlapping 16x16 patches of a log-mel spectrogram. Shapes: B batch, N tokens, C width,
H heads, D = C / H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import SpectrogramTransformer
from models.layers import ClassifierHead, DropPath, Mlp, check_heads, check_input, drop_path_rates, init_linear_weights
from models.registry import register_model

ATTENTION_PATHS = ("sdpa", "reference")


@dataclass(frozen=True)
class ASTConfig:
    """Everything that defines an AST. The defaults are the paper's `ast_base` at 128 x 1024.

    Args:
        num_classes: int, or {head name: classes}.
        input_size: (mels, frames).
        in_chans: spectrogram channels.
        embed_dim, depth, num_heads, mlp_ratio: DeiT-B's.
        patch_size, patch_stride: square patches that overlap where the stride is smaller.
        drop_path_rate: linear over the blocks, on both branches.
        norm_eps, head_norm_eps: DeiT's, and torch's default, which AST's `mlp_head` uses.
        attention: "sdpa" (fused) or "reference" (plain products, which MAC counters can see).
    """

    num_classes: int | Mapping[str, int] = 527
    input_size: tuple[int, int] = (128, 1024)
    in_chans: int = 1
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    patch_stride: int = 10
    drop_path_rate: float = 0.0
    norm_eps: float = 1e-6
    head_norm_eps: float = 1e-5
    attention: str = "sdpa"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(self.input_size))
        check_heads(self.num_classes)
        if min(self.input_size) < self.patch_size:
            raise ValueError(f"input_size {self.input_size} is smaller than a patch of {self.patch_size}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        if self.attention not in ATTENTION_PATHS:
            raise ValueError(f"attention must be one of {ATTENTION_PATHS}, got {self.attention!r}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (frequency, time): 12 x 101 at 128 x 1024."""
        rows, columns = ((size - self.patch_size) // self.patch_stride + 1 for size in self.input_size)
        return rows, columns


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, C) to (B, N, C)."""

    def __init__(self, dim: int, num_heads: int, path: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.path = path
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)  # (B, H, N, D)
        if self.path == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))  # (B, H, N, N)
            y = torch.matmul(scores.softmax(dim=-1), v)
        return self.proj(y.transpose(1, 2).reshape(B, N, C))


class Block(nn.Module):
    """Pre-norm Transformer block, (B, N, C) to (B, N, C)."""

    def __init__(self, config: ASTConfig, drop_path: float) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attn = Attention(dim, config.num_heads, config.attention)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(x, self.norm2))


class PatchEmbed(nn.Module):
    """Overlapping patches, (B, in_chans, mels, frames) to (B, rows * columns, C), frequency-major."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, config.patch_size, config.patch_stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class AST(SpectrogramTransformer):
    """The model. `forward`: (B, in_chans, mels, frames) to (B, classes), or to {head: (B, classes)}.

    Two prefix tokens, class and distillation, come before the patches; the embedding is their mean after the
    last LayerNorm, and the head is LayerNorm + Linear, as in AST's `mlp_head`. Logits are raw, never squashed.
    """

    config: ASTConfig
    attention_paths = ATTENTION_PATHS

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        dim, patches = config.embed_dim, config.grid[0] * config.grid[1]
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 + patches, dim))
        rates = drop_path_rates(config.drop_path_rate, config.depth)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.head_norm = nn.LayerNorm(dim, eps=config.head_norm_eps)
        self.head = ClassifierHead(dim, config.num_classes)
        self.apply(init_linear_weights)
        for parameter in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    @property
    def embedding_dim(self) -> int:
        return self.config.embed_dim

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that DeiT leaves undecayed besides biases and norms."""
        return {"cls_token", "dist_token", "pos_embed"}

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, 2 + patches, C) after the last LayerNorm."""
        check_input(x, self.config.in_chans, self.config.input_size)
        x = self.patch_embed(x)
        prefix = torch.cat((self.cls_token, self.dist_token), dim=1).expand(x.shape[0], -1, -1)
        x = torch.cat((prefix, x), dim=1) + self.pos_embed
        return self.norm(self.run_blocks(x))

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean of the class and the distillation token, (B, C)."""
        return (tokens[:, 0] + tokens[:, 1]) / 2

    def classify(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) to logits, through the head's own LayerNorm."""
        return self.head(self.head_norm(embedding))


def _ast(preset: dict[str, Any], arguments: dict[str, Any]) -> AST:
    return AST(ASTConfig(**{**preset, **arguments}))


@register_model
def ast_base(**arguments: Any) -> AST:
    """The paper's AST: 86.6 M parameters, 103.4 G module-only MACs at 128 x 1024."""
    return _ast({}, arguments)


@register_model
def ast_small(**arguments: Any) -> AST:
    """Half of ast_base's width at the same depth and head size."""
    return _ast({"embed_dim": 384, "num_heads": 6}, arguments)


@register_model
def ast_tiny(**arguments: Any) -> AST:
    """A quarter of ast_base's width at the same depth and head size."""
    return _ast({"embed_dim": 192, "num_heads": 3}, arguments)


@register_model
def ast_debug(**arguments: Any) -> AST:
    """Seconds on a CPU; for tests of the path, not for accuracy."""
    return _ast({"embed_dim": 32, "num_heads": 2, "depth": 2}, arguments)
