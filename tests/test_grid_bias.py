"""The bias of keys on a grid, and the sums of its gradient, are those of plain loops on both sides of NARROW_TIMES."""

from __future__ import annotations

import pytest
import torch

from models.grid_bias import NARROW_TIMES, GridBias, ones_of_keys

QUERIES, HEADS, FREQS = 7, 2, 3
TIMES = [1, 5, NARROW_TIMES - 1, NARROW_TIMES]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_every_pair_has_its_two_terms_and_every_term_its_sum(dtype: torch.dtype, times: int) -> None:
    generator = torch.Generator().manual_seed(0)
    freq, time, gradient = (
        torch.randn(QUERIES, HEADS, size, generator=generator).to(dtype) for size in (FREQS, times, FREQS * times)
    )
    ones, piece = ones_of_keys(FREQS, times, freq), slice(2, 6)
    scores = torch.full((HEADS, 4, FREQS * times), torch.nan, dtype=dtype).transpose(0, 1)
    GridBias(freq=freq, time=time, ones=ones).put(piece, scores)
    expected = (freq[piece].unsqueeze(-1) + time[piece].unsqueeze(-2)).flatten(2)
    torch.testing.assert_close(scores, expected, rtol=0, atol=0)  # a sum of two numbers is rounded once

    scores.copy_(gradient[piece])
    sums = GridBias(freq=torch.zeros_like(freq), time=torch.zeros_like(time), ones=ones)
    sums.put_sums(piece, scores)
    of_grid = gradient.double().unflatten(-1, (FREQS, times))
    outside = torch.ones(QUERIES, dtype=torch.bool)
    outside[piece] = False
    for sum_, exact in ((sums.freq, of_grid.sum(-1)), (sums.time, of_grid.sum(-2))):
        exact[outside] = 0.0
        torch.testing.assert_close(sum_, exact.to(dtype), rtol=0.01, atol=1e-5)


def test_products_stand_for_narrow_sums_in_bfloat16_alone() -> None:
    narrow = torch.empty(0, dtype=torch.bfloat16)
    assert ones_of_keys(FREQS, NARROW_TIMES - 1, narrow) is not None
    assert ones_of_keys(FREQS, NARROW_TIMES, narrow) is None
    assert ones_of_keys(FREQS, 5, narrow.float()) is None
