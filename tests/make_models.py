"""Models for tests: every parameter random, so that no term can hide behind a zero or a one; and their inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import create_model


def make_model(name: str, seed: int = 0, **arguments: Any) -> Any:
    """A model with random norms, biases, tokens and positions too, in eval mode."""
    model: Any = create_model(name, **arguments)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if key.endswith(("_token", "pos_embed")):
                parameter.copy_(noise)
            elif "rel_pos" in key:
                parameter.copy_(noise * parameter.shape[1] ** -0.5)  # q.R of order 1: a wrong row shows
            elif parameter.ndim == 1:
                parameter.copy_(1 + 0.2 * noise if key.endswith("weight") else 0.1 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    return model.eval()


def make_input(batch: int = 2, size: tuple[int, int] = (32, 96), channels: int = 1) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


class SoftmaxShapes(TorchDispatchMode):
    """Collects the shape (batch, heads, queries, keys) of every softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._softmax.default:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def saved_sizes(call: Any, *known: Tensor) -> list[int]:
    """Elements of every tensor that autograd saves in call(), besides empty ones and those in memory of `known`."""
    excluded = {tensor.untyped_storage().data_ptr() for tensor in known}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()  # keeps what was saved alive, so that no address is used twice
    assert result.requires_grad
    return [size for address, size in sizes.items() if size and address not in excluded]
