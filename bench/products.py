"""The matrix products of a model and nothing else: how much of a time is left for everything around them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reproduce.efficiency.contenders import tensor_bytes
from reproduce.efficiency.contest import Contender

# Which two operands of an operator are multiplied.
OPERANDS = {
    torch.ops.aten.mm: (0, 1),
    torch.ops.aten.bmm: (0, 1),
    torch.ops.aten.addmm: (1, 2),
    torch.ops.aten.baddbmm: (1, 2),
}


@dataclass(frozen=True)
class Operand:
    """A matrix or a batch of them: how it lies in memory decides the speed of a product."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def extent(self) -> int:
        """Numbers of memory that it spans."""
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


Product = tuple[Operand, Operand]


class _Products(TorchDispatchMode):
    """Notes every matrix product that is computed under it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if places := OPERANDS.get(func.overloadpacket):
            first, second = (Operand(tuple(args[place].shape), args[place].stride()) for place in places)
            self.found.append((first, second))
        return func(*args, **(kwargs or {}))


def matrix_products(model: nn.Module, x: Tensor, mode: str) -> list[Product]:
    """Those of a forward pass on x (batch, 1, mels, frames), in "training" of a backward pass too, in order.

    Attention's are taken from the path that writes them out. Convolutions are none.
    """
    twin: Any = copy.deepcopy(model).to("meta")
    twin.set_attention("reference").train(mode == "training")
    with torch.set_grad_enabled(mode == "training"), _Products() as products:
        logits = twin(x.to("meta"))
        if mode == "training":
            logits.sum().backward()
    return products.found


def macs(products: list[Product]) -> int:
    """Multiply-accumulates of all of them."""
    return sum(prod(first.shape) * second.shape[-1] for first, second in products)


def products_contender(mode: str, name: str, model: nn.Module, x: Tensor) -> Contender:
    """`matrix_products` of `model`, a BLAS call each, one after another.

    A yardstick: their operands all lie in the same memory, where a model's own come from further away; its scores are
    written out, which some paths of attention spare themselves.
    """
    products = matrix_products(model, x, mode)
    extents = (max(pair[side].extent for pair in products) for side in (0, 1))
    first, second = (torch.randn(extent, device=x.device) for extent in extents)
    shapes = [(*a.shape[:-1], b.shape[-1]) for a, b in products]
    result = torch.empty(max(map(prod, shapes)), device=x.device)
    calls = [
        (first.as_strided(a.shape, a.stride), second.as_strided(b.shape, b.stride), result[: prod(shape)].view(shape))
        for (a, b), shape in zip(products, shapes, strict=True)
    ]

    def call() -> None:
        with torch.inference_mode():
            for a, b, out in calls:
                torch.matmul(a, b, out=out)

    buffers = (first, second, result)
    return Contender(f"{name}, its products alone", call, len(x), lambda: tensor_bytes(buffers))
