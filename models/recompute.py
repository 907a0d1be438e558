"""Activation checkpointing of cheap functions: keep the inputs, run the function again in the backward pass.

A second run costs time by size on a CPU, and kernel launches and Python time on a GPU. Below the threshold of its
device a tensor costs less to keep than to compute again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, noop_context_fn

CPU_THRESHOLD = 2**21  # bytes: 2 MiB, measured
# Elements. A training step of mast_base on an H200, 16 clips of 10 s in bfloat16, whose launches take the time: 373,
# 303, 198, 211 ms and 5.1, 6.1, 7.1, 7.3 GiB from 2**21, 2**23, 2**25 and without second runs.
ACCELERATOR_THRESHOLD = 2**25


def is_recomputed(elements: int, device_type: str, dtype: torch.dtype, threshold: int | None = None) -> bool:
    """Whether `recompute` runs a function of a tensor of `elements` elements again on devices of this type.

    Args:
        elements: of the first input.
        device_type: "cpu", "cuda", ...
        dtype: of the first input.
        threshold: least number of elements; None for the device's default.
    """
    if threshold is None and device_type == "cpu":
        return elements * dtype.itemsize >= CPU_THRESHOLD
    return elements >= (ACCELERATOR_THRESHOLD if threshold is None else threshold)


def recompute(
    function: Callable[..., Tensor],
    *inputs: Any,
    threshold: int | None = None,
    second_run: Callable[[], AbstractContextManager[None]] | None = None,
) -> Tensor:
    """Return function(*inputs); if the first input is large, keep only `inputs` for the backward pass.

    The second run stops at the last tensor that the backward pass needs, so a matrix product that ends `function` is
    not computed twice.

    Args:
        function: has no random numbers.
        inputs: its arguments; the first is a tensor.
        threshold: see `is_recomputed`.
        second_run: makes the context manager of the second run, once per backward pass over the graph.
    """
    first: Tensor = inputs[0]
    # A compiler decides by itself what to keep; asked for the size, it would bind the program to the batch's range.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*inputs)
    if not is_recomputed(first.numel(), first.device.type, first.dtype, threshold):
        return function(*inputs)
    contexts = noop_context_fn if second_run is None else lambda: (nullcontext(), second_run())
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result
