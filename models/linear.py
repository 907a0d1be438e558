"""Products with a Linear's weights: torch's, or in float32 oneDNN's on the CPUs where these are faster.

torch multiplies float32 on x86 by MKL, which uses vectors of 256 bits on AMD's processors. oneDNN, which computes
torch's convolutions, uses 512 bits, and a 1 x 1 convolution of channels-last tokens is the same product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from models.processor import ONEDNN_FLOAT32

LEAST_MACS = 2**23  # of a product that gains more than oneDNN's preparation takes
# From which oneDNN's gradient of the weights is slow. A compromise: a layer that widens gains from fewer rows on, one
# that narrows from more.
WEIGHTS_PER_ROW = 2**14
# See `use_mkldnn` in torch's aten/src/ATen/native/Convolution.cpp: torch convolves a smaller image by itself, and on
# one thread a 1 x 1 convolution without dilation, which changes nothing of it.
LEAST_INPUTS, DILATION = 20_481, 2


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear(x, weight, bias)`, by oneDNN where that is faster.

    So it is in float32 on AMD's processors from Zen 5 on, by a 1 x 1 convolution; `bench/test_products.py` times models
    with the products of either library, on any processor.

    In bfloat16 torch multiplies by oneDNN itself. An exported or traced program has the plain product: it may run
    elsewhere, and a question about the number of rows would bind it to a range of batches.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).

    Returns:
        (..., out).
    """
    return _convolved(x, weight, bias) if _is_faster_by_convolution(x, weight) else F.linear(x, weight, bias)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer(x)`, (..., in) to (..., out), by `product`; a layer of another class, or with hooks, by its own code."""
    if ONEDNN_FLOAT32 and not _has_own_code(layer) and _is_faster_by_convolution(x, layer.weight):
        return _convolved(x, layer.weight, layer.bias)
    return layer(x)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    pixels = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, in, 1, rows), channels last in memory
    y = F.conv2d(pixels, weight[:, :, None, None], bias, dilation=DILATION)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _has_own_code(layer: nn.Module) -> bool:
    own = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return type(layer) is not nn.Linear or "forward" in vars(layer) or bool(own) or _has_any_global_hook()


def is_convolved(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether large products of tensors of `dtype` on `device` are convolutions, here and now.

    Exported and traced programs have none, since they may run elsewhere.
    """
    if not ONEDNN_FLOAT32 or device.type != "cpu" or dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    return not (torch.compiler.is_exporting() or torch.jit.is_tracing()) and bool(torch.backends.mkldnn.enabled)


def _is_faster_by_convolution(x: Tensor, weight: Tensor) -> bool:
    if not is_convolved(x.device, x.dtype) or weight.dtype != torch.float32:
        return False
    if x.numel() < LEAST_INPUTS or x.numel() * weight.shape[0] < LEAST_MACS:
        return False
    rows = x.numel() // x.shape[-1]
    return not (torch.is_grad_enabled() and weight.requires_grad) or weight.numel() < WEIGHTS_PER_ROW * rows
