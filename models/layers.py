"""Parts that AST and MAST share: the MLP, drop path and the classifier head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

RECOMPUTED_FROM = 2**19  # numbers: 2 MiB in float32


def is_recomputed(numbers: int) -> bool:
    """Whether `recompute` redoes what follows from a tensor of so many numbers: small ones cost less to keep."""
    return numbers >= RECOMPUTED_FROM


def recompute(
    function: Callable[..., Tensor], *inputs: Any, again: Callable[[], AbstractContextManager[None]] | None = None
) -> Tensor:
    """function(*inputs), of which only the inputs are kept for the backward pass, to redo what is cheap.

    Nothing is redone after the last tensor that the backward pass needs: not the matrix product that ends `function`.
    `again` makes the context in which it is redone, once for every backward pass over the graph.
    """
    # A compiler decides by itself what to keep.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or not is_recomputed(inputs[0].numel()):
        return function(*inputs)
    contexts = noop_context_fn if again is None else lambda: (nullcontext(), again())
    # No draw of random numbers to repeat.
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result


class DropPath(nn.Module):
    """Drop a residual branch per sample with probability `rate` in training (stochastic depth, Huang 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class Mlp(nn.Module):
    """Linear, GELU, Linear on (batch, tokens, dim), after a LayerNorm that the block owns."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        hidden = recompute(lambda x: self.fc1(norm(x)), x)
        return recompute(lambda hidden: self.fc2(self.act(hidden)), hidden)


class ClassifierHead(nn.Module):
    """One linear classifier, or one per named head on the same embedding.

    Args:
        dim: embedding size.
        num_classes: int, or {head name: classes}.

    Maps (batch, dim) to (batch, classes), or to {head name: (batch, classes)}.
    """

    def __init__(self, dim: int, num_classes: int | Mapping[str, int]) -> None:
        super().__init__()
        self.fc: nn.Module
        if isinstance(num_classes, int):
            self.fc = nn.Linear(dim, num_classes)
        else:
            self.fc = nn.ModuleDict({head: nn.Linear(dim, classes) for head, classes in num_classes.items()})

    def forward(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        if isinstance(self.fc, nn.ModuleDict):
            return {head: fc(embedding) for head, fc in self.fc.items()}
        return self.fc(embedding)


def init_linear_weights(module: nn.Module) -> None:
    """ViT's initialisation: linear weights from a truncated normal of deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_heads(num_classes: int | Mapping[str, int]) -> None:
    sizes = [num_classes] if isinstance(num_classes, int) else list(num_classes.values())
    if not sizes or any(size < 1 for size in sizes):
        raise ValueError(f"num_classes must be a positive int or a non-empty dict of them, got {num_classes!r}")


def check_input(x: Tensor, in_chans: int, input_size: tuple[int, int]) -> None:
    """Raise ValueError unless x is (batch, in_chans, mels, frames) of the size the model was built for."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (in_chans, *input_size):
        raise ValueError(
            f"expected (batch, {in_chans}, {input_size[0]} mels, {input_size[1]} frames), got {tuple(x.shape)}: "
            "pad or crop the spectrogram, or build the model with another input_size"
        )


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Linear from 0 at the first block to `rate` at the last, as in DeiT and MViTv2. ValueError outside [0, 1)."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
    return [float(r) for r in torch.linspace(0, rate, depth, device="cpu")]
