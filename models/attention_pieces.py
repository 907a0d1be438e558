"""Attention of one clip in pieces of its queries, forward and backward. No (queries x keys) tensor is kept.

Shapes: N queries, M keys, H heads, D head size; a piece has n of the queries.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.grid_bias import GridBias
from models.head_products import add_products, add_products_over_rows
from models.linear import is_convolved

PIECE_QUERIES = 256  # least queries per piece: with fewer rows the matrix products of long clips are slow


def piece_buffers(q: Tensor, k: Tensor, most_scores: int) -> Tensor:
    """Memory for the largest piece of clips q (B, N, H, D) and k (B, M, H, D), used by all: new memory takes time."""
    (_, N, H, _), M = q.shape, k.shape[1]
    return q.new_empty(2, min(N, max(PIECE_QUERIES, most_scores // (H * M))), H * M)


def add_attention(y: Tensor, q: Tensor, k: Tensor, v: Tensor, buffers: Tensor, bias: GridBias | None = None) -> None:
    """Add softmax(q.k / sqrt(D) + bias) v to y.

    Args:
        y: (N, H, D), contiguous.
        q: (N, H, D), contiguous.
        k: (M, H, D).
        v: (M, H, D).
        buffers: of `piece_buffers`.
        bias: of keys on a grid.
    """
    for piece, probabilities, _ in _pieces(q, k, buffers, bias):
        add_products(y[piece], probabilities, v.permute(2, 1, 0))


def add_gradients(
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    gradients: tuple[Tensor, Tensor, Tensor],
    buffers: Tensor,
    bias: GridBias | None = None,
    bias_gradients: GridBias | None = None,
) -> None:
    """Add the gradients of what `add_attention` adds.

    Args:
        grad: of the result, (N, H, D), contiguous.
        inputs: q, k and v, as in `add_attention`.
        gradients: of q, contiguous, of k and of v, to which is added.
        buffers: of `piece_buffers`.
        bias: as in `add_attention`.
        bias_gradients: of both terms of the bias, which are overwritten; None without a bias.
    """
    (q, k, v), (grad_q, grad_k, grad_v), scale = inputs, gradients, inputs[0].shape[-1] ** -0.5
    for piece, probabilities, scores in _pieces(q, k, buffers, bias):
        add_products_over_rows(grad_v, probabilities, grad[piece])
        add_products(scores, grad[piece], v, beta=0.0)
        dense = _dense(scores)
        torch._softmax_backward_data(dense, _dense(probabilities), -1, q.dtype, grad_input=dense)
        add_products(grad_q[piece], scores, k.permute(2, 1, 0), scale=scale)
        add_products_over_rows(grad_k, scores, q[piece], scale=scale)
        if bias_gradients is not None:
            bias_gradients.put_sums(piece, scores)


def _pieces(q: Tensor, k: Tensor, buffers: Tensor, bias: GridBias | None) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Pieces of softmax(q.k / sqrt(D) + bias): a slice of the queries, their probabilities (n, H, M), as much memory.

    The next piece overwrites both of a piece's tensors. In memory they are (n, H, M) for convolutions and (H, n, M) for
    torch's products per head.
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
            bias.put(piece, scores)
        add_products(scores, q[piece], k, scale=D**-0.5, beta=0.0 if bias is None else 1.0)
        torch.softmax(_dense(scores), -1, out=_dense(probabilities))
        yield piece, probabilities, scores


def _dense(x: Tensor) -> Tensor:
    """A piece's (n, H, M) as it lies in memory."""
    return x if x.is_contiguous() else x.transpose(0, 1)
