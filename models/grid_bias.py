"""The bias of scores whose keys lie on a grid, a term per frequency plus a term per time, and the sums of its gradient.

Shapes: n queries, H heads, keys on a grid (f, t).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Below this many times torch's loops over them are slow in bfloat16 on a CPU (a vector of 512 bits has 32). Products
# with ones and zeros, whose sums of finite terms are the same, take a seventh to a half of their time (EPYC of family
# 26, 512 queries of four heads and about 512 keys, by a script outside this repository).
NARROW_TIMES = 32


def ones_of_keys(f: int, t: int, like: Tensor) -> Tensor | None:
    """(f + t, f * t) of a tensor's dtype and device: 1 where the frequency or the time is the key's.

    None where torch's loops are fast.
    """
    if t >= NARROW_TIMES or like.dtype != torch.bfloat16 or like.device.type != "cpu":
        return None
    freqs, times = (torch.eye(size, dtype=like.dtype, device=like.device) for size in (f, t))
    return torch.cat((freqs.repeat_interleave(t, 1), times.repeat(1, f)))


@dataclass(frozen=True, kw_only=True)
class GridBias:
    """freq + time of every (query, key) pair.

    Args:
        freq: (N, H, f), of all N queries.
        time: (N, H, t).
        ones: of `ones_of_keys`.
    """

    freq: Tensor
    time: Tensor
    ones: Tensor | None

    def put(self, piece: slice, scores: Tensor) -> None:
        """Write the bias of a piece of the queries to its scores (n, H, f * t)."""
        freq, time = self.freq[piece], self.time[piece]
        if self.ones is None:
            torch.add(freq.unsqueeze(-1), time.unsqueeze(-2), out=self._on_grid(scores))
        else:
            torch.matmul(torch.cat((freq, time), -1).transpose(0, 1), self.ones, out=scores.transpose(0, 1))

    def put_sums(self, piece: slice, scores: Tensor) -> None:
        """Write the sums of a piece's gradients (n, H, f * t), over time and over frequency, to the bias' terms."""
        freq, time = self.freq[piece], self.time[piece]
        if self.ones is None:
            torch.sum(self._on_grid(scores), -1, out=freq)
            torch.sum(self._on_grid(scores), -2, out=time)
        else:
            sums = torch.matmul(scores.transpose(0, 1), self.ones.T).transpose(0, 1)
            freq.copy_(sums[..., : freq.shape[-1]])
            time.copy_(sums[..., freq.shape[-1] :])

    def _on_grid(self, scores: Tensor) -> Tensor:
        return scores.unflatten(-1, (self.freq.shape[-1], self.time.shape[-1]))
