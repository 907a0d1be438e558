"""What defines a MAST, and the sizes of its blocks.

Seven switches lead from MAST back to AST, one component at a time: stem, pooled queries, pooled keys and values,
widening, relative positions, residual pooling, and the mean over tokens. All at AST's values, with AST's depth and
width, the model computes what `models/ast_model.py` computes, with the same names of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.layers import check_config
from models.pooling_attention import ATTENTION_PATHS, BlockPlan
from models.position_embedding import PREFIX_TOKENS
from models.weight_formats import Grid

POSITIONS = ("relative", "absolute")
READOUTS = ("mean", "tokens")


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
        patch_size: side of the square patches. AST: 16.
        patch_stride: step between patches. AST: 10.
        patch_padding: zeros around the spectrogram. AST: 0.
        widen: double width and heads with every stage. AST: False, `embed_dim` and `num_heads` in every block.
        pool_queries: pool the queries by a 3x3 convolution + LayerNorm in every block, with `pool_strides` where a
            stage begins. AST: False, no convolution, no LayerNorm, and every token is a query.
        pool_keys: pool keys and values likewise, by `kv_stride`. AST: False.
        positions: "relative" tables in every block, or AST's "absolute" embedding added to the tokens.
        residual_pooling: add the queries to the attention's result. AST: False.
        readout: "mean" over the tokens, or AST's "tokens": a class and a distillation token before the patches, whose
            mean goes through a LayerNorm to the classifier. They are neither pooled nor have relative positions.

    Raises:
        ValueError: sizes that cannot be built, or an unknown choice.
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
    patch_size: int = 7
    patch_stride: int = 4
    patch_padding: int = 3
    widen: bool = True
    pool_queries: bool = True
    pool_keys: bool = True
    positions: str = "relative"
    residual_pooling: bool = True
    readout: str = "mean"

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
        if min(self.patch_size, self.patch_stride) < 1 or not 0 <= self.patch_padding < self.patch_size:
            raise ValueError(
                f"patches of {self.patch_size} at stride {self.patch_stride} with padding {self.patch_padding} cannot "
                "be built: size and stride must be positive, the padding less than the size"
            )
        if min(self.input_size) + 2 * self.patch_padding < self.patch_size:
            raise ValueError(f"input_size {self.input_size} is smaller than a patch of {self.patch_size}")
        for name, known in (
            ("attention", ("auto", *ATTENTION_PATHS)),
            ("positions", POSITIONS),
            ("readout", READOUTS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")

    @property
    def grid(self) -> Grid:
        """Tokens along (frequency, time) after the patch embedding: 32 x 256 at 128 x 1024."""
        free = 2 * self.patch_padding - self.patch_size
        rows, columns = ((size + free) // self.patch_stride + 1 for size in self.input_size)
        return rows, columns

    @property
    def prefix_tokens(self) -> int:
        """Class and distillation token, where the readout has them."""
        return PREFIX_TOKENS if self.readout == "tokens" else 0

    @property
    def embedding_dim(self) -> int:
        """Width of the last stage."""
        return self.embed_dim * 2 ** (len(self.depths) - 1) if self.widen else self.embed_dim


def plan_blocks(config: MASTConfig) -> list[BlockPlan]:
    """Sizes of every block, in order."""
    plans: list[BlockPlan] = []
    dim, grid = config.embed_dim, config.grid
    stride_kv = config.kv_stride if config.pool_keys else (1, 1)
    for stage, depth in enumerate(config.depths):
        factor = 2**stage if config.widen else 1
        for position in range(depth):
            pools = config.pool_queries and stage and position == 0
            stride_q = config.pool_strides[stage - 1] if pools else (1, 1)
            stride_kv = (max(stride_kv[0] // stride_q[0], 1), max(stride_kv[1] // stride_q[1], 1))
            plan = BlockPlan(
                dim=dim,
                dim_out=config.embed_dim * factor,
                num_heads=config.num_heads * factor,
                grid=grid,
                stride_q=stride_q,
                stride_kv=stride_kv,
                prefix_tokens=config.prefix_tokens,
                pool_q=config.pool_queries,
                pool_kv=config.pool_keys,
                relative=config.positions == "relative",
                residual=config.residual_pooling,
            )
            plans.append(plan)
            dim, grid = plan.dim_out, plan.grid_out
    return plans
