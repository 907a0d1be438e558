"""Products per head, in place: torch's, or in float32 oneDNN's on the CPUs where these are faster. Without gradients.

As in linear.py, a convolution is the same product, here with one group per head.

Shapes: n rows, H heads, I inputs and O outputs per head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.linear import DILATION, LEAST_INPUTS, LEAST_MACS, is_convolved


def add_products(out: Tensor, x: Tensor, w: Tensor, *, scale: float = 1.0, beta: float = 1.0) -> None:
    """out = beta out + scale x w^T, per head.

    Args:
        out: (n, H, O); contiguous for a convolution.
        x: (n, H, I); contiguous for a convolution.
        w: (O, H, I).
        scale: of the product.
        beta: 1, or 0 to ignore what `out` holds.
    """
    is_large = x.numel() * len(w) >= LEAST_MACS
    if not (is_large and is_convolved(x.device, x.dtype) and out.is_contiguous() and x.is_contiguous()):
        out.transpose(0, 1).baddbmm_(x.transpose(0, 1), w.permute(1, 2, 0), beta=beta, alpha=scale)
        return
    if beta == 0:
        out.zero_()
    outputs, heads, inputs = w.shape
    weight = torch.mul(w.transpose(0, 1), scale, out=w.new_empty(heads, outputs, inputs)).view(-1, inputs, 1, 1)
    # Not by `conv2d`, which writes its result to new memory.
    torch.ops.mkldnn._convolution_pointwise_.binary(
        _pixels(out), _pixels(x), weight, None, [0, 0], [1, 1], [1, 1], heads, "add", 1.0, None, [], None
    )


def add_products_over_rows(out: Tensor, y: Tensor, x: Tensor, *, scale: float = 1.0) -> None:
    """out += scale y^T x, per head.

    Args:
        out: (O, H, I).
        y: (n, H, O).
        x: (n, H, I).
        scale: of the product.
    """
    # Sizes are those of one head: heads are computed one at a time.
    is_large = x[:, 0].numel() >= LEAST_INPUTS and x[:, 0].numel() * y.shape[2] >= LEAST_MACS
    if not (is_large and is_convolved(x.device, x.dtype)):
        out.transpose(0, 1).add_(torch.bmm(y.permute(1, 2, 0), x.transpose(0, 1)), alpha=scale)
        return
    # The gradient of the weights of a convolution, which is slow with groups.
    weight = x.new_empty(y.shape[2], x.shape[2], 1, 1)
    for head in range(x.shape[1]):
        of_rows, rows = (_pixels(part[:, head].contiguous()) for part in (y, x))
        gradients = torch.ops.aten.convolution_backward(
            of_rows, rows, weight, None, [1, 1], [0, 0], [DILATION, DILATION], False, [0, 0], 1, [False, True, False]
        )
        out[:, head].add_(gradients[1].flatten(1), alpha=scale)


def _pixels(x: Tensor) -> Tensor:
    """Contiguous (n, ...) as an image (1, channels, 1, n), channels last in memory."""
    return x.view(1, 1, len(x), -1).permute(0, 3, 1, 2)
