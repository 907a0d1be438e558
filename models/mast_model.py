"""MAST, the Multiscale Audio Spectrogram Transformer (Zhu & Omar 2023, Table 1): MViTv2-B on a 128 x 1024 log-mel.

What the paper changes in MViTv2-B (facebookresearch/mvit `configs/MVITv2_B.yaml`): one input channel, a rectangular
input, and in block 21 a pooling along time only, which keeps eight frequency rows. Shapes: B batch, N tokens, C width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
    Mlp,
    at_least_float32,
    drop_path_rates,
    init_linear_weights,
    layer_norm,
    make_drop_path,
)
from models.linear import linear
from models.mast_config import MASTConfig, plan_blocks
from models.pooling_attention import ATTENTION_PATHS, BlockPlan, PoolingAttention
from models.position_embedding import PREFIX_TOKENS, position_grid, resize_position_embedding
from models.recompute import is_recomputed
from models.registry import register_presets
from models.weight_files import CheckpointError
from models.weight_formats import Action, Grid, PublishedWeights, WeightFormat, WeightSource

HEAD_NORM_EPS = 1e-5  # of the LayerNorm before AST's classifier

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
        self.drop_path = make_drop_path(drop_path)

    def _pool_skip(self, x: Tensor) -> Tensor:
        """(B, tokens, dim_out) to (B, pooled tokens, dim_out)."""
        if self.pool_skip is None:
            return x
        (B, _, C), before = x.shape, self.plan.prefix_tokens
        grid = self.pool_skip(x[:, before:].reshape(B, *self.plan.grid, C).permute(0, 3, 1, 2))
        pooled = grid.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat((x[:, :before], pooled), dim=1) if before else pooled

    def forward(self, x: Tensor) -> Tensor:
        normed = layer_norm(self.norm1, x)
        skip = self._pool_skip(x if self.proj is None else linear(self.proj, normed))
        x = skip + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(x, self.norm2))

    def cost_items(self, name: str) -> Iterator[CostItem]:
        """MACs of the block named `name`."""
        attn, plan = self.attn, self.plan
        tokens, queries, keys = plan.tokens, plan.queries, plan.keys
        # Positions of q, k and v that go through a LayerNorm, and those that come from a convolution.
        normed = plan.pool_q * queries + 2 * plan.pool_kv * keys
        convolved = plan.pool_q * prod(plan.grid_out) + 2 * plan.pool_kv * prod(plan.key_grid)
        yield CostItem(name, "norm", norm_macs(tokens * plan.dim + (normed + queries) * plan.dim_out))
        yield from linear_items(name, attn.qkv, tokens)
        yield from linear_items(name, attn.proj, queries)
        pool = attn.pool_q or attn.pool_k
        if pool is not None:
            yield CostItem(name, "conv", plan.num_heads * conv_macs(pool, convolved))
        yield CostItem(name, "attention", 2 * queries * keys * plan.dim_out)
        if plan.relative:
            yield CostItem(name, "relative position", prod(plan.grid_out) * sum(plan.key_grid) * plan.dim_out)
        if self.proj is not None:
            yield from linear_items(name, self.proj, tokens)
        if self.pool_skip is not None:
            yield CostItem(name, "pool", prod(plan.grid) * plan.dim_out)
        yield from mlp_items(name, self.mlp, queries)

    def saved_activations(self, name: str, batch: int, device: torch.device, dtype: torch.dtype) -> SavedActivations:
        """Activations that autograd saves of one clip of `batch` in the block named `name`."""
        plan, path = self.plan, self.attn.path_on(device, dtype)
        entering, leaving = plan.tokens * plan.dim, plan.queries * plan.dim_out
        before, keys = plan.tokens * plan.dim_out, plan.keys * plan.dim_out  # of k or v before and after pooling
        recomputed = is_recomputed(batch * before, device.type, dtype, self.attn.recompute_from)
        # Absolute positions and AST's tokens make the sum over blocks float32 under autocast.
        dtypes = torch.float32 if plan.prefix_tokens or not plan.relative else dtype, dtype
        # What pooling gives to the LayerNorms of q, k and v.
        pooled = 0 if recomputed else plan.pool_q * leaving + 2 * plan.pool_kv * keys
        # The normed input; q, k and v before pooling; the projection's input.
        saved = entering + (plan.pool_q + 2 * plan.pool_kv) * before + leaving
        if not (recomputed and path == "chunked"):  # whose inputs are recomputed with the pooling
            saved += self._saved_by_product(path)
        if self.pool_skip is not None:
            saved += prod(plan.grid) * plan.dim_out
        return SavedActivations(
            block=name,
            inputs=entering,
            float32=entering + pooled + leaving,
            autocast=saved + mlp_saved(self.mlp, plan.queries, batch, device.type, dtypes),
            indices=prod(plan.grid_out) * plan.dim_out if self.pool_skip is not None else 0,
        )

    def _saved_by_product(self, path: str) -> int:
        """Elements that the attention product saves of q, k and v, and of the tables' products with q."""
        plan = self.plan
        queries, keys = plan.queries, plan.keys
        if path == "chunked":  # q, k and v alone
            return plan.dim_out * (queries + 2 * keys)
        copies = 2 * plan.dim_out * queries if plan.relative else 0  # of q, for its products with both tables
        if path == "folded":  # q, k, v and the result, padded to one head size
            return copies + plan.num_heads * 2 * (queries + keys) * self.attn.folded_head_dim
        if path == "flex":  # q, k, v, the result, and the tables' products
            return copies + 2 * (queries + keys) * plan.dim_out + plan.num_heads * queries * sum(plan.key_grid)
        # q, k, v; the result, unless it is the projection's input itself; with a bias or by plain products, a
        # (queries x keys) tensor per head.
        saved = copies + (queries * (1 + plan.residual) + 2 * keys) * plan.dim_out
        return saved + (plan.num_heads * queries * keys if plan.relative or path == "reference" else 0)


