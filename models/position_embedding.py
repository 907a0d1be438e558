"""AST's absolute position embedding, and how that of another grid of patches is resized. No model here."""

from __future__ import annotations

import math
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from models.weight_files import CheckpointError
from models.weight_formats import Grid, WeightSource

PREFIX_TOKENS = 2  # class and distillation token
AUDIOSET_GRID = (12, 101)  # patches of the published AST weights, 128 mels x 1024 frames


def position_grid(pos_embed: Tensor, source: WeightSource, prefix_tokens: int = PREFIX_TOKENS) -> Grid:
    """The (frequency, time) grid of a position embedding (1, prefix_tokens + patches, C).

    The tensor itself does not give it. DeiT's is square, published AST's 12 x 101. Other counts have several layouts:
    192 patches are 12 x 16 at 128 mels and 8 x 24 at 96.

    Raises:
        CheckpointError: wrong shape, or a grid that is unknown or does not fit.
    """
    shape = tuple(pos_embed.shape)
    if pos_embed.ndim != 3 or shape[0] != 1 or shape[1] <= prefix_tokens:
        raise CheckpointError(
            f"{source.name}: 'pos_embed' is {shape}, not (1, {prefix_tokens} + patches, width): get the file again"
        )
    patches = shape[1] - prefix_tokens
    if source.grid is not None:
        if min(source.grid) < 1 or prod(source.grid) != patches:
            raise CheckpointError(
                f"{source.name}: 'pos_embed' has {patches} patches, unlike source_grid {source.grid}: "
                "pass the grid that the weights were trained with"
            )
        return source.grid
    side = math.isqrt(patches)
    if source.format == "deit" and side * side == patches:
        return side, side
    if source.format != "deit" and patches == prod(AUDIOSET_GRID):
        return AUDIOSET_GRID
    raise CheckpointError(
        f"{source.name}: 'pos_embed' has {patches} patches of unknown layout: pass source_grid=(rows, columns), "
        "or put transformers' config.json of the model beside the file"
    )


def resize_position_embedding(
    pos_embed: Tensor, source_grid: Grid, grid: Grid, prefix_tokens: int = PREFIX_TOKENS
) -> Tensor:
    """AST's rule: per axis, time first, cut from the centre where the target is not longer, else interpolate linearly.

    The prefix tokens are kept. After `src/models/ast_models.py` of YuanGongND/ast.

    Args:
        pos_embed: (1, prefix_tokens + rows * columns of source_grid, C), frequency-major.
        source_grid: patches along (frequency, time) of the source.
        grid: patches along (frequency, time) of the result.
        prefix_tokens: class and distillation token.

    Returns:
        (1, prefix_tokens + rows * columns of grid, C).
    """
    prefix, patches = pos_embed[:, :prefix_tokens], pos_embed[:, prefix_tokens:]
    C = patches.shape[-1]
    patches = patches.transpose(1, 2).reshape(1, C, *source_grid)
    for axis in (3, 2):
        size, target = patches.shape[axis], grid[axis - 2]
        if target <= size:
            patches = patches.narrow(axis, size // 2 - target // 2, target)
        else:
            shape = (patches.shape[2], target) if axis == 3 else (target, patches.shape[3])
            patches = F.interpolate(patches, size=shape, mode="bilinear", align_corners=False)
    return torch.cat((prefix, patches.reshape(1, C, -1).transpose(1, 2)), dim=1)
