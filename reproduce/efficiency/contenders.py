"""Models as contenders of a contest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.efficiency.contest import Contender

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


# --- models --------------------------------------------------------------------------------------------------


def inference_contender(name: str, model: nn.Module, x: Tensor, precision: str = "float32") -> Contender:
    """The forward pass of `model` on the batch `x`, in evaluation mode, without gradients."""
    model.eval()

    def call() -> None:
        with torch.inference_mode(), autocast(x.device, precision):
            model(x)

    return Contender(name, call, len(x), lambda: tensor_bytes(_state(model)), _attention(model))


def training_contender(
    name: str, model: nn.Module, x: Tensor, targets: Tensor, precision: str = "float32"
) -> Contender:
    """A training step: forward, BCE, backward and AdamW's update; the gradients are freed at its end.

    `targets` are (batch, classes) float. Weights, AdamW's moments and the loss are float32 in either precision.
    """
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def call() -> None:
        with autocast(x.device, precision):
            logits = model(x)
        F.binary_cross_entropy_with_logits(logits.float(), targets).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def held() -> int:
        moments = (value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor))
        return tensor_bytes((*_state(model), *moments))

    return Contender(name, call, len(x), held, _attention(model))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model computes in `precision`, one of DTYPES."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "float32")


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of all the tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _attention(model: nn.Module) -> str | None:
    path = getattr(model, "attention", None)  # a peer has none
    return path if isinstance(path, str) else None
