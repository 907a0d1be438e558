"""What a model costs: parameters and multiply-accumulates (MACs), per block and per kind. Nothing is printed.

One MAC is one multiply and one add. Two countings, because the paper's misses the attention products:

- **module-only**, the paper's: what ptflops 0.6.9 (May 2022) sees through module hooks. Every Linear and Conv
  weight is one MAC per output position (a convolution's bias one more, a Linear's bias one per call), a LayerNorm
  two per element, a max-pooling one per input element. Products of two activations have no module and are missing.
  ptflops 0.7 counts a Linear's bias at every position: `macs_ptflops_0_7`. (It would count `nn.GELU` too, one per
  element, but not timm's subclass of it, so published figures for timm's blocks lack it, and so does this rule.)
- **full**: module-only (0.6.9) plus the products of two activations: Q.K^T, attention.V, and MAST's Q.R.

Both are closed forms over the model's own block sizes, batch 1. `count_with_libraries` runs torch's
FlopCounterMode, fvcore and ptflops beside them, on the unfused path: fused kernels hide their products from all three
(USER_NEEDS 3: pytorch#195460, ptflops#142).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from models.ast_model import AST
from models.base import SpectrogramTransformer
from models.layers import Mlp
from models.mast_model import MAST

MODULE_KINDS = ("conv", "linear", "norm", "pool")
PTFLOPS_0_7_KINDS = ("linear bias",)
PRODUCT_KINDS = ("attention", "relative position")
KINDS = (*MODULE_KINDS, *PRODUCT_KINDS, *PTFLOPS_0_7_KINDS)
DEIT_HEAD_CLASSES, DEIT_UNUSED_HEADS = 1000, 2


@dataclass(frozen=True)
class CostItem:
    """MACs of one kind in one block ("patch embedding", "block 0", ..., "head")."""

    block: str
    kind: str
    macs: int


@dataclass(frozen=True)
class BlockShape:
    """Tokens that leave a block, for Table 1 and the architecture drawing."""

    block: str
    tokens: int
    grid: tuple[int, int]
    width: int
    prefix_tokens: int


@dataclass(frozen=True)
class Complexity:
    """Closed-form cost of one forward pass of one clip."""

    parameters: int
    parameters_paper: int
    items: tuple[CostItem, ...]
    shapes: tuple[BlockShape, ...]

    @property
    def macs_module_only(self) -> int:
        return sum(item.macs for item in self.items if item.kind in MODULE_KINDS)

    @property
    def macs_ptflops_0_7(self) -> int:
        return sum(item.macs for item in self.items if item.kind in MODULE_KINDS + PTFLOPS_0_7_KINDS)

    @property
    def macs_full(self) -> int:
        return sum(item.macs for item in self.items if item.kind in MODULE_KINDS + PRODUCT_KINDS)

    def by_kind(self) -> dict[str, int]:
        return {kind: sum(item.macs for item in self.items if item.kind == kind) for kind in KINDS}

    def by_block(self) -> dict[str, int]:
        """Full MACs per block, in order."""
        totals: dict[str, int] = {}
        for item in self.items:
            if item.kind in PTFLOPS_0_7_KINDS:
                continue
            totals[item.block] = totals.get(item.block, 0) + item.macs
        return totals


def count_parameters(model: nn.Module) -> int:
    """Trainable and frozen parameters alike."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_parameters_paper(model: SpectrogramTransformer) -> int:
    """The paper's convention. AST's own code keeps DeiT's two 1000-way heads allocated and unused, and counts them."""
    extra = 0
    if isinstance(model, AST):
        extra = DEIT_UNUSED_HEADS * (model.config.embed_dim + 1) * DEIT_HEAD_CLASSES
    return count_parameters(model) + extra


def _linear_items(block: str, layer: nn.Linear, positions: int) -> Iterator[CostItem]:
    # ptflops 0.6.9 adds a Linear's bias once per call; 0.7 once per position.
    bias = layer.out_features if layer.bias is not None else 0
    yield CostItem(block, "linear", positions * layer.in_features * layer.out_features + bias)
    yield CostItem(block, "linear bias", (positions - 1) * bias)


def _conv(layer: nn.Conv2d, positions: int) -> int:
    per_position = prod(layer.kernel_size) * layer.in_channels * layer.out_channels // layer.groups
    return positions * (per_position + (layer.out_channels if layer.bias is not None else 0))


def _norm(elements: int) -> int:
    return 2 * elements


def _mlp_items(block: str, mlp: Mlp, tokens: int) -> Iterator[CostItem]:
    yield from _linear_items(block, mlp.fc1, tokens)
    yield from _linear_items(block, mlp.fc2, tokens)


def _head_items(model: SpectrogramTransformer) -> Iterator[CostItem]:
    fc: Any = model.head.fc
    layers: Any = fc.values() if isinstance(fc, nn.ModuleDict) else [fc]
    for layer in layers:
        yield from _linear_items("head", layer, 1)


def _ast_items(model: AST) -> Iterator[CostItem]:
    patches, dim = prod(model.config.grid), model.config.embed_dim
    tokens = patches + 2
    yield CostItem("patch embedding", "conv", _conv(model.patch_embed.proj, patches))
    for number, block in enumerate(model.blocks):
        name = f"block {number}"
        yield CostItem(name, "norm", 2 * _norm(tokens * dim))
        yield from _linear_items(name, block.attn.qkv, tokens)
        yield from _linear_items(name, block.attn.proj, tokens)
        yield CostItem(name, "attention", 2 * tokens * tokens * dim)
        yield from _mlp_items(name, block.mlp, tokens)
    yield CostItem("head", "norm", _norm(tokens * dim) + _norm(dim))
    yield from _head_items(model)


