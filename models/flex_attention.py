"""Pooled attention by torch's FlexAttention: its kernel adds the relative positions to a score as it computes it.

It needs neither a (queries x keys) bias nor wider heads: the kernel reads the products of q with the two small tables.
Shapes as in pooling_attention.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor


def relative_flex_attention(q: Tensor, k: Tensor, v: Tensor, freq: Tensor, time: Tensor) -> Tensor:
    """softmax(q.k / sqrt(D) + freq + time) v, (B, H, N, D).

    A GPU compiles the kernel at the first call of each shape. A CPU computes it uncompiled, with all scores in memory:
    that checks the arithmetic and saves nothing.

    Args:
        q: (B, H, N, D).
        k: (B, H, M, D).
        v: (B, H, M, D).
        freq: q.R along frequency, (B, H, N, f).
        time: q.R along time, (B, H, N, t); M = f * t.
    """
    times = time.shape[-1]

    def add_positions(score: Tensor, clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + freq[clip, head, query, key // times] + time[clip, head, query, key % times]

    kernel = _plain() if q.device.type == "cpu" or torch.compiler.is_compiling() else _compiled()
    return kernel(q, k, v, score_mod=add_positions, scale=q.shape[-1] ** -0.5)


def _plain() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention  # late: it imports sympy

    return cast(Any, flex_attention)


@cache
def _compiled() -> Callable[..., Tensor]:
    return cast(Any, torch.compile(_plain()))
