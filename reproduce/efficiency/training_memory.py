"""Peak memory of a training step, estimated from the block shapes of a model. No step is run.

What autograd keeps of every block between the forward and the backward pass is written down tensor by tensor;
`tests/test_planning.py` holds it against what real steps of small models keep. Working space is not itemised: the
estimate takes the largest block once more for it, and leaves allocator slack and the CUDA context out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from models.ast_model import AST
from models.base import SpectrogramTransformer
from models.complexity import count_parameters
from models.layers import is_recomputed
from models.mast_model import MAST
from models.pooling_attention import PoolingAttention

STATE_BYTES = 16  # a parameter: float32 weight, gradient and Adam's two moments
CAST_BYTES = 2  # a parameter: the bfloat16 copy of the weight that autocast keeps during a step
FULL, HALF, INDEX = 4, 2, 8  # bytes of float32, bfloat16 and a max-pooling index


@dataclass(frozen=True)
class Kept:
    """Elements of one clip that autograd keeps for one block.

    Args:
        block: its name. inputs: elements that enter it (what activation checkpointing keeps instead of the rest).
        wide: inputs of LayerNorms, float32 under autocast too. narrow: everything else, bfloat16 under autocast.
        indices: places of max-pooling.
    """

    block: str
    inputs: int
    wide: int
    narrow: int
    indices: int = 0

    def bytes(self, mixed: bool) -> int:
        return self.wide * FULL + self.narrow * (HALF if mixed else FULL) + self.indices * INDEX


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one model in a training step on one device.

    Args:
        state: weights, gradients and optimizer. kept: activations between forward and backward pass. working: those of
            the largest block once more, for what its passes need meanwhile.
    """

    state: int
    kept: int
    working: int

    @property
    def peak(self) -> int:
        return self.state + self.kept + self.working


def training_memory(
    model: SpectrogramTransformer, batch: int, device: str = "cuda", mixed: bool = True, checkpointing: bool = False
) -> TrainingMemory:
    """Estimate for one device; works on the meta device too.

    Args:
        batch: clips on the device at a time.
        device: whose attention paths are taken.
        mixed: autocast to bfloat16; otherwise float32 throughout.
        checkpointing: every block is recomputed in the backward pass.
    """
    blocks = kept_by_blocks(model, batch, device)
    sizes = [block.bytes(mixed) for block in blocks]
    parameters = count_parameters(model)
    return TrainingMemory(
        state=parameters * (STATE_BYTES + (CAST_BYTES if mixed else 0)),
        kept=batch * (sum(block.inputs for block in blocks) * FULL if checkpointing else sum(sizes)),
        working=batch * max(sizes),
    )


def kept_by_blocks(model: SpectrogramTransformer, batch: int = 1, device: str = "cuda") -> list[Kept]:
    """Of one clip of `batch`: one entry a block, in order, and one for the head. TypeError for another model."""
    if isinstance(model, AST):
        return list(_ast_kept(model, batch))
    if isinstance(model, MAST):
        return list(_mast_kept(model, batch, torch.device(device)))
    raise TypeError(f"no memory estimate for a {type(model).__name__}: it must be an AST or a MAST")


def _mlp(tokens: int, dim: int, hidden: int, batch: int) -> int:
    """fc1's output; and LayerNorm's and GELU's where they are not redone."""
    kept = tokens * hidden
    if not is_recomputed(batch * tokens * dim):
        kept += tokens * dim
    if not is_recomputed(batch * tokens * hidden):
        kept += tokens * hidden
    return kept


def _ast_kept(model: AST, batch: int) -> Iterator[Kept]:
    tokens, dim = prod(model.config.grid) + 2, model.config.embed_dim
    elements = tokens * dim
    for number, block in enumerate(model.blocks):
        attention = 5 * elements  # the normed input, q, k and v, and what they give
        if block.attn.path == "reference":
            attention += block.attn.num_heads * tokens**2  # the probabilities
        mlp = _mlp(tokens, dim, block.mlp.fc1.out_features, batch)
        yield Kept(f"block {number}", elements, wide=2 * elements, narrow=attention + mlp)
    yield Kept("head", elements, wide=elements, narrow=prod(model.config.input_size) * model.config.in_chans)


def _mast_kept(model: MAST, batch: int, device: torch.device) -> Iterator[Kept]:
    prefix = int(model.config.cls_token)
    for number, block in enumerate(model.blocks):
        attn, plan = block.attn, block.plan
        tokens = prod(plan.grid) + prefix
        queries, keys = prod(attn.q_grid) + prefix, prod(attn.k_grid) + prefix
        given, made = tokens * plan.dim, queries * plan.dim_out
        path, redone = attn.path_on(device), is_recomputed(batch * tokens * plan.dim_out)
        # What pooling gives the LayerNorms of q, k and v, where it is not redone.
        pooled = 0 if redone else made + 2 * keys * plan.dim_out
        # The normed input; q, k and v before pooling; the projection's input.
        attention = given + 3 * tokens * plan.dim_out + made
        if not (redone and path == "chunked"):  # which is redone with the pooling
            attention += _product(attn, path, prefix)
        skip = tokens * plan.dim_out if block.pool_skip is not None else 0
        yield Kept(
            f"block {number}",
            given,
            wide=given + pooled + made,
            narrow=attention + skip + _mlp(queries, plan.dim_out, block.mlp.fc1.out_features, batch),
            indices=made if block.pool_skip is not None else 0,
        )
    elements = (prod(plan.grid_out) + prefix) * model.embedding_dim
    yield Kept("head", elements, wide=elements, narrow=prod(model.config.input_size) * model.config.in_chans)


def _product(attn: PoolingAttention, path: str, prefix: int) -> int:
    """What the attention product keeps of q, k and v by one path, and of the tables' products with q."""
    queries, keys = prod(attn.q_grid) + prefix, prod(attn.k_grid) + prefix
    if path == "chunked":  # q, k and v alone
        return attn.num_heads * (queries + 2 * keys) * attn.head_dim
    copies = 2 * attn.num_heads * queries * attn.head_dim  # of q, which meet both tables
    if path == "folded":  # q, k, v and the result, padded to one head size; they carry the relative positions
        return copies + attn.num_heads * 2 * (queries + keys) * (attn.head_dim + sum(attn.k_grid))
    # q, k, v, the result, and a (queries x keys) bias or probabilities a head
    return copies + attn.num_heads * (2 * (queries + keys) * attn.head_dim + queries * keys)
