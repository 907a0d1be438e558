"""Pooled attention in pieces, cache-sized but for long clips: no (queries x keys) tensor outlives its piece.

Operators of torch's own kind, so that torch.compile, torch.export and meta tensors see one node and no loop.

Shapes as in pooling_attention.py with the heads inside, q (B, N, H, D), k and v (B, M, H, D); the relative-position
tables (rows, D) and the row of every pair on an axis, freq_index (F, f) and time_index (T, t). What N and M exceed F*T
and f*t by are prefix tokens, which come first and carry no relative position.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

PIECE_SCORES = 2**20  # scores of a piece, 4 MiB in float32, and its probabilities as much again
PIECE_QUERIES = 256  # or what so many queries need: with fewer rows the products of long clips lose their speed
# Of a table's rows gathered for pairs at a time, 16 MiB; a 60 s clip's fill 206 MiB, as their gradient still does.
PAIR_NUMBERS = 2**22

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


class _Axis:
    """Relative positions along one axis: a table (rows, D) and the row of every (query, key) pair."""

    def __init__(self, table: Tensor, index: Tensor) -> None:
        self.table, self.index = table, index
        self.queries, self.keys = index.shape
        self._step = max(1, PAIR_NUMBERS // (self.keys * table.shape[1]))
        self._whole = table[index] if self._step >= self.queries else None  # for every clip

    def rows(self) -> Iterator[tuple[slice, Tensor]]:
        """By slices of the queries: which, and the rows of their pairs (queries, keys, D)."""
        for start in range(0, self.queries, self._step):
            part = slice(start, start + self._step)
            yield part, self.table[self.index[part]] if self._whole is None else self._whole

    def gradient(self, of_pairs: Tensor) -> Tensor:
        """(queries, keys, D), of every pair's row, to the table's (rows, D)."""
        return of_pairs.new_zeros(self.table.shape).index_put_((self.index,), of_pairs, accumulate=True)


def _relative_terms(q: Tensor, freq: _Axis, time: _Axis) -> tuple[Tensor, Tensor]:
    """q.R per axis of one clip's q (N, H, D): (N, H, f) and (N, H, t), zero on prefix tokens."""
    F, T = freq.queries, time.queries
    freq_terms, time_terms = (q.new_zeros(*q.shape[:2], axis.keys) for axis in (freq, time))
    for part, rows in freq.rows():
        torch.bmm(_by_freq(q, F, T)[part], rows.mT, out=_by_freq(freq_terms, F, T)[part])
    for part, rows in time.rows():
        terms = torch.bmm(_by_time(q, F, T)[part].flatten(1, 2), rows.mT)
        _by_time(time_terms, F, T)[part].copy_(terms.view(len(terms), F, -1, time.keys))
    return freq_terms, time_terms


def _pieces(q: Tensor, k: Tensor, freq: _Axis, time: _Axis) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """One clip's pieces: which queries, their probabilities (H, n, M) and as much scratch; the next overwrites both."""
    (N, H, D), M = q.shape, k.shape[0]
    freq_terms, time_terms = (terms.transpose(0, 1) for terms in _relative_terms(q, freq, time))  # (H, N, f or t)
    pairs = freq.keys, time.keys
    prefix = M - pairs[0] * pairs[1]
    rows = min(N, max(PIECE_QUERIES, PIECE_SCORES // (H * M)))
    buffers = q.new_empty(2, H * rows * M)
    for start in range(0, N, rows):
        piece = slice(start, min(start + rows, N))
        n = piece.stop - piece.start
        scores, probabilities = (buffer[: H * n * M].view(H, n, M) for buffer in buffers)
        scores[..., :prefix] = 0
        bias = scores[..., prefix:].unflatten(-1, pairs)
        torch.add(freq_terms[:, piece].unsqueeze(-1), time_terms[:, piece].unsqueeze(-2), out=bias)
        scores.baddbmm_(q[piece].transpose(0, 1), k.permute(1, 2, 0), alpha=D**-0.5)
        yield piece, torch.softmax(scores, -1, out=probabilities), scores


@torch.library.custom_op("mast::chunked_attention", mutates_args=())
def chunked_attention(
    q: Tensor, k: Tensor, v: Tensor, freq_table: Tensor, time_table: Tensor, freq_index: Tensor, time_index: Tensor
) -> Tensor:
    """softmax(q.k / sqrt(D) + q.R_freq + q.R_time) v + q, (B, N, H, D)."""
    y = torch.empty_like(q)
    if _unused.get():
        return y
    freq, time = _Axis(freq_table, freq_index), _Axis(time_table, time_index)
    for q_, k_, v_, y_ in zip(q, k, v, y, strict=True):
        for piece, probabilities, _ in _pieces(q_, k_, freq, time):
            rows = q_[piece].transpose(0, 1), y_[piece].transpose(0, 1)
            torch.baddbmm(rows[0], probabilities, v_.transpose(0, 1), out=rows[1])
    return y


@torch.library.custom_op("mast::chunked_attention_backward", mutates_args=())
def _chunked_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    freq_table: Tensor,
    time_table: Tensor,
    freq_index: Tensor,
    time_index: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    freq, time = _Axis(freq_table, freq_index), _Axis(time_table, time_index)
    (F, f), (T, t), scale = freq_index.shape, time_index.shape, q.shape[-1] ** -0.5
    # Sums over pieces and clips lose too much in bfloat16.
    wide = torch.promote_types(q.dtype, torch.float32)
    grad_k, grad_v = (torch.zeros_like(x, dtype=wide) for x in (k, v))
    grad_freq_rows, grad_time_rows = (q.new_zeros(*x.shape, q.shape[-1], dtype=wide) for x in (freq_index, time_index))
    grad_q = grad.clone()  # of the residual
    grad_freq, grad_time = (q.new_empty(*q.shape[1:3], size) for size in (f, t))  # (N, H, f or t), of one clip
    for clip, (g_, q_, k_, v_, gq_) in enumerate(zip(grad, q, k, v, grad_q, strict=True)):
        for piece, probabilities, scratch in _pieces(q_, k_, freq, time):
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
        for part, pair_rows in freq.rows():
            _by_freq(gq_, F, T)[part].baddbmm_(by_freq[part], pair_rows)
        for part, pair_rows in time.rows():
            terms = torch.bmm(by_time[part], pair_rows)
            _by_time(gq_, F, T)[part].add_(terms.view(len(terms), F, *q.shape[2:]))
        grad_freq_rows.add_(torch.bmm(by_freq.mT, _by_freq(q_, F, T)))
        grad_time_rows.add_(torch.bmm(by_time.mT, _by_time(q_, F, T).flatten(1, 2)))
    grads = (grad_k, grad_v, freq.gradient(grad_freq_rows), time.gradient(grad_time_rows))
    grad_k, grad_v, grad_freq_table, grad_time_table = (x.to(q.dtype) for x in grads)
    return grad_q, grad_k, grad_v, grad_freq_table, grad_time_table


@chunked_attention.register_fake
def _(q: Tensor, *others: Tensor) -> Tensor:
    return torch.empty_like(q)


@_chunked_attention_backward.register_fake
def _(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in inputs[:5])


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_chunked_attention_backward(grad.contiguous(), *ctx.saved_tensors), None, None  # an index has no gradient


chunked_attention.register_autograd(_backward, setup_context=_save_inputs)
chunked_attention.register_autocast("cpu", torch.bfloat16)
