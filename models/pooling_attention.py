"""Pooled self-attention with decomposed relative positions on (frequency, time) grids, square or not.

After facebookresearch/mvit `mvit/models/attention.py` (MViTv2, Li 2022), which asserts square grids; here each
axis has a table. Where the MAST paper's eq. (2) differs (it scales the relative term and has no LayerNorm), the
code is followed: the ImageNet weights were trained with softmax(QK^T / sqrt(D) + Q.R) and scaled by D, the head size.

Shapes: B batch, C width, H heads, D = C / H, (F, T) the queries' grid, (f, t) the keys' grid, N = F*T queries,
M = f*t keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.chunked_attention import PIECE_SCORES, InputsOnly, chunked_attention, rows_of_pairs
from models.flex_attention import relative_flex_attention
from models.layers import at_least_float32, autocast_dtype, layer_norm, product_dtype
from models.linear import linear, product
from models.pool_layouts import CHANNELS_LAST, pool_tokens
from models.processor import AMX_BFLOAT16
from models.recompute import recompute
from models.weight_formats import Grid

ATTENTION_PATHS = ("chunked", "folded", "flex", "sdpa", "reference")
# Scores per clip. A fused kernel whose bias is learned writes its scores out in the backward pass; with fewer scores
# than this, looping over clips costs more than it saves.
CHUNKED_FROM = PIECE_SCORES // 4
FLASH_HEAD_SIZE = 256  # no flash kernel takes larger heads
FLEX_HEAD_SIZE = 16  # FlexAttention's GPU kernel takes no smaller heads


def pooled_grid(grid: Grid, stride: Grid) -> Grid:
    """Grid after a 3x3 convolution of padding 1, or after the skip path's max-pooling: ceil(size / stride)."""
    freq, time = (-(-size // step) for size, step in zip(grid, stride, strict=True))
    return freq, time


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """Sizes of one block, derived from the config.

    Args:
        dim: width in.
        dim_out: width out (MViTv2 widens inside the attention, DIM_MUL_IN_ATT).
        num_heads: heads of the attention.
        grid: (frequency, time) of the tokens that enter.
        stride_q: query pooling along (frequency, time).
        stride_kv: key and value pooling along (frequency, time).
        prefix_tokens: class and distillation token before those of the grid; neither pooled nor with positions.
        pool_q: queries go through a convolution and a LayerNorm; otherwise they stay as they are.
        pool_kv: keys and values do.
        relative: scores have relative positions.
        residual: the queries are added to the result.
    """

    dim: int
    dim_out: int
    num_heads: int
    grid: Grid
    stride_q: Grid = (1, 1)
    stride_kv: Grid = (1, 1)
    prefix_tokens: int = 0
    pool_q: bool = True
    pool_kv: bool = True
    relative: bool = True
    residual: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim_out // self.num_heads

    @property
    def grid_out(self) -> Grid:
        """Grid of the queries, and so of the tokens that leave."""
        return pooled_grid(self.grid, self.stride_q)

    @property
    def key_grid(self) -> Grid:
        """Grid of the keys and values."""
        return pooled_grid(self.grid, self.stride_kv)

    @property
    def tokens(self) -> int:
        """Tokens that enter, those before the grid included."""
        return self.prefix_tokens + prod(self.grid)

    @property
    def queries(self) -> int:
        """Queries, and so tokens that leave, those before the grid included."""
        return self.prefix_tokens + prod(self.grid_out)

    @property
    def keys(self) -> int:
        """Keys and values, those before the grid included."""
        return self.prefix_tokens + prod(self.key_grid)

    @property
    def is_multiscale(self) -> bool:
        """Whether this is MViTv2's attention over a grid: the folded and the chunked path compute no other."""
        return self.relative and self.residual and not self.prefix_tokens


# On torch's meta device the same sums import sympy, which takes 1.2 s; blocks of equal grids share the memory.
@lru_cache(maxsize=64)
def _relative_rows(queries: int, keys: int) -> np.ndarray:
    finer = max(queries, keys)
    # Integers, because float32 (FAIR's and timm's) truncates to the wrong row at some sizes, such as 57 over 29.
    query_position = np.arange(queries)[:, None] * (finer * keys)
    key_position = np.arange(keys)[::-1][None, :] * (finer * queries)
    return (query_position + key_position) // (queries * keys)


@lru_cache(maxsize=64)
def _unit_vectors(keys: int) -> np.ndarray:
    return np.eye(keys, dtype=bool)


def relative_index(queries: int, keys: int) -> Tensor:
    """Row of the relative-position table for every (query, key) pair along one axis, (queries, keys) int64, on the CPU.

    The finer of the two axes sets the unit, so a pooled axis steps in strides (MViTv2, `cal_rel_pos_spatial`).
    Calls with equal sizes share memory: do not write to it.
    """
    return torch.from_numpy(_relative_rows(queries, keys))


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are each pooled by a strided depthwise 3x3 convolution + LayerNorm.

    `forward`: (B, plan.tokens, dim) to (B, plan.queries, dim_out). The plan switches parts off.

    Paths, which all agree; without relative positions or residual, or with prefix tokens, all but reference are sdpa:
        reference: scores and bias are plain tensors, so MAC counters see every product.
        sdpa: the fused kernel with the bias as its mask.
        folded: the fused kernel without a mask; the bias is part of the product,
            [q / sqrt(D), q.R_f, q.R_t] . [k, onehot_f, onehot_t]. For GPUs, whose flash kernels take no mask.
        flex: FlexAttention, whose kernel adds the bias. On a CPU it has no backward pass, and training takes sdpa; so
            do heads of less than 16 on a GPU.
        chunked: in pieces that fit a CPU's cache. Like folded it keeps no (queries x keys) tensor.
        auto: see `path_on`.

    Args:
        plan: sizes of the block.
        norm_eps: LayerNorm epsilon.
        path: one of the paths.

    `recompute_from` and `pool_layout`: see `set_recompute` and `set_pool_layout` of `SpectrogramTransformer`.
    """

    freq_index: Tensor
    time_index: Tensor
    freq_one_hot: Tensor
    time_one_hot: Tensor
    recompute_from: int | None = None
    pool_layout: str = CHANNELS_LAST

    def __init__(self, plan: BlockPlan, norm_eps: float = 1e-6, path: str = "auto") -> None:
        super().__init__()
        self.plan = plan
        self.path = path
        self.q_grid, self.k_grid = plan.grid_out, plan.key_grid
        head_dim = plan.head_dim
        self.qkv = nn.Linear(plan.dim, 3 * plan.dim_out)
        self.proj = nn.Linear(plan.dim_out, plan.dim_out)

        def pool(stride: Grid) -> nn.Conv2d:
            # In MViTv2 stride 1 convolves too: the 3x3 kernel is never skipped.
            return nn.Conv2d(head_dim, head_dim, 3, stride, 1, groups=head_dim, bias=False)

        def norm(pooled: bool) -> nn.Module:
            return nn.LayerNorm(head_dim, eps=norm_eps) if pooled else nn.Identity()

        self.pool_q = pool(plan.stride_q) if plan.pool_q else None
        self.pool_k, self.pool_v = (pool(plan.stride_kv) if plan.pool_kv else None for _ in range(2))
        self.norm_q, self.norm_k, self.norm_v = norm(plan.pool_q), norm(plan.pool_kv), norm(plan.pool_kv)
        if plan.relative:
            self._add_tables()

    def _add_tables(self) -> None:
        """The relative-position tables of both axes, and the row of every (query, key) pair."""
        (F_, T), (f, t), head_dim = self.q_grid, self.k_grid, self.plan.head_dim
        self.rel_pos_freq = nn.Parameter(torch.empty(2 * max(F_, f) - 1, head_dim))
        self.rel_pos_time = nn.Parameter(torch.empty(2 * max(T, t) - 1, head_dim))
        nn.init.trunc_normal_(self.rel_pos_freq, std=0.02)
        nn.init.trunc_normal_(self.rel_pos_time, std=0.02)
        self.register_buffer("freq_index", relative_index(F_, f), persistent=False)
        self.register_buffer("time_index", relative_index(T, t), persistent=False)
        self.register_buffer("freq_one_hot", torch.from_numpy(_unit_vectors(f)), persistent=False)
        self.register_buffer("time_one_hot", torch.from_numpy(_unit_vectors(t)), persistent=False)

    @property
    def folded_head_dim(self) -> int:
        """Head size of the folded path: 136 to 240 in mast_base at 10 s, 368 at 20 s."""
        return self.plan.head_dim + sum(self.k_grid)

    def path_on(self, device: torch.device, dtype: torch.dtype | None = None) -> str:
        """The path taken on `device`.

        "auto" on a CPU: "sdpa" up to CHUNKED_FROM scores per clip, then "chunked"; without gradients in bfloat16 on a
        CPU with AMX "folded" instead of "chunked", up to FLASH_HEAD_SIZE as on a GPU: larger heads were not timed. Time
        of mast_base in bfloat16 for 1 and 4 clips of 10 s on 2 cores, by a script outside this repository (medians of
        five rounds):

            Xeon with AMX: folded 144 and 445 ms, chunked 157 and 507 ms
            EPYC without AMX: folded 399 and 1,649 ms, chunked 262 and 1,156 ms

        Elsewhere in 16 bits: "folded" up to FLASH_HEAD_SIZE, then "sdpa", which has a (queries x keys) mask but works
        on the true head size. In float32, which no flash kernel takes: "sdpa". GPU time of mast_base on an H200, 16
        clips of 10 s, "folded" and "sdpa", while indexing gathered the tables' rows:

            bfloat16: forward 19.6 and 21.2 ms, forward and backward 69.5 and 75.7 ms
            float32: forward 49.9 and 45.5 ms, forward and backward 173 and 151 ms

        "flex" took twice the time of "sdpa" in a forward pass, and 7 % less memory than "folded" in training.

        Args:
            device: of the tokens.
            dtype: of the products; None for that of autocast, or else of the weights.
        """
        if not self.plan.is_multiscale:
            return "reference" if self.path == "reference" else "sdpa"
        if self.path == "flex" and (
            torch.is_grad_enabled() if device.type == "cpu" else self.plan.head_dim < FLEX_HEAD_SIZE
        ):
            return "sdpa"
        if self.path != "auto":
            return self.path
        dtype = dtype or autocast_dtype(device.type) or self.qkv.weight.dtype
        foldable = dtype.itemsize == 2 and self.folded_head_dim <= FLASH_HEAD_SIZE
        if device.type != "cpu":
            return "folded" if foldable else "sdpa"
        if self.plan.num_heads * prod(self.q_grid) * prod(self.k_grid) <= CHUNKED_FROM:
            return "sdpa"
        by_amx = AMX_BFLOAT16 and dtype == torch.bfloat16
        return "folded" if by_amx and foldable and not torch.is_grad_enabled() else "chunked"

    def _pool(self, x: Tensor, pool: nn.Conv2d | None, norm: nn.Module) -> Tensor:
        """(B, tokens, H*D) to (B, pooled tokens, H, D)."""
        narrow = x.device.type == "cpu" and torch.is_grad_enabled() and autocast_dtype("cpu") is not None
        if pool is None or pool.stride == (1, 1) or not narrow or pool.weight.dtype != torch.float32:
            return layer_norm(norm, self._heads(x, pool))
        # In float32: in bfloat16 the backward pass of a convolution of stride 2 or 4 takes 4 to 10 times as long (EPYC
        # of family 26, torch 2.14, by a script outside this repository).
        with torch.autocast("cpu", enabled=False):
            return norm(self._heads(at_least_float32(x), pool)).to(x.dtype)

    def _heads(self, x: Tensor, pool: nn.Conv2d | None) -> Tensor:
        """(B, tokens, H*D) to (B, tokens, H, D), pooled on the grid if there is a convolution."""
        prefix = self.plan.prefix_tokens
        if pool is not None:
            pooled = pool_tokens(x[:, prefix:], self.plan.grid, pool, self.plan.num_heads, self.pool_layout)
            x = torch.cat((x[:, :prefix], pooled), dim=1) if prefix else pooled
        return x.unflatten(-1, (self.plan.num_heads, self.plan.head_dim))

    def _indices(self) -> tuple[Tensor, Tensor]:
        """Both indices on the tables' device: a model built on the meta device has them on the CPU."""
        return self.freq_index.to(self.rel_pos_freq.device), self.time_index.to(self.rel_pos_time.device)

    def relative_terms(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled q.R per axis for q (B, H, N, D): (B, H, F, T, f) and (B, H, F, T, t), of the grid's tokens."""
        B, H, _, D = q.shape
        grid = q[:, :, self.plan.prefix_tokens :].reshape(B, H, *self.q_grid, D)
        freq_index, time_index = self._indices()
        freq = torch.einsum("bhyxd,yfd->bhyxf", grid, self._rows(self.rel_pos_freq, freq_index))
        time = torch.einsum("bhyxd,xtd->bhyxt", grid, self._rows(self.rel_pos_time, time_index))
        return freq, time

    @staticmethod
    def _rows(table: Tensor, index: Tensor) -> Tensor:
        """The row of every pair, (queries, keys, D): of a table (rows, D) that autocast would cast later, cast first.

        With gradients in the table's own dtype: their sum over pairs loses too much in bfloat16.
        """
        return rows_of_pairs(table if torch.is_grad_enabled() else table.to(product_dtype(table)), index)

    def relative_bias(self, q: Tensor) -> Tensor | None:
        """The whole additive bias for q (B, H, N, D), (B, H, N, M), 0 for prefix tokens; None without positions."""
        if not self.plan.relative:
            return None
        freq, time = self.relative_terms(q)
        bias, before = (freq.unsqueeze(-1) + time.unsqueeze(-2)).flatten(4).flatten(2, 3), self.plan.prefix_tokens
        return F.pad(bias, (before, 0, before, 0)) if before else bias

    def _reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention by plain products."""
        scores, bias = torch.matmul(q * self.plan.head_dim**-0.5, k.transpose(-2, -1)), self.relative_bias(q)
        return torch.matmul((scores if bias is None else scores + bias).softmax(dim=-1), v)

    def _add_residual(self, y: Tensor, q: Tensor) -> Tensor:
        """Residual pooling: the queries, except those of prefix tokens, are added to the result (B, H, N, D)."""
        before = self.plan.prefix_tokens
        return torch.cat((y[:, :, :before], y[:, :, before:] + q[:, :, before:]), dim=2) if before else y + q

    def _folded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention with the bias as extra dimensions of the product; needs no (N, M) bias tensor."""
        terms = [term.flatten(2, 3) for term in self.relative_terms(q)]  # (B, H, N, f) and (B, H, N, t)
        (f, t), B, H = self.k_grid, q.shape[0], q.shape[1]
        dtype = product_dtype(q)  # on CUDA, LayerNorm returns float32 under autocast
        freq = self.freq_one_hot.to(q.device, dtype)[:, None, :].expand(B, H, f, t, f)
        time = self.time_one_hot.to(q.device, dtype)[None, :, :].expand(B, H, f, t, t)
        q = torch.cat([part.to(dtype) for part in (q * self.plan.head_dim**-0.5, *terms)], dim=-1)
        k = torch.cat((k.to(dtype).unflatten(2, (f, t)), freq, time), dim=-1).flatten(2, 3)
        # Flash kernels want one head size for q, k and v.
        v = F.pad(v.to(dtype), (0, f + t))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., : self.plan.head_dim]

    def _flex(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention by FlexAttention: the head size stays D, and no (N, M) bias is made on a GPU."""
        freq, time = (term.flatten(2, 3) for term in self.relative_terms(q))
        dtype = product_dtype(q)  # on CUDA, LayerNorm returns float32 under autocast
        return relative_flex_attention(q.to(dtype), k.to(dtype), v.to(dtype), freq.to(dtype), time.to(dtype))

    def _chunked(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, tokens, H*D) each to (B, N, H, D), the residual of the queries included."""
        q = self._pool(q, self.pool_q, self.norm_q)
        k = self._pool(k, self.pool_k, self.norm_k)
        v = self._pool(v, self.pool_v, self.norm_v)
        return chunked_attention(q, k, v, self.rel_pos_freq, self.rel_pos_time, *self._indices())

    def forward(self, x: Tensor) -> Tensor:
        # Three products instead of one, so that each result is contiguous for its convolution.
        (w_q, w_k, w_v), (b_q, b_k, b_v) = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = product(x, w_q, b_q), product(x, w_k, b_k), product(x, w_v, b_v)
        path, threshold = self.path_on(x.device), self.recompute_from
        if path == "chunked":
            # The backward pass needs the pooled q, k and v: the pooling is computed twice, the attention once.
            y = recompute(self._chunked, q, k, v, threshold=threshold, second_run=InputsOnly)
            return linear(self.proj, y.flatten(2))
        q = recompute(self._pool, q, self.pool_q, self.norm_q, threshold=threshold).transpose(1, 2)  # (B, H, N, D)
        k = recompute(self._pool, k, self.pool_k, self.norm_k, threshold=threshold).transpose(1, 2)  # (B, H, M, D)
        v = recompute(self._pool, v, self.pool_v, self.norm_v, threshold=threshold).transpose(1, 2)  # (B, H, M, D)
        if path == "folded":
            y = self._folded(q, k, v)
        elif path == "flex":
            y = self._flex(q, k, v)
        elif path == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.relative_bias(q))
        else:
            y = self._reference(q, k, v)
        if self.plan.residual:
            y = self._add_residual(y, q)
        return linear(self.proj, y.transpose(1, 2).flatten(2))
