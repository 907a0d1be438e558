"""Peak memory of a training step, estimated from the block shapes of a model. No step is run.

What autograd keeps of every block between the forward and the backward pass is written down tensor by tensor;
`tests/test_planning.py` holds it against what real steps of small models keep. Working space is not itemised: the
estimate takes the largest block once more for it, and leaves allocator slack and the CUDA context out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from models.ast_model import AST
from models.base import SpectrogramTransformer
from models.complexity import count_parameters
from models.mast_model import MAST

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
    """Of one model; batch-independent parts once, the others a clip.

    Args:
        state_bytes: weights, gradients and optimizer. clip_bytes: kept activations. largest_block_bytes: of them, those
            of the largest block. checkpointed_clip_bytes: kept where every block is recomputed in the backward pass.
    """

    state_bytes: int
    clip_bytes: int
    largest_block_bytes: int
    checkpointed_clip_bytes: int

    def peak_bytes(self, batch: int, checkpointing: bool = False) -> int:
        """`batch` clips on one device."""
        kept = self.checkpointed_clip_bytes if checkpointing else self.clip_bytes
        return self.state_bytes + batch * (kept + self.largest_block_bytes)


def training_memory(model: SpectrogramTransformer, mixed: bool = True) -> TrainingMemory:
    """Estimate for one device; works on the meta device too.

    Args:
        mixed: autocast to bfloat16; otherwise float32 throughout.
    """
    kept = kept_by_blocks(model)
    sizes = [block.bytes(mixed) for block in kept]
    parameters = count_parameters(model)
    return TrainingMemory(
        state_bytes=parameters * (STATE_BYTES + (CAST_BYTES if mixed else 0)),
        clip_bytes=sum(sizes),
        largest_block_bytes=max(sizes),
        checkpointed_clip_bytes=sum(block.inputs for block in kept) * FULL,
    )


def kept_by_blocks(model: SpectrogramTransformer) -> list[Kept]:
    """One entry a block, in order, and one for the head. TypeError for another model."""
    if isinstance(model, AST):
        return list(_ast_kept(model))
    if isinstance(model, MAST):
        return list(_mast_kept(model))
    raise TypeError(f"no memory estimate for a {type(model).__name__}: it must be an AST or a MAST")


def _mlp(tokens: int, dim: int, hidden: int) -> int:
    """LayerNorm's output, fc1's output and GELU's."""
    return tokens * (dim + 2 * hidden)


def _ast_kept(model: AST) -> Iterator[Kept]:
    tokens, dim = prod(model.config.grid) + 2, model.config.embed_dim
    elements = tokens * dim
    for number, block in enumerate(model.blocks):
        attention = 5 * elements  # the normed input, q, k and v, and what they give
        if block.attn.path == "reference":
            attention += block.attn.num_heads * tokens**2  # the probabilities
        mlp = _mlp(tokens, dim, block.mlp.fc1.out_features)
        yield Kept(f"block {number}", elements, wide=2 * elements, narrow=attention + mlp)
    yield Kept("head", elements, wide=elements, narrow=prod(model.config.input_size) * model.config.in_chans)


def _mast_kept(model: MAST) -> Iterator[Kept]:
    prefix = int(model.config.cls_token)
    for number, block in enumerate(model.blocks):
        attn, plan = block.attn, block.plan
        tokens = prod(plan.grid) + prefix
        queries, keys = prod(attn.q_grid) + prefix, prod(attn.k_grid) + prefix
        given, made = tokens * plan.dim, queries * plan.dim_out
        pooled = made + 2 * keys * plan.dim_out  # q, k and v after pooling
        # The normed input; q, k and v before pooling; the copies of q that meet both tables; the projection's input.
        attention = given + 3 * tokens * plan.dim_out + 2 * made + made + _product(model, number)
        skip = tokens * plan.dim_out if block.pool_skip is not None else 0
        yield Kept(
            f"block {number}",
            given,
            wide=given + pooled + made,
            narrow=attention + skip + _mlp(queries, plan.dim_out, block.mlp.fc1.out_features),
            indices=made if block.pool_skip is not None else 0,
        )
    elements = (prod(plan.grid_out) + prefix) * model.embedding_dim
    yield Kept("head", elements, wide=elements, narrow=prod(model.config.input_size) * model.config.in_chans)


def _product(model: MAST, number: int) -> int:
    """What the attention product keeps: q, k, v, its result, and a (queries x keys) bias or probabilities a head.

    "folded" has no such tensor; q, k and v carry the relative positions instead, all padded to one head size.
    """
    attn, prefix = model.blocks[number].attn, int(model.config.cls_token)
    queries, keys = prod(attn.q_grid) + prefix, prod(attn.k_grid) + prefix
    folded = attn.path == "folded"
    size = attn.head_dim + (sum(attn.k_grid) if folded else 0)
    return attn.num_heads * (2 * (queries + keys) * size + (0 if folded else queries * keys))