class PatchEmbed(nn.Module):
    """Overlapping patches, 7x7 at stride 4, (B, in_chans, mels, frames) to (B, F*T, C), frequency-major."""

    def __init__(self, config: MASTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.in_chans, config.embed_dim, config.patch_size, config.patch_stride, config.patch_padding
        )

    def forward(self, x: Tensor) -> Tensor:
        # Contiguous; otherwise every sum of the first stage keeps the convolution's layout and every LayerNorm copies.
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()


class MAST(SpectrogramTransformer):
    """The model. `forward`: (B, in_chans, mels, frames) to (B, classes), or to {head: (B, classes)}.

    The embedding is the mean over tokens after the last LayerNorm. Logits are raw in training and evaluation alike
    (FAIR's head applies softmax in evaluation). The switches of `MASTConfig` replace parts of it by AST's.
    """

    config: MASTConfig
    config_class = MASTConfig
    attention_paths = ("auto", *ATTENTION_PATHS)
    pretrained_formats = PRETRAINED_FORMATS
    published = PUBLISHED
    retired_fields: ClassVar[Mapping[str, Any]] = {"cls_token": False}
    cls_token: nn.Parameter  # with AST's readout
    dist_token: nn.Parameter
    pos_embed: nn.Parameter  # with absolute positions

    def __init__(self, config: MASTConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(config)
        plans = plan_blocks(config)
        rates = drop_path_rates(config.drop_path_rate, len(plans))
        self.blocks = nn.ModuleList(Block(plan, config, rate) for plan, rate in zip(plans, rates, strict=True))
        self.norm = nn.LayerNorm(self.embedding_dim, eps=config.norm_eps)
        if config.readout == "tokens":
            self.head_norm = nn.LayerNorm(self.embedding_dim, eps=HEAD_NORM_EPS)
        self.head = ClassifierHead(self.embedding_dim, config.num_classes)
        self.apply(init_linear_weights)
        names = ("cls_token", "dist_token") if config.readout == "tokens" else ()
        if config.positions == "absolute":
            names = (*names, "pos_embed")
        for name in names:
            tokens = config.prefix_tokens + prod(config.grid) if name == "pos_embed" else 1
            setattr(self, name, nn.Parameter(torch.empty(1, tokens, config.embed_dim)))
            nn.init.trunc_normal_(getattr(self, name), std=0.02)
        self._undecayed = set(names)

    @property
    def embedding_dim(self) -> int:
        return self.config.embedding_dim

    def no_weight_decay(self) -> set[str]:
        """None besides biases and norms: FAIR decays the relative positions (ZERO_DECAY_POS_CLS False).

        AST's tokens and position embedding, where they are switched on, are not decayed, as in AST.
        """
        return set(self._undecayed)

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, prefix + F*T, C)."""
        x = self.patch_embed(x)
        if self.config.readout == "tokens":
            prefix = torch.cat((self.cls_token, self.dist_token), dim=1).expand(x.shape[0], -1, -1)
            x = torch.cat((prefix, x), dim=1)
        return x + self.pos_embed if self.config.positions == "absolute" else x

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean over tokens, or of the class and the distillation token, (B, C)."""
        if self.config.readout == "mean":
            return at_least_float32(tokens).mean(dim=1)
        class_token, distillation_token = at_least_float32(tokens[:, :PREFIX_TOKENS]).unbind(dim=1)
        return (class_token + distillation_token) / 2

    def head_logits(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) to logits, with AST's readout through its LayerNorm."""
        return self.head(self.head_norm(embedding) if self.config.readout == "tokens" else embedding)

    # --- Cost of one clip

    def cost_items(self) -> Iterator[CostItem]:
        yield CostItem("patch embedding", "conv", conv_macs(self.patch_embed.proj, prod(self.config.grid)))
        for number, block in enumerate(self.blocks):
            yield from block.cost_items(f"block {number}")
        normed = self.blocks[-1].plan.queries + (self.config.readout == "tokens")
        yield CostItem("head", "norm", norm_macs(normed * self.embedding_dim))
        yield from head_items(self.head)

    def block_shapes(self) -> Iterator[BlockShape]:
        grid = self.config.grid
        yield BlockShape("patch embedding", prod(grid), grid, self.config.embed_dim)
        for number, block in enumerate(self.blocks):
            grid = block.plan.grid_out
            yield BlockShape(f"block {number}", prod(grid), grid, block.plan.dim_out, block.plan.prefix_tokens)

    def saved_activations(
        self, batch: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Iterator[SavedActivations]:
        for number, block in enumerate(self.blocks):
            yield block.saved_activations(f"block {number}", batch, device, dtype)
        elements = self.blocks[-1].plan.queries * self.embedding_dim
        inputs = prod(self.config.input_size) * self.config.in_chans
        yield SavedActivations(block="head", inputs=elements, float32=elements, autocast=inputs)

    def relative_position_terms(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        if self.config.positions != "relative":
            return []
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

    @classmethod
    def grid_of_config(cls, config: MASTConfig) -> Grid | None:
        return config.grid if config.positions == "absolute" else None

    def adapt(self, key: str, tensor: Tensor, target: Tensor, source: WeightSource) -> tuple[Tensor, Action]:
        if key == "pos_embed":
            grid = position_grid(tensor, source, self.config.prefix_tokens)
            if grid == self.config.grid:
                return tensor, "matched"
            before = self.config.prefix_tokens
            return resize_position_embedding(tensor.to(target.dtype), grid, self.config.grid, before), "resized"
        if self.config.positions == "absolute":
            return super().adapt(key, tensor, target, source)
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
