"""Pooled attention in pieces that stay in cache: no (queries x keys) tensor outlives its piece; backward recomputes it.

Operators of torch's own kind, so that torch.compile, torch.export and meta tensors see one node and no loop.

Shapes as in pooling_attention.py with the heads inside, q (B, N, H, D), k and v (B, M, H, D), and the rows of the
relative-position tables for every pair on an axis, freq_table (F, f, D) and time_table (T, t, D). What N and M exceed
F*T and f*t by are prefix tokens, which come first and carry no relative position.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

PIECE_SCORES = 2**20  # scores held at a time, 4 MiB in float32
PIECE_QUERIES = 256  # or what so many queries need: with fewer rows the products of long clips lose their speed

_unused = ContextVar("unused", default=False)


class ResultUnused:
    """A context, to be entered any number of times, where `chunked_attention` is redone for its inputs' sake alone.

    It computes nothing there, and its result holds whatever lay in memory.
    """

    def __enter__(self) -> None:
        _unused.set(True)

    def __exit__(self, *error: object) -> None:
        _unused.set(False)


def _by_freq(x: Tensor, freqs: int, times: int) -> Tensor:
    """One clip's (N, H, X) without its prefix as a view (F, T*H, X)."""
    return x[x.shape[0] - freqs * times :].view(freqs, -1, x.shape[-1])


def _by_time(x: Tensor, freqs: int, times: int) -> Tensor:
    """One clip's (N, H, X) without its prefix as a view (T, F, H, X)."""
    return x[x.shape[0] - freqs * times :].view(freqs, times, -1, x.shape[-1]).transpose(0, 1)


def _relative_terms(q: Tensor, freq_table: Tensor, time_table: Tensor) -> tuple[Tensor, Tensor]:
    """q.R per axis of one clip's q (N, H, D): (N, H, f) and (N, H, t), zero on prefix tokens."""
    (F, f, _), (T, t, _) = freq_table.shape, time_table.shape
    freq, time = q.new_zeros(*q.shape[:2], f), q.new_zeros(*q.shape[:2], t)
    torch.bmm(_by_freq(q, F, T), freq_table.mT, out=_by_freq(freq, F, T))
    terms = torch.bmm(_by_time(q, F, T).flatten(1, 2), time_table.mT)
    _by_time(time, F, T).copy_(terms.view(T, F, -1, t))
    return freq, time


def _pieces(q: Tensor, k: Tensor, freq_table: Tensor, time_table: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """One clip's pieces: which queries, their probabilities (H, n, M) and as much scratch; the next overwrites both."""
    (N, H, D), M = q.shape, k.shape[0]
    freq, time = (terms.transpose(0, 1) for terms in _relative_terms(q, freq_table, time_table))  # (H, N, f or t)
    pairs = freq.shape[-1], time.shape[-1]
    prefix = M - pairs[0] * pairs[1]
    rows = min(N, max(PIECE_QUERIES, PIECE_SCORES // (H * M)))
    buffers = q.new_empty(2, H * rows * M)
    for start in range(0, N, rows):
        piece = slice(start, min(start + rows, N))
        n = piece.stop - piece.start
        scores, probabilities = (buffer[: H * n * M].view(H, n, M) for buffer in buffers)
        scores[..., :prefix] = 0
        bias = scores[..., prefix:].unflatten(-1, pairs)
        torch.add(freq[:, piece].unsqueeze(-1), time[:, piece].unsqueeze(-2), out=bias)
        scores.baddbmm_(q[piece].transpose(0, 1), k.permute(1, 2, 0), alpha=D**-0.5)
        yield piece, torch.softmax(scores, -1, out=probabilities), scores


@torch.library.custom_op("mast::chunked_attention", mutates_args=())
def chunked_attention(q: Tensor, k: Tensor, v: Tensor, freq_table: Tensor, time_table: Tensor) -> Tensor:
    """softmax(q.k / sqrt(D) + q.R_freq + q.R_time) v + q, (B, N, H, D)."""
    y = torch.empty_like(q)
    if _unused.get():
        return y
    for q_, k_, v_, y_ in zip(q, k, v, y, strict=True):
        for piece, probabilities, _ in _pieces(q_, k_, freq_table, time_table):
            rows = q_[piece].transpose(0, 1), y_[piece].transpose(0, 1)
            torch.baddbmm(rows[0], probabilities, v_.transpose(0, 1), out=rows[1])
    return y


@torch.library.custom_op("mast::chunked_attention_backward", mutates_args=())
def _chunked_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, freq_table: Tensor, time_table: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (F, f, _), (T, t, _), scale = freq_table.shape, time_table.shape, q.shape[-1] ** -0.5
    # Sums over pieces and clips lose too much in bfloat16.
    wide = torch.promote_types(q.dtype, torch.float32)
    sums = [torch.zeros_like(x, dtype=wide) for x in (k, v, freq_table, time_table)]
    grad_k, grad_v, grad_freq_table, grad_time_table = sums
    grad_q = grad.clone()  # of the residual
    grad_freq, grad_time = (q.new_empty(*q.shape[1:3], size) for size in (f, t))  # (N, H, f or t), of one clip
    for clip, (g_, q_, k_, v_, gq_) in enumerate(zip(grad, q, k, v, grad_q, strict=True)):
        for piece, probabilities, scratch in _pieces(q_, k_, freq_table, time_table):
            g, rows, grad_rows = (x[piece].transpose(0, 1) for x in (g_, q_, gq_))  # (H, n, D)
            grad_v[clip].transpose(0, 1).add_(torch.bmm(probabilities.mT, g))
            grad_p = torch.bmm(g, v_.permute(1, 2, 0), out=scratch)
            grad_s = torch._softmax_backward_data(grad_p, probabilities, -1, q.dtype, grad_input=scratch)
            grad_rows.baddbmm_(grad_s, k_.transpose(0, 1), alpha=scale)
            grad_k[clip].transpose(0, 1).add_(torch.bmm(grad_s.mT, rows), alpha=scale)
            grad_bias = grad_s[..., k.shape[1] - f * t :].unflatten(-1, (f, t))
            torch.sum(grad_bias, -1, out=grad_freq[piece].transpose(0, 1))
            torch.sum(grad_bias, -2, out=grad_time[piece].transpose(0, 1))
        by_freq, by_time = _by_freq(grad_freq, F, T), _by_time(grad_time, F, T).flatten(1, 2)
        _by_freq(gq_, F, T).baddbmm_(by_freq, freq_table)
        _by_time(gq_, F, T).add_(torch.bmm(by_time, time_table).view(T, F, *q.shape[2:]))
        grad_freq_table.add_(torch.bmm(by_freq.mT, _by_freq(q_, F, T)))
        grad_time_table.add_(torch.bmm(by_time.mT, _by_time(q_, F, T).flatten(1, 2)))
    grad_k, grad_v, grad_freq_table, grad_time_table = (x.to(q.dtype) for x in sums)
    return grad_q, grad_k, grad_v, grad_freq_table, grad_time_table


@chunked_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, freq_table: Tensor, time_table: Tensor) -> Tensor:
    return torch.empty_like(q)


@_chunked_attention_backward.register_fake
def _(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in inputs)


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return _chunked_attention_backward(grad.contiguous(), *ctx.saved_tensors)


chunked_attention.register_autograd(_backward, setup_context=_save_inputs)
chunked_attention.register_autocast("cpu", torch.bfloat16)
