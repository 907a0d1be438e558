"""Attention of one clip in pieces of its queries, forward and backward. No (queries x keys) tensor is kept.

Shapes: N queries, M keys, H heads, D head size; a piece has n of the queries.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.head_products import add_products, add_products_over_rows
from models.linear import is_convolved

PIECE_QUERIES = 256  # least queries per piece: with fewer rows the matrix products of long clips are slow


def piece_buffers(q: Tensor, k: Tensor, most_scores: int) -> Tensor:
    """Memory for the largest piece of clips q (B, N, H, D) and k (B, M, H, D), used by all: new memory takes time."""
    (_, N, H, _), M = q.shape, k.shape[1]
    return q.new_empty(2, min(N, max(PIECE_QUERIES, most_scores // (H * M))), H * M)


def attention_pieces(
    q: Tensor, k: Tensor, buffers: Tensor, bias: tuple[Tensor, Tensor] | None = None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Compute softmax(q.k / sqrt(D) + bias) piece by piece.

    The next piece overwrites both of a piece's tensors. In memory they are (n, H, M) for convolutions and (H, n, M) for
    torch's products per head.

    Args:
        q: (N, H, D), contiguous.
        k: (M, H, D).
        buffers: of `piece_buffers`.
        bias: (N, H, f) and (N, H, t) of keys on a grid, f * t = M; a pair has the sum of its two.

    Yields:
        A piece's queries, their probabilities (n, H, M) and as much working space.
    """
    (N, H, D), M = q.shape, k.shape[0]
    rows, heads_inside = buffers.shape[1], is_convolved(q.device, q.dtype)
    for start in range(0, N, rows):
        piece = slice(start, min(start + rows, N))
        n = piece.stop - piece.start
        shape = (n, H, M) if heads_inside else (H, n, M)
        scores, probabilities = (buffer[:n].view(shape) for buffer in buffers)
        if not heads_inside:
            scores, probabilities = scores.transpose(0, 1), probabilities.transpose(0, 1)
        if bias is not None:
            freq, time = bias[0][piece].unsqueeze(-1), bias[1][piece].unsqueeze(-2)
            torch.add(freq, time, out=scores.unflatten(-1, (freq.shape[-2], time.shape[-1])))
        add_products(scores, q[piece], k, scale=D**-0.5, beta=0.0 if bias is None else 1.0)
        torch.softmax(_dense(scores), -1, out=_dense(probabilities))
        yield piece, probabilities, scores


def add_gradients_of_piece(
    *,
    probabilities: Tensor,
    scratch: Tensor,
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad_q: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
) -> None:
    """Add the gradients of a piece of `attention_pieces`, whose result is probabilities . v.

    Args:
        probabilities: (n, H, M).
        scratch: the piece's working space, (n, H, M); takes the gradient of the scores.
        grad: of the result, (n, H, D), contiguous.
        q: the piece's queries, (n, H, D).
        k: (M, H, D).
        v: (M, H, D).
        grad_q: the piece's (n, H, D), contiguous.
        grad_k: (M, H, D).
        grad_v: (M, H, D).
    """
    scale = q.shape[-1] ** -0.5
    add_products_over_rows(grad_v, probabilities, grad)
    add_products(scratch, grad, v, beta=0.0)
    dense = _dense(scratch)
    torch._softmax_backward_data(dense, _dense(probabilities), -1, q.dtype, grad_input=dense)
    add_products(grad_q, scratch, k.permute(2, 1, 0), scale=scale)
    add_products_over_rows(grad_k, scratch, q, scale=scale)


def _dense(x: Tensor) -> Tensor:
    """A piece's (n, H, M) as it lies in memory."""
    return x if x.is_contiguous() else x.transpose(0, 1)
