"""Pooled attention in pieces that fit a CPU's cache, except of long clips. No (queries x keys) tensor is kept.

The operators are custom operators of torch, so torch.compile, torch.export and meta tensors see one node and no loop.

Shapes as in pooling_attention.py with the heads inside: q (B, N, H, D), k and v (B, M, H, D); the relative-position
tables (rows, D) and the table row of every pair on an axis, freq_index (F, f) and time_index (T, t).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from models.attention_pieces import add_attention, add_gradients, piece_buffers
from models.grid_bias import GridBias, ones_of_keys

PIECE_SCORES = 2**20  # scores per piece, 4 MiB in float32; its probabilities take as much again
# Elements of a relative-position table gathered at once (16 MiB in float32). A 60 s clip needs 206 MiB in total; its
# gradient is not sliced.
PAIR_ELEMENTS = 2**22

_inputs_only: ContextVar[bool] = ContextVar("inputs_only", default=False)


class InputsOnly:
    """Context for the second run of an activation checkpoint that ends in `chunked_attention`. Re-entrant.

    The checkpoint needs that run for the tensors that operators save for the backward pass, and drops its result.
    `chunked_attention` saves its inputs alone, so under this context it returns zeros instead of computing the
    attention a second time (a third of the attention's time in training).
    """

    def __enter__(self) -> None:
        _inputs_only.set(True)

    def __exit__(self, *error: object) -> None:
        _inputs_only.set(False)


def _by_freq(x: Tensor, freqs: int) -> Tensor:
    """One clip's (N, H, X) as a view (F, T*H, X)."""
    return x.view(freqs, -1, x.shape[-1])


def _by_time(x: Tensor, freqs: int, times: int) -> Tensor:
    """One clip's (N, H, X) as a view (T, F, H, X)."""
    return x.view(freqs, times, -1, x.shape[-1]).transpose(0, 1)


def rows_of_pairs(table: Tensor, index: Tensor) -> Tensor:
    """Gather the rows of a table (rows, D) for every pair (queries, keys): (queries, keys, D).

    `table[index]` would be equal, but the sum of its gradient takes 20 times as long on a CPU. On a GPU this sum is in
    no fixed order, like those of flash kernels.
    """
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


class _Axis:
    """Relative positions along one axis: a table (rows, D) and the row of every (query, key) pair."""

    def __init__(self, table: Tensor, index: Tensor) -> None:
        self.table, self.index = table, index
        self.queries, self.keys = index.shape
        self._step = max(1, PAIR_ELEMENTS // (self.keys * table.shape[1]))
        self._all_rows = rows_of_pairs(table, index) if self._step >= self.queries else None  # once for all clips

    def rows(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the queries, each with the table rows of its pairs (queries, keys, D)."""
        for start in range(0, self.queries, self._step):
            part = slice(start, start + self._step)
            yield part, rows_of_pairs(self.table, self.index[part]) if self._all_rows is None else self._all_rows

    def gradient(self, of_pairs: Tensor) -> Tensor:
        """Sum the gradient of every pair's row (queries, keys, D) to the table's (rows, D)."""
        return of_pairs.new_zeros(self.table.shape).index_add_(0, self.index.flatten(), of_pairs.flatten(0, 1))


def _relative_terms(q: Tensor, freq: _Axis, time: _Axis) -> tuple[Tensor, Tensor]:
    """q.R per axis of one clip's q (N, H, D): (N, H, f) and (N, H, t)."""
    F, T = freq.queries, time.queries
    freq_terms, time_terms = (q.new_empty(*q.shape[:2], axis.keys) for axis in (freq, time))
    for part, rows in freq.rows():
        torch.bmm(_by_freq(q, F)[part], rows.mT, out=_by_freq(freq_terms, F)[part])
    for part, rows in time.rows():
        terms = torch.bmm(_by_time(q, F, T)[part].flatten(1, 2), rows.mT)
        _by_time(time_terms, F, T)[part].copy_(terms.view(len(terms), F, -1, time.keys))
    return freq_terms, time_terms


@torch.library.custom_op("mast::chunked_attention", mutates_args=())
def chunked_attention(
    q: Tensor, k: Tensor, v: Tensor, freq_table: Tensor, time_table: Tensor, freq_index: Tensor, time_index: Tensor
) -> Tensor:
    """softmax(q.k / sqrt(D) + q.R_freq + q.R_time) v + q, (B, N, H, D)."""
    if _inputs_only.get():
        return torch.zeros_like(q)
    y, buffers = q.clone(), piece_buffers(q, k, PIECE_SCORES)
    freq, time = _Axis(freq_table, freq_index), _Axis(time_table, time_index)
    ones = ones_of_keys(freq.keys, time.keys, q)
    for q_, k_, v_, y_ in zip(q, k, v, y, strict=True):
        freq_terms, time_terms = _relative_terms(q_, freq, time)
        add_attention(y_, q_, k_, v_, buffers, GridBias(freq=freq_terms, time=time_terms, ones=ones))
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
    """Gradients of q, k, v (shapes as theirs) and of both tables (rows, D) for `grad` (B, N, H, D)."""
    freq, time = _Axis(freq_table, freq_index), _Axis(time_table, time_index)
    (F, f), (T, t) = freq_index.shape, time_index.shape
    # Sums over pieces and clips lose too much in bfloat16.
    wide = torch.promote_types(q.dtype, torch.float32)
    grad_k, grad_v = (torch.zeros_like(x, dtype=wide) for x in (k, v))
    grad_freq_rows, grad_time_rows = (q.new_zeros(*x.shape, q.shape[-1], dtype=wide) for x in (freq_index, time_index))
    grad_q, buffers = grad.clone(), piece_buffers(q, k, PIECE_SCORES)  # grad: of the residual
    grad_freq, grad_time = (q.new_empty(*q.shape[1:3], size) for size in (f, t))  # one clip's (N, H, f or t)
    ones = ones_of_keys(f, t, q)
    bias_gradients = GridBias(freq=grad_freq, time=grad_time, ones=ones)
    for clip, (g_, q_, k_, v_, gq_) in enumerate(zip(grad, q, k, v, grad_q, strict=True)):
        freq_terms, time_terms = _relative_terms(q_, freq, time)
        bias = GridBias(freq=freq_terms, time=time_terms, ones=ones)
        add_gradients(g_, (q_, k_, v_), (gq_, grad_k[clip], grad_v[clip]), buffers, bias, bias_gradients)
        by_freq, by_time = _by_freq(grad_freq, F), _by_time(grad_time, F, T).flatten(1, 2)
        for part, pair_rows in freq.rows():
            _by_freq(gq_, F)[part].baddbmm_(by_freq[part], pair_rows)
        for part, pair_rows in time.rows():
            terms = torch.bmm(by_time[part], pair_rows)
            _by_time(gq_, F, T)[part].add_(terms.view(len(terms), F, *q.shape[2:]))
        grad_freq_rows.add_(torch.bmm(by_freq.mT, _by_freq(q_, F)))
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


def _is_cast(x: Tensor) -> bool:
    return x.is_floating_point() and x.dtype != torch.float64


def _in_bfloat16(*tensors: Tensor) -> Tensor:
    """Under autocast on a CPU: bfloat16, as torch's own attention. `register_autocast` came with torch 2.7."""
    with torch.autocast("cpu", enabled=False):
        return chunked_attention(*(x.to(torch.bfloat16) if _is_cast(x) else x for x in tensors))


_autocast = torch.library.Library("mast", "IMPL")
_autocast.impl("chunked_attention", _in_bfloat16, "AutocastCPU")
