"""Depthwise convolution of tokens on their grid, in both layouts of memory. Results agree; the bench compares times."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.weight_formats import Grid

CHANNELS_LAST, CHANNELS_FIRST = "channels_last", "channels_first"
POOL_LAYOUTS = (CHANNELS_LAST, CHANNELS_FIRST)


def pool_tokens(x: Tensor, grid: Grid, pool: nn.Conv2d, num_heads: int, layout: str) -> Tensor:
    """Convolve every head's channels alike: (B, tokens of `grid`, H*D) to (B, pooled tokens, H*D).

    Args:
        x: tokens, frequency-major.
        grid: (frequency, time).
        pool: depthwise, of D channels.
        num_heads: H.
        layout: "channels_last" takes heads as channels and the tokens as they lie in memory, without a copy;
            "channels_first" takes heads as clips and copies the tokens to (B*H, D, frequency, time) and back.
    """
    B, _, C = x.shape
    if layout == CHANNELS_LAST:
        last = x.reshape(B, *grid, C).permute(0, 3, 1, 2)
        weight = pool.weight.repeat(num_heads, 1, 1, 1)
        last = F.conv2d(last, weight, None, pool.stride, pool.padding, groups=C)
        return last.permute(0, 2, 3, 1).flatten(1, 2)
    first = x.reshape(B, *grid, num_heads, -1).permute(0, 3, 4, 1, 2).contiguous().flatten(0, 1)  # (B*H, D, F, T)
    first = F.conv2d(first, pool.weight, None, pool.stride, pool.padding, groups=C // num_heads)
    return first.unflatten(0, (B, num_heads)).permute(0, 3, 4, 1, 2).flatten(3).flatten(1, 2)
