"""Pooled self-attention with decomposed relative positions on (frequency, time) grids, square or not.

After facebookresearch/mvit `mvit/models/attention.py` (MViTv2, Li 2022), which asserts square grids; here each
axis keeps its own table. Where the MAST paper's eq. (2) differs (it scales the relative term and drops LN), the
code is followed: the ImageNet weights were trained with softmax(QK^T / sqrt(D) + Q.R) and scaled by D, the head size.

Shapes: B batch, C width, H heads, D = C / H, (F, T) the queries' grid, (f, t) the keys' grid, P prefix tokens
(0, or 1 with a class token), N = P + F*T queries, M = P + f*t keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.chunked_attention import PIECE_SCORES, ResultUnused, chunked_attention
from models.layers import recompute

ATTENTION_PATHS = ("chunked", "folded", "sdpa", "reference")
# Scores of a clip. A fused kernel whose bias is learned writes its scores out in the backward pass; below this they are
# small, and going clip by clip costs more than it saves.
CHUNKED_FROM = PIECE_SCORES // 4
Grid = tuple[int, int]


def pooled_grid(grid: Grid, stride: Grid) -> Grid:
    """Grid after a 3x3 convolution of padding 1, or after the skip path's max-pooling: ceil(size / stride)."""
    freq, time = (-(-size // step) for size, step in zip(grid, stride, strict=True))
    return freq, time


def relative_index(queries: int, keys: int) -> Tensor:
    """Row of the relative-position table for every (query, key) pair along one axis, (queries, keys) int64.

    The finer of the two axes sets the unit, so a pooled axis steps in strides (MViTv2, `cal_rel_pos_spatial`).
    """
    finer = max(queries, keys)
    # Integers, because float32 (FAIR's and timm's) truncates to the wrong row at some sizes, such as 57 over 29.
    query_place = torch.arange(queries)[:, None] * (finer * keys)
    key_place = torch.arange(keys).flip(0)[None, :] * (finer * queries)
    return (query_place + key_place) // (queries * keys)


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are each pooled by a strided depthwise 3x3 convolution + LayerNorm.

    Args:
        dim, dim_out: width in and out (MViTv2 widens inside the attention, DIM_MUL_IN_ATT).
        num_heads: heads; the pooling kernel is shared by them.
        grid: (frequency, time) of the input tokens.
        stride_q, stride_kv: pooling strides (frequency, time).
        prefix_tokens: leading tokens that are not pooled and carry no relative position.
        norm_eps: LayerNorm epsilon.
        path: "reference" materialises scores and bias, "sdpa" hands the bias to the fused kernel, "folded" makes
            the bias part of the product, [q / sqrt(D), q.R_f, q.R_t] . [k, onehot_f, onehot_t], and "chunked" goes
            in pieces sized for the cache; the last two keep no (queries x keys) tensor. "auto" is `path_on` the
            input's device. All agree.

    `forward`: (B, P + tokens, dim) to (B, N, dim_out).
    """

    freq_index: Tensor
    time_index: Tensor

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        grid: Grid,
        stride_q: Grid = (1, 1),
        stride_kv: Grid = (1, 1),
        prefix_tokens: int = 0,
        norm_eps: float = 1e-6,
        path: str = "auto",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim = dim_out // num_heads
        self.prefix_tokens = prefix_tokens
        self.path = path
        self.grid = grid
        self.stride_q, self.stride_kv = stride_q, stride_kv
        self.q_grid, self.k_grid = pooled_grid(grid, stride_q), pooled_grid(grid, stride_kv)

        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

        def pool(stride: Grid) -> nn.Conv2d:
            # In MViTv2 even stride 1 convolves: the 3x3 kernel is never skipped.
            return nn.Conv2d(head_dim, head_dim, 3, stride, 1, groups=head_dim, bias=False)

        self.pool_q, self.pool_k, self.pool_v = pool(stride_q), pool(stride_kv), pool(stride_kv)
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(head_dim, eps=norm_eps) for _ in range(3))

        (F_, T), (f, t) = self.q_grid, self.k_grid
        self.rel_pos_freq = nn.Parameter(torch.empty(2 * max(F_, f) - 1, head_dim))
        self.rel_pos_time = nn.Parameter(torch.empty(2 * max(T, t) - 1, head_dim))
        nn.init.trunc_normal_(self.rel_pos_freq, std=0.02)
        nn.init.trunc_normal_(self.rel_pos_time, std=0.02)
        self.register_buffer("freq_index", relative_index(F_, f), persistent=False)
        self.register_buffer("time_index", relative_index(T, t), persistent=False)

    def path_on(self, device: torch.device) -> str:
        """The path taken on `device`: "auto" is "folded" on a GPU; on a CPU the fused kernel for at most CHUNKED_FROM
        scores a clip, then "chunked"."""
        if self.path != "auto":
            return self.path
        if device.type != "cpu":
            return "folded"
        (F_, T), (f, t) = self.q_grid, self.k_grid
        return "chunked" if self.num_heads * F_ * T * f * t > CHUNKED_FROM else "sdpa"

    def _pool(self, x: Tensor, pool: nn.Conv2d, norm: nn.LayerNorm) -> Tensor:
        """(B, P + tokens, H*D) to (B, P + pooled tokens, H, D)."""
        B, _, C = x.shape
        prefix, body = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        # Heads become channels, and the tokens' layout is channels-last as it is: no permuting copies.
        body = body.reshape(B, *self.grid, C).permute(0, 3, 1, 2)
        weight = pool.weight.repeat(self.num_heads, 1, 1, 1)
        body = F.conv2d(body, weight, None, pool.stride, pool.padding, groups=C)
        body = body.permute(0, 2, 3, 1).reshape(B, -1, C)
        if self.prefix_tokens:
            body = torch.cat((prefix, body), dim=1)
        return norm(body.unflatten(-1, (self.num_heads, self.head_dim)))

    def relative_terms(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled q.R per axis for q (B, H, F*T, D): (B, H, F, T, f) and (B, H, F, T, t)."""
        B, H, _, D = q.shape
        grid = q.reshape(B, H, *self.q_grid, D)
        freq_table, time_table = self.rel_pos_freq[self.freq_index], self.rel_pos_time[self.time_index]
        freq = torch.einsum("bhyxd,yfd->bhyxf", grid, freq_table)
        time = torch.einsum("bhyxd,xtd->bhyxt", grid, time_table)
        return freq, time

    def relative_bias(self, q: Tensor) -> Tensor:
        """The whole additive bias, (B, H, N, M); rows and columns of prefix tokens are zero."""
        P = self.prefix_tokens
        freq, time = self.relative_terms(q[:, :, P:])
        bias = (freq.unsqueeze(-1) + time.unsqueeze(-2)).flatten(4).flatten(2, 3)  # (B, H, F*T, f*t)
        return F.pad(bias, (P, 0, P, 0)) if P else bias

    def _folded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention with the bias as extra dimensions of the product; needs no (N, M) bias tensor."""
        P = self.prefix_tokens
        freq, time = self.relative_terms(q[:, :, P:])
        terms = torch.cat((freq, time), dim=-1).flatten(2, 3)  # (B, H, F*T, f + t)
        (f, t), B, H = self.k_grid, q.shape[0], q.shape[1]
        onehot_f = torch.eye(f, dtype=q.dtype, device=q.device).repeat_interleave(t, dim=0)
        onehot_t = torch.eye(t, dtype=q.dtype, device=q.device).repeat(f, 1)
        onehot = torch.cat((onehot_f, onehot_t), dim=-1)  # (f*t, f + t)
        if P:
            terms, onehot = F.pad(terms, (0, 0, P, 0)), F.pad(onehot, (0, 0, P, 0))
        q = torch.cat((q * self.head_dim**-0.5, terms), dim=-1)
        k = torch.cat((k, onehot.expand(B, H, -1, -1)), dim=-1)
        # Fused kernels want one head size for q, k and v.
        v = F.pad(v, (0, q.shape[-1] - v.shape[-1]))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., : self.head_dim]

    def _chunked(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, P + tokens, H*D) each to (B, N, H, D), the residual of the queries included."""
        q = self._pool(q, self.pool_q, self.norm_q)
        k = self._pool(k, self.pool_k, self.norm_k)
        v = self._pool(v, self.pool_v, self.norm_v)
        return chunked_attention(q, k, v, self.rel_pos_freq, self.rel_pos_time, self.freq_index, self.time_index)

    def forward(self, x: Tensor) -> Tensor:
        # Three products instead of one, so that each result lies contiguous for its convolution.
        (w_q, w_k, w_v), (b_q, b_k, b_v) = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = F.linear(x, w_q, b_q), F.linear(x, w_k, b_k), F.linear(x, w_v, b_v)
        path = self.path_on(x.device)
        if path == "chunked":
            # Pooled twice, attended once: what the backward pass lacks are the pooled q, k and v.
            return self.proj(recompute(self._chunked, q, k, v, again=ResultUnused).flatten(2))
        q = recompute(self._pool, q, self.pool_q, self.norm_q).transpose(1, 2)  # (B, H, N, D)
        k = recompute(self._pool, k, self.pool_k, self.norm_k).transpose(1, 2)  # (B, H, M, D)
        v = recompute(self._pool, v, self.pool_v, self.norm_v).transpose(1, 2)  # (B, H, M, D)
        if path == "folded":
            y = self._folded(q, k, v)
        elif path == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.relative_bias(q))
        else:
            scores = torch.matmul(q * self.head_dim**-0.5, k.transpose(-2, -1)) + self.relative_bias(q)
            y = torch.matmul(scores.softmax(dim=-1), v)
        y = y + q  # residual pooling; on prefix tokens too, as timm does (FAIR leaves them out)
        return self.proj(y.transpose(1, 2).flatten(2))