def _mast_items(model: MAST) -> Iterator[CostItem]:
    prefix = int(model.config.cls_token)
    yield CostItem("patch embedding", "conv", _conv(model.patch_embed.proj, prod(model.config.grid)))
    for number, block in enumerate(model.blocks):
        name, attn, plan = f"block {number}", block.attn, block.plan
        tokens = prod(plan.grid) + prefix
        queries, keys = prod(attn.q_grid) + prefix, prod(attn.k_grid) + prefix
        pooled = queries + 2 * keys  # positions of Q, K and V after pooling, each `dim_out` wide over all heads
        yield CostItem(name, "norm", _norm(tokens * plan.dim + (pooled + queries) * plan.dim_out))
        yield from _linear_items(name, attn.qkv, tokens)
        yield from _linear_items(name, attn.proj, queries)
        positions = prod(attn.q_grid) + 2 * prod(attn.k_grid)
        yield CostItem(name, "conv", plan.num_heads * _conv(attn.pool_q, positions))
        yield CostItem(name, "attention", 2 * queries * keys * plan.dim_out)
        yield CostItem(name, "relative position", prod(attn.q_grid) * sum(attn.k_grid) * plan.dim_out)
        if block.proj is not None:
            yield from _linear_items(name, block.proj, tokens)
        if block.pool_skip is not None:
            yield CostItem(name, "pool", prod(plan.grid) * plan.dim_out)
        yield from _mlp_items(name, block.mlp, queries)
    yield CostItem("head", "norm", _norm((prod(plan.grid_out) + prefix) * model.embedding_dim))
    yield from _head_items(model)


def _ast_shapes(model: AST) -> Iterator[BlockShape]:
    grid, dim = model.config.grid, model.config.embed_dim
    for name in ("patch embedding", *(f"block {n}" for n in range(model.config.depth))):
        yield BlockShape(name, prod(grid), grid, dim, prefix_tokens=0 if name == "patch embedding" else 2)


def _mast_shapes(model: MAST) -> Iterator[BlockShape]:
    grid, prefix = model.config.grid, int(model.config.cls_token)
    yield BlockShape("patch embedding", prod(grid), grid, model.config.embed_dim, 0)
    for number, block in enumerate(model.blocks):
        yield BlockShape(f"block {number}", prod(block.plan.grid_out), block.plan.grid_out, block.plan.dim_out, prefix)


def measure_complexity(model: SpectrogramTransformer) -> Complexity:
    """Closed-form cost of `model` for one clip of its own input size. Works on the meta device too."""
    if isinstance(model, AST):
        items, shapes = tuple(_ast_items(model)), tuple(_ast_shapes(model))
    elif isinstance(model, MAST):
        items, shapes = tuple(_mast_items(model)), tuple(_mast_shapes(model))
    else:
        raise TypeError(f"no closed form for a {type(model).__name__}: it must be an AST or a MAST")
    return Complexity(count_parameters(model), count_parameters_paper(model), items, shapes)


def _flop_counter(model: nn.Module, x: torch.Tensor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() / 2


def _fvcore(model: nn.Module, x: torch.Tensor) -> float:
    from fvcore.nn import FlopCountAnalysis

    return float(FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def _ptflops(backend: str) -> Callable[[nn.Module, torch.Tensor], float]:
    def count(model: nn.Module, x: torch.Tensor) -> float:
        from ptflops import get_model_complexity_info

        macs, _ = get_model_complexity_info(
            model,
            tuple(x.shape[1:]),
            input_constructor=lambda _: {"x": x},
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            backend=backend,
        )
        if macs is None:
            raise RuntimeError(f"ptflops ({backend} backend) could not count this model")
        return float(macs)

    return count


LIBRARY_COUNTERS: dict[str, Callable[[nn.Module, torch.Tensor], float]] = {
    "torch FlopCounterMode": _flop_counter,
    "fvcore": _fvcore,
    "ptflops (aten)": _ptflops("aten"),
    "ptflops (pytorch)": _ptflops("pytorch"),
}


def count_with_libraries(model: SpectrogramTransformer, attention: str = "reference") -> dict[str, float]:
    """MACs of one clip by each library's own rule, with attention computed by `attention`.

    On the "reference" path all but "ptflops (pytorch)" see every product. The model must hold real weights on a
    real device, be in float32, neither compiled nor frozen; it is left on the path it came with.
    """
    parameter = next(model.parameters())
    x = torch.zeros(1, model.config.in_chans, *model.config.input_size, device=parameter.device)
    before, training = [block.attn.path for block in model.blocks], model.training
    counts = {}
    try:
        model.set_attention(attention).eval()
        for name, counter in LIBRARY_COUNTERS.items():
            # fvcore and ptflops talk through print and logging; a counter should only return a number.
            with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()), _quiet("fvcore.nn.jit_analysis"):
                counts[name] = counter(model, x)
    finally:
        for block, path in zip(model.blocks, before, strict=True):
            block.attn.path = path
        model.train(training)
    return counts


@contextlib.contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # fvcore uses torch.jit
            yield
    finally:
        logger.setLevel(level)
