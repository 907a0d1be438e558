"""Products with a Linear's weights: torch's, or in float32 oneDNN's on the CPUs where these are faster.

torch multiplies float32 on x86 by MKL, which uses vectors of 256 bits on AMD's processors. oneDNN, which computes
torch's convolutions, uses 512 bits, and a 1 x 1 convolution of channels-last tokens is the same product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _has_wide_units_that_mkl_leaves() -> bool:
    # AMD's processors have AVX-VNNI from Zen 5 on, the first with units of 512 bits. torch 2.9 cannot tell.
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    is_amd = str(found.get("cpu_name", "")).startswith("AMD")
    return is_amd and bool(found.get("avx512_f")) and bool(found.get("avx_vnni"))


# Whether oneDNN multiplies float32 faster than torch does by itself.
ONEDNN_FLOAT32 = _has_wide_units_that_mkl_leaves()
LEAST_MACS = 2**23  # of a product that gains more than oneDNN's preparation takes
WEIGHTS_PER_ROW = 2**13  # from which oneDNN's gradient of the weights is slow


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear(x, weight, bias)`, (..., in) to (..., out), by oneDNN where that is faster.

    In float32 on AMD's processors from Zen 5 on by a 1 x 1 convolution, in half the time. GFLOP/s of `F.linear` and of
    the convolution on 2 cores of an EPYC of family 26, torch 2.14, by a script outside this repository:

        rows    weights     forward      forward and backward
        2,048   768 x 192   223 and 473  216 and 439
          512   1536 x 384  221 and 474  211 and 437
          256   768 x 768   216 and 424  209 and 344
           64   3072 x 768  185 and 312  166 and 99

    In bfloat16 torch multiplies by oneDNN itself. An exported program has the plain product: it may run elsewhere, and
    a question about the number of rows would bind it to a range of batches.
    """
    if not _is_faster_by_convolution(x, weight):
        return F.linear(x, weight, bias)
    pixels = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, in, 1, rows), channels last in memory
    y = F.conv2d(pixels, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def linear(layer: nn.Linear, x: Tensor, part: slice | None = None) -> Tensor:
    """`layer(x)` by `product`; with `part` only the outputs of these rows of its weights.

    A layer of another class, or one with hooks, runs its own code.
    """
    own_code = type(layer) is not nn.Linear or bool(layer._forward_hooks or layer._forward_pre_hooks)
    if part is None and (own_code or not _is_faster_by_convolution(x, layer.weight)):
        return layer(x)
    weight = layer.weight if part is None else layer.weight[part]
    bias = layer.bias if part is None or layer.bias is None else layer.bias[part]
    return F.linear(x, weight, bias) if own_code else product(x, weight, bias)


def _is_faster_by_convolution(x: Tensor, weight: Tensor) -> bool:
    if not ONEDNN_FLOAT32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if torch.compiler.is_exporting():
        return False
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.numel() * weight.shape[0] < LEAST_MACS:
        return False
    return not torch.is_grad_enabled() or weight.numel() < WEIGHTS_PER_ROW * x.numel() // x.shape[-1]
