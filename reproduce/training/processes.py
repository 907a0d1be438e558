"""Devices, precision and processes, by Accelerate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where one is made: it takes seconds, and tables need none

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours -> Accelerate's


def make_accelerator(device: str, precision: str = "fp32") -> Accelerator:
    """The process' device, its place among the others (torchrun, accelerate launch) and the precision of products.

    Args:
        device: torch device; among several processes each takes its own GPU.
        precision: one of PRECISIONS; weights, optimiser, losses and spectrograms are always float32.
    """
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    if device not in ("cpu", "cuda"):  # one GPU by its number
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    # The batch is put together here; a user's own accelerate config must not divide its gradient once more.
    once = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=device == "cpu", mixed_precision=PRECISIONS[precision], gradient_accumulation_plugin=once)


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, in the order of their ranks, on each of them."""
    from accelerate.utils import gather_object

    return gather_object(items)
