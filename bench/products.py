"""The matrix products of a model and nothing else: a lower bound of its time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.candidates import ModelCase
from models.head_products import add_products
from models.linear import LEAST_MACS, is_convolved, product
from reproduce.efficiency.candidates import DTYPES, tensor_bytes
from reproduce.efficiency.interleaved import Candidate

# Positions of the two operands that an operator multiplies.
OPERANDS = {
    torch.ops.aten.mm: (0, 1),
    torch.ops.aten.bmm: (0, 1),
    torch.ops.aten.addmm: (1, 2),
    torch.ops.aten.baddbmm: (1, 2),
}
MOST_HEADS = 16  # of a model: more products at once are those of relative positions, which torch computes


@dataclass(frozen=True)
class Operand:
    """Layout of a matrix, or of a batch of them, in memory: it decides the speed of a product.

    Args:
        shape: of the tensor.
        stride: in elements.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def extent(self) -> int:
        """Elements of memory from its first to its last element."""
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


Product = tuple[Operand, Operand]


class _Products(TorchDispatchMode):
    """Record every matrix product that is computed while the mode is active."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if positions := OPERANDS.get(func.overloadpacket):
            first, second = (Operand(tuple(args[i].shape), args[i].stride()) for i in positions)
            self.products.append((first, second))
        return func(*args, **(kwargs or {}))


def matrix_products(model: nn.Module, x: Tensor, mode: str) -> list[Product]:
    """List the matrix products of a forward pass, in mode "training" of the backward pass too, in order.

    Attention takes the "reference" path, which writes its products out. Convolutions are not counted.

    Args:
        model: AST or MAST; it is copied, not changed.
        x: (batch, 1, mels, frames).
        mode: "inference" or "training".
    """
    twin: Any = copy.deepcopy(model).to("meta")
    twin.set_attention("reference").train(mode == "training")
    with torch.set_grad_enabled(mode == "training"), _Products() as recorder:
        logits = twin(x.to("meta"))
        if mode == "training":
            logits.sum().backward()
    return recorder.products


def macs(products: list[Product]) -> int:
    """Add up the multiply-accumulates."""
    return sum(prod(first.shape) * second.shape[-1] for first, second in products)


def _product_call(a: Tensor, b: Tensor, out: Tensor) -> Callable[[], object]:
    """Make a function that multiplies as a model does."""
    if a.ndim == 2 and b.mT.is_contiguous():  # with weights, as a forward pass computes it
        return lambda: product(a, b.mT)
    is_large = a.numel() * b.shape[-1] >= LEAST_MACS
    if is_large and a.ndim == 3 and len(a) <= MOST_HEADS and a.stride(-1) == 1 and is_convolved(a.device, a.dtype):
        heads, rows, inputs = a.shape
        x = a.as_strided((rows, heads, inputs), (heads * inputs, inputs, 1))
        return lambda: add_products(out.view(rows, heads, -1), x, b.permute(2, 0, 1), beta=0.0)
    return lambda: torch.matmul(a, b, out=out)


def products_candidate(case: ModelCase, model: nn.Module) -> Candidate:
    """Make a candidate of the `matrix_products` of MAST alone, one after another, in the case's precision.

    It is a lower bound: all operands share one piece of memory, where those of a model come from further away. It
    writes attention scores out, which some attention paths avoid.
    """
    products = matrix_products(model, case.spectrograms(), case.mode)
    like: dict[str, Any] = {"device": case.device, "dtype": DTYPES[case.precision]}
    extents = (max(pair[side].extent for pair in products) for side in (0, 1))
    first, second = (torch.randn(extent, **like) for extent in extents)
    shapes = [(*a.shape[:-1], b.shape[-1]) for a, b in products]
    result = torch.empty(max(map(prod, shapes)), **like)
    calls = [
        _product_call(
            first.as_strided(a.shape, a.stride), second.as_strided(b.shape, b.stride), result[: prod(shape)].view(shape)
        )
        for (a, b), shape in zip(products, shapes, strict=True)
    ]

    def call() -> None:
        with torch.inference_mode():
            for product_call in calls:
                product_call()

    buffers = (first, second, result)
    name = f"mast_{case.preset}, its products alone"
    return Candidate(name, call, case.batch, lambda: tensor_bytes(buffers))
