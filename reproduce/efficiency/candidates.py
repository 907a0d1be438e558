"""Models as candidates of an interleaved benchmark: a forward pass, or a training step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.efficiency.interleaved import Candidate
from reproduce.environment import computing_in

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def inference_candidate(name: str, model: nn.Module, x: Tensor, precision: str = "float32") -> Candidate:
    """Make a candidate of the forward pass of `model` in evaluation mode, without gradients.

    Args:
        name: unique in its benchmark.
        model: on the device of `x`.
        x: (batch, 1, mels, frames).
        precision: one of DTYPES, see `computing_in`.
    """
    model.eval()

    def forward(x: Tensor) -> None:
        with torch.inference_mode(), computing_in(precision, x.device):
            model(x)

    return Candidate(
        name,
        partial(forward, x),
        len(x),
        lambda: tensor_bytes(_state(model)),
        _attention(model, x.device, precision, gradients=False),
        precision,
        partial(forward, x[:1]),
    )


def training_candidate(
    name: str, model: nn.Module, x: Tensor, targets: Tensor, precision: str = "float32"
) -> Candidate:
    """Make a candidate of a training step: forward, BCE, backward and AdamW's update; gradients are freed at its end.

    Weights, AdamW's moments and the loss are float32 in either precision.

    Args:
        name: unique in its benchmark.
        model: on the device of `x`.
        x: (batch, 1, mels, frames).
        targets: (batch, classes), float.
        precision: one of DTYPES, see `computing_in`.
    """
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)  # as the trainer's

    def step(x: Tensor, targets: Tensor) -> None:
        with computing_in(precision, x.device):
            logits = model(x)
        F.binary_cross_entropy_with_logits(logits.float(), targets).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def state_bytes() -> int:
        moments = (value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor))
        return tensor_bytes((*_state(model), *moments))

    return Candidate(
        name,
        partial(step, x, targets),
        len(x),
        state_bytes,
        _attention(model, x.device, precision, gradients=True),
        precision,
        partial(step, x[:1], targets[:1]),
    )


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Add up the bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _attention(model: nn.Module, device: torch.device, precision: str, gradients: bool) -> str | None:
    with torch.set_grad_enabled(gradients), computing_in(precision, device):
        path = getattr(model, "attention", None)  # other implementations have none
    return path if isinstance(path, str) else None
