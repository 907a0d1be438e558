"""AST, the Audio Spectrogram Transformer (Gong 2021), after YuanGongND/ast `src/models/ast_models.py`.

DeiT-B distilled on overlapping 16x16 patches of a log-mel spectrogram. Shapes: B batch, N tokens, C width,
H heads, D = C / H.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

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
    Mlp,
    at_least_float32,
    autocast_dtype,
    check_config,
    drop_path_rates,
    init_linear_weights,
    layer_norm,
    make_drop_path,
)
from models.linear import is_convolved, linear
from models.plain_attention import plain_attention
from models.position_embedding import PREFIX_TOKENS, position_grid, resize_position_embedding
from models.registry import register_presets
from models.weight_formats import Action, Grid, PublishedWeights, WeightFormat, WeightSource

ATTENTION_PATHS = ("auto", "chunked", "sdpa", "reference")
LEAST_HEAD_MACS = 2**24  # of a product per head, 512 tokens at AST's head size: smaller ones gain nothing as "chunked"
DEIT_HEAD_CLASSES, DEIT_UNUSED_HEADS = 1000, 2

HUGGINGFACE_PREFIX = re.escape("audio_spectrogram_transformer.")
PRETRAINED_FORMATS = {
    "ours": WeightFormat(marker=r"head_norm\.weight"),
    "ast-official": WeightFormat(
        marker=r"v\.blocks\.\d+\.attn\.qkv\.weight",
        rules=((r"^v\.", ""), (r"^mlp_head\.0\.", "head_norm."), (r"^mlp_head\.1\.", "head.fc.")),
        dropped=r"v\.head(_dist)?\.(weight|bias)",  # DeiT's, allocated and unused in AST
        head=("head_norm", "head.fc"),
    ),
    "ast-huggingface": WeightFormat(
        marker=rf"({HUGGINGFACE_PREFIX})?embeddings\.(distillation_token|patch_embeddings\.projection\.weight)",
        # Of two spellings, the first is on disk (transformers 4), the second in memory (transformers 5).
        rules=(
            (rf"^{HUGGINGFACE_PREFIX}", ""),
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.distillation_token$", "dist_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
            (r"\.attention\.q_proj\.", ".attn.query."),
            (r"\.attention\.k_proj\.", ".attn.key."),
            (r"\.attention\.v_proj\.", ".attn.value."),
            (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
            (r"^layernorm\.", "norm."),
            (r"^classifier\.layernorm\.", "head_norm."),
            (r"^classifier\.dense\.", "head.fc."),
        ),
        head=("head_norm", "head.fc"),
        head_marker=rf"{HUGGINGFACE_PREFIX}.*",  # the bare ASTModel has neither prefix nor classifier
    ),
    "deit": WeightFormat(
        marker=r"blocks\.\d+\.attn\.qkv\.weight",
        absent=r".*\.rel_pos_\w+|head_norm\.weight",
        dropped=r"head(_dist)?\.(weight|bias)",
    ),
}
BASE_FIELDS = ("embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size")
PUBLISHED = {
    "imagenet": PublishedWeights(
        repo_id="timm/deit_base_distilled_patch16_384.fb_in1k",
        url="https://dl.fbaipublicfiles.com/deit/deit_base_distilled_patch16_384-d0272ac0.pth",
        preset="ast_base",
        fields=BASE_FIELDS,
    ),
    "audioset": PublishedWeights(
        repo_id="MIT/ast-finetuned-audioset-10-10-0.4593",
        url="https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593/resolve/main/model.safetensors",
        preset="ast_base",
        fields=BASE_FIELDS,
    ),
}


@dataclass(frozen=True)
class ASTConfig:
    """Everything that defines an AST. The defaults are the paper's `ast_base` at 128 x 1024.

    Args:
        num_classes: int, or {head name: classes}.
        input_size: (mels, frames).
        in_chans: spectrogram channels.
        embed_dim: width, DeiT-B's.
        depth: blocks, DeiT-B's.
        num_heads: heads per block, DeiT-B's.
        mlp_ratio: hidden width over width.
        patch_size: side of the square patches.
        patch_stride: step between patches, which overlap where it is smaller than patch_size.
        drop_path_rate: linear over the blocks, on both branches.
        norm_eps: LayerNorm epsilon, DeiT's.
        head_norm_eps: of the head's LayerNorm; torch's default, which AST's `mlp_head` uses.
        attention: "sdpa" (fused), "reference" (plain products, which MAC counters can see), "chunked" (in pieces that
            fit a CPU's cache) or "auto": see `Attention.path_on`. Outputs agree.

    Raises:
        ValueError: sizes that cannot be built.
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
    attention: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(self.input_size))
        check_config(self, self.depth)
        if min(self.patch_size, self.patch_stride) < 1:
            raise ValueError(f"patches must be positive, got size {self.patch_size} and stride {self.patch_stride}")
        if min(self.input_size) < self.patch_size:
            raise ValueError(f"input_size {self.input_size} is smaller than a patch of {self.patch_size}")
        if self.attention not in ATTENTION_PATHS:
            raise ValueError(f"attention must be one of {ATTENTION_PATHS}, got {self.attention!r}")

    @property
    def grid(self) -> Grid:
        """Patches along (frequency, time): 12 x 101 at 128 x 1024."""
        rows, columns = ((size - self.patch_size) // self.patch_stride + 1 for size in self.input_size)
        return rows, columns


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, C) to (B, N, C)."""

    def __init__(self, config: ASTConfig, tokens: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.tokens, self.num_heads, self.head_dim = tokens, config.num_heads, dim // config.num_heads
        self.path = config.attention
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def path_on(self, device: torch.device, dtype: torch.dtype | None = None) -> str:
        """The path taken on `device`.

        "auto" is "sdpa", torch's fused kernel; but "chunked" where products are convolutions (see head_products.py) and
        those of a head have `LEAST_HEAD_MACS` or more; `bench/test_attention.py` times both.

        Args:
            device: of the tokens.
            dtype: of the products; None for that of autocast, or else of the weights.
        """
        if self.path != "auto":
            return self.path
        dtype = dtype or autocast_dtype(device.type) or self.qkv.weight.dtype
        is_large = self.tokens**2 * self.head_dim >= LEAST_HEAD_MACS
        return "chunked" if is_large and is_convolved(device, dtype) else "sdpa"

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        qkv = linear(self.qkv, x).view(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, N, D) each
        path = self.path_on(x.device, qkv.dtype)
        if path == "chunked":  # a head at a time, as a clip of its own
            of_heads = (part.flatten(0, 1).unsqueeze(2).contiguous() for part in (q, k, v))
            y = plain_attention(*of_heads).view_as(q)
        elif path == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))  # (B, H, N, N)
            y = torch.matmul(scores.softmax(dim=-1), v)
        return linear(self.proj, y.transpose(1, 2).reshape(B, N, C))


class Block(nn.Module):
    """Pre-norm Transformer block, (B, N, C) to (B, N, C)."""

    def __init__(self, config: ASTConfig, drop_path: float, tokens: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attn = Attention(config, tokens)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = make_drop_path(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(layer_norm(self.norm1, x)))
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
    config_class = ASTConfig
    attention_paths = ATTENTION_PATHS
    pretrained_formats = PRETRAINED_FORMATS
    published = PUBLISHED
    prefix_tokens: ClassVar[int] = PREFIX_TOKENS

    def __init__(self, config: ASTConfig) -> None:
        super().__init__(config)
        dim, patches = config.embed_dim, prod(config.grid)
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, PREFIX_TOKENS + patches, dim))
        rates = drop_path_rates(config.drop_path_rate, config.depth)
        self.blocks = nn.ModuleList(Block(config, rate, self.tokens) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.head_norm = nn.LayerNorm(dim, eps=config.head_norm_eps)
        self.head = ClassifierHead(dim, config.num_classes)
        self.apply(init_linear_weights)
        for parameter in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    @property
    def embedding_dim(self) -> int:
        return self.config.embed_dim

    @property
    def tokens(self) -> int:
        """Tokens of a clip, those before the patches included."""
        return self.prefix_tokens + prod(self.config.grid)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that DeiT does not decay besides biases and norms."""
        return {"cls_token", "dist_token", "pos_embed"}

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, 2 + patches, C) with their positions."""
        x = self.patch_embed(x)
        prefix = torch.cat((self.cls_token, self.dist_token), dim=1).expand(x.shape[0], -1, -1)
        return torch.cat((prefix, x), dim=1) + self.pos_embed

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean of the class and the distillation token, (B, C)."""
        class_token, distillation_token = at_least_float32(tokens[:, :PREFIX_TOKENS]).unbind(dim=1)
        return (class_token + distillation_token) / 2

    def head_logits(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) to logits, through the head's LayerNorm."""
        return self.head(self.head_norm(embedding))

    # --- Cost of one clip

    @property
    def paper_only_parameters(self) -> int:
        """AST's code keeps DeiT's two 1000-way heads allocated and unused, and counts them."""
        return DEIT_UNUSED_HEADS * (self.config.embed_dim + 1) * DEIT_HEAD_CLASSES

    def cost_items(self) -> Iterator[CostItem]:
        patches, tokens, dim = prod(self.config.grid), self.tokens, self.config.embed_dim
        yield CostItem("patch embedding", "conv", conv_macs(self.patch_embed.proj, patches))
        for number, block in enumerate(self.blocks):
            name = f"block {number}"
            yield CostItem(name, "norm", 2 * norm_macs(tokens * dim))
            yield from linear_items(name, block.attn.qkv, tokens)
            yield from linear_items(name, block.attn.proj, tokens)
            yield CostItem(name, "attention", 2 * tokens * tokens * dim)
            yield from mlp_items(name, block.mlp, tokens)
        yield CostItem("head", "norm", norm_macs(tokens * dim) + norm_macs(dim))
        yield from head_items(self.head)

    def block_shapes(self) -> Iterator[BlockShape]:
        grid, dim = self.config.grid, self.config.embed_dim
        yield BlockShape("patch embedding", prod(grid), grid, dim)
        for number in range(self.config.depth):
            yield BlockShape(f"block {number}", prod(grid), grid, dim, self.prefix_tokens)

    def saved_activations(
        self, batch: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Iterator[SavedActivations]:
        tokens, dim = self.tokens, self.config.embed_dim
        elements = tokens * dim
        for number, block in enumerate(self.blocks):
            saved = 5 * elements  # the normed input; q, k and v; the projection's input
            if block.attn.path == "reference":
                saved += block.attn.num_heads * tokens**2  # the probabilities
            saved += mlp_saved(block.mlp, tokens, batch, device.type, (torch.float32, dtype))
            yield SavedActivations(block=f"block {number}", inputs=elements, float32=2 * elements, autocast=saved)
        inputs = prod(self.config.input_size) * self.config.in_chans
        yield SavedActivations(block="head", inputs=elements, float32=elements, autocast=inputs)

    # --- Weights of other sources

    @classmethod
    def grid_of_config(cls, config: ASTConfig) -> Grid | None:
        return config.grid

    def grid_of_file(self, path: Path) -> Grid | None:
        """The grid by transformers' config.json in the folder of `path`, None without one."""
        try:
            described = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
            sizes = described["num_mel_bins"], described["max_length"]
            strides = described["frequency_stride"], described["time_stride"]
            rows, columns = (
                (int(size) - int(described["patch_size"])) // int(stride) + 1
                for size, stride in zip(sizes, strides, strict=True)
            )
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):  # none, or no AST's
            return None
        return (rows, columns) if min(rows, columns) > 0 else None

    def adapt(self, key: str, tensor: Tensor, target: Tensor, source: WeightSource) -> tuple[Tensor, Action]:
        if key != "pos_embed":
            return super().adapt(key, tensor, target, source)
        grid = position_grid(tensor, source)
        if grid == self.config.grid:
            return tensor, "matched"
        # Two grids of the same number of patches still differ.
        return resize_position_embedding(tensor.to(target.dtype), grid, self.config.grid), "resized"


# ast_base is the paper's AST: 86.6 M parameters, 103.4 G module-only MACs at 128 x 1024. small and tiny have a half and
# a quarter of its width at the same depth and head size; debug runs in seconds on a CPU, to test the path.
register_presets(
    AST,
    {
        "ast_base": {},
        "ast_small": {"embed_dim": 384, "num_heads": 6},
        "ast_tiny": {"embed_dim": 192, "num_heads": 3},
        "ast_debug": {"embed_dim": 32, "num_heads": 2, "depth": 2},
    },
)
