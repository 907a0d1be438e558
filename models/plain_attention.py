"""softmax(q.k / sqrt(D)) v in pieces that fit a CPU's cache. No (queries x keys) tensor is kept.

Like chunked_attention.py, custom operators of torch. Shapes: q, k and v (B, N, H, D), all contiguous.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.attention_pieces import add_attention, add_gradients, piece_buffers

PIECE_SCORES = 2**21  # scores per piece, 8 MiB in float32: one head of an AST clip of 10 s is one piece


@torch.library.custom_op("mast::plain_attention", mutates_args=())
def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q.k / sqrt(D)) v, (B, N, H, D)."""
    y, buffers = torch.zeros_like(q), piece_buffers(q, k, PIECE_SCORES)
    for q_, k_, v_, y_ in zip(q, k, v, y, strict=True):
        add_attention(y_, q_, k_, v_, buffers)
    return y


@torch.library.custom_op("mast::plain_attention_backward", mutates_args=())
def _plain_attention_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v for `grad`, all (B, N, H, D)."""
    grad_q, buffers = torch.zeros_like(q), piece_buffers(q, k, PIECE_SCORES)
    # Sums over pieces lose too much in bfloat16.
    wide = torch.promote_types(q.dtype, torch.float32)
    grad_k, grad_v = (torch.zeros_like(x, dtype=wide) for x in (k, v))
    for clip, (g_, q_, k_, v_) in enumerate(zip(grad, q, k, v, strict=True)):
        add_gradients(g_, (q_, k_, v_), (grad_q[clip], grad_k[clip], grad_v[clip]), buffers)
    return grad_q, grad_k.to(q.dtype), grad_v.to(q.dtype)


@plain_attention.register_fake
def _(q: Tensor, *others: Tensor) -> Tensor:
    return torch.empty_like(q)


@_plain_attention_backward.register_fake
def _(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in inputs)


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = _plain_attention_backward(grad.contiguous(), *ctx.saved_tensors)
    return gradients


plain_attention.register_autograd(_backward, setup_context=_save_inputs)
