"""What tests of products look at: the operators that ran, and gradients of a fixed upstream gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


def operators(call: Callable[[], object]) -> set[str]:
    """Names of the operators that `call` runs."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    return {event.key for event in profiled.key_averages()}


def gradients(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of `inputs` for an upstream gradient that rises from -1 to 1."""
    return torch.autograd.grad(y, inputs, torch.linspace(-1, 1, y.numel()).view_as(y))
