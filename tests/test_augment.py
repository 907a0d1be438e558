"""Augmentation: AST's distributions and order, and a generator that matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reproduce.audio.augment import MASK_LOG_MEL, draw_mixup, draw_spans, mask_log_mels, mix_waveforms


def make_batch(batch: int = 4, samples: int = 50, seed: int = 0) -> torch.Tensor:
    waveforms = torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))
    return waveforms - waveforms.mean(dim=1, keepdim=True)


def mix(
    waveforms: torch.Tensor,
    partners: torch.Tensor,
    probability: float = 1.0,
    seed: int = 0,
    lengths: list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix class 0 (clips) with class 1 (partners): target column 0 is then lambda."""
    batch, samples = waveforms.shape
    own, other = torch.eye(2)[[0] * batch], torch.eye(2)[[1] * batch]
    sizes = torch.tensor(lengths or [samples] * batch)
    shares = draw_mixup(batch, probability, np.random.default_rng(seed))
    return mix_waveforms(waveforms, sizes, own, partners, other, shares)


def mask(log_mels: torch.Tensor, freq_mask: int, time_mask: int, seed: int) -> torch.Tensor:
    batch, _, mels, frames = log_mels.shape
    generator = torch.Generator().manual_seed(seed)
    freq_spans = draw_spans(batch, mels, freq_mask, generator)
    return mask_log_mels(log_mels, freq_spans, draw_spans(batch, frames, time_mask, generator))


def test_mixup_mixes_waveforms_and_labels_with_the_same_weight() -> None:
    waveforms, partners = make_batch(seed=1), make_batch(seed=2)
    mixed, targets = mix(waveforms, partners)
    lam = targets[:, :1]
    torch.testing.assert_close(mixed, lam * waveforms + (1 - lam) * partners)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert lam.unique().numel() == 4


def test_mixup_weights_follow_beta_10_10() -> None:
    lam = mix(torch.zeros(20_000, 1), torch.zeros(20_000, 1))[1][:, 0]
    assert lam.mean().item() == pytest.approx(0.5, abs=0.003)
    assert lam.var().item() == pytest.approx(1 / 84, rel=0.05)  # ab / ((a + b)^2 (a + b + 1))


def test_mixup_removes_the_mean_again() -> None:
    partners = make_batch(seed=3)[:, :20]  # cut, so its mean is no longer 0
    mixed, _ = mix(make_batch(seed=2), partners)
    assert partners.mean(dim=1).abs().max() > 1e-2
    assert mixed.mean(dim=1).abs().max() < 1e-6


@pytest.mark.parametrize("partner_samples", [20, 50, 90])
def test_mixup_keeps_each_clips_own_length(partner_samples: int) -> None:
    waveforms = make_batch()
    waveforms[1, 30:] = 0
    mixed, _ = mix(waveforms, make_batch(samples=partner_samples, seed=5), lengths=[50, 30, 50, 50])
    assert mixed.shape == waveforms.shape
    assert torch.all(mixed[1, 30:] == 0)
    assert torch.all(mixed[1, :30] != 0)
    assert mixed[1, :30].mean().abs() < 1e-6


def test_mixup_takes_a_dict_of_heads() -> None:
    heads = {"verb": torch.eye(3)[:2], "noun": torch.eye(4)[:2]}
    others = {"verb": torch.eye(3)[1:], "noun": torch.eye(4)[2:]}
    waveforms, sizes, shares = make_batch(2), torch.tensor([50, 50]), np.array([0.25, 0.5])
    _, targets = mix_waveforms(waveforms, sizes, heads, waveforms, others, shares)
    assert targets["verb"].shape == (2, 3) and targets["noun"].shape == (2, 4)
    assert targets["verb"][0, 0] == targets["noun"][0, 0] == 0.25
    with pytest.raises(ValueError, match="heads differ"):
        mix_waveforms(waveforms, sizes, heads, waveforms, {"verb": others["verb"]}, shares)


def test_mixup_leaves_its_inputs_alone_and_depends_on_the_generator() -> None:
    waveforms, partners = make_batch(seed=1), make_batch(seed=2)
    before = waveforms.clone()
    first, again, other = (mix(waveforms, partners, seed=seed)[0] for seed in (7, 7, 8))
    assert torch.equal(waveforms, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_mixup_refuses_an_impossible_probability(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        draw_mixup(4, probability, np.random.default_rng(0))


def test_mixup_shares_are_drawn_clip_by_clip_and_never_at_a_probability_of_0() -> None:
    shares = draw_mixup(10_000, 0.6, np.random.default_rng(0))
    assert shares.dtype == np.float64 and (shares > 0).all() and (shares <= 1).all()
    assert (shares < 1).mean() == pytest.approx(0.6, abs=0.02)
    assert shares[shares < 1].mean() == pytest.approx(0.5, abs=0.005)
    assert (draw_mixup(10_000, 0.0, np.random.default_rng(0)) == 1).all()
    assert (draw_mixup(10_000, 1.0, np.random.default_rng(0)) < 1).all()


def test_mixing_follows_the_given_shares_whoever_else_is_in_the_batch() -> None:
    waveforms, partners, sizes = make_batch(seed=1), make_batch(seed=2), torch.tensor([50] * 4)
    own, other, shares = torch.eye(4), torch.eye(4).flip(0), np.array([0.25, 1.0, 0.5, 0.75])
    mixed, targets = mix_waveforms(waveforms, sizes, own, partners, other, shares)
    assert torch.equal(mixed[1], waveforms[1]) and torch.equal(targets[1], own[1])
    torch.testing.assert_close(mixed[0], 0.25 * waveforms[0] + 0.75 * partners[0])
    torch.testing.assert_close(targets[0], torch.tensor([0.25, 0.0, 0.0, 0.75]))
    for i in range(4):
        row = slice(i, i + 1)
        alone, _ = mix_waveforms(waveforms[row], sizes[row], own[row], partners[row], other[row], shares[row])
        torch.testing.assert_close(alone[0], mixed[i])


def test_specaugment_matches_torchaudios_distribution_of_widths_and_places() -> None:
    transforms = pytest.importorskip("torchaudio.transforms")
    n, size, bound = 4000, 32, 24
    ours = mask(torch.ones(n, 1, size, 1), bound, 0, seed=0)[:, 0, :, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        masking = transforms.FrequencyMasking(bound)
        theirs = torch.stack([masking(torch.ones(1, size, 1))[0, :, 0] for _ in range(n)])
    torch.testing.assert_close(ours.mean(dim=0), theirs.mean(dim=0), atol=0.04, rtol=0)
    widths = [torch.bincount((x == 0).sum(dim=1), minlength=bound) / n for x in (ours, theirs)]
    torch.testing.assert_close(*widths, atol=0.02, rtol=0)


def test_specaugment_draws_one_span_per_axis_and_clip() -> None:
    masked = mask(torch.ones(16, 1, 128, 1024), 48, 192, seed=3)[:, 0] == MASK_LOG_MEL
    rows, columns = masked.all(dim=2), masked.all(dim=1)
    assert torch.equal(masked, rows[:, :, None] | columns[:, None, :])
    for spans in (rows, columns):
        edges = spans.int().diff(dim=1).abs().sum(dim=1)
        assert edges.max() <= 2  # contiguous
        assert len({tuple(row.tolist()) for row in spans}) > 8  # each clip its own


def test_specaugment_depends_on_the_generator_and_leaves_its_input_alone() -> None:
    given = torch.ones(4, 1, 128, 1024)
    masked = mask(given, 48, 192, seed=1)
    assert torch.equal(masked, mask(given, 48, 192, seed=1))
    assert not torch.equal(masked, mask(given, 48, 192, seed=2))
    assert torch.all(given == 1)


def test_specaugment_refuses_masks_wider_than_the_axis() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw_spans(1, 1024, 1025, torch.Generator())


def test_spans_lie_on_their_axis_and_are_empty_without_a_mask() -> None:
    spans = draw_spans(5000, 10, 10, torch.Generator().manual_seed(0))
    assert spans.shape == (5000, 2) and spans.dtype == torch.int64
    first, stop = spans.T
    assert ((first >= 0) & (first <= stop) & (stop <= 10)).all()
    assert set((stop - first).tolist()) == set(range(10))
    none = draw_spans(100, 10, 0, torch.Generator().manual_seed(0))
    assert (none[:, 0] == none[:, 1]).all()


def test_masks_cover_their_spans_and_nothing_else() -> None:
    masked = mask_log_mels(torch.ones(2, 1, 4, 6), torch.tensor([[1, 3], [0, 0]]), torch.tensor([[5, 6], [2, 4]]))
    expected = torch.ones(2, 1, 4, 6)
    expected[0, :, 1:3] = expected[0, :, :, 5:6] = expected[1, :, :, 2:4] = MASK_LOG_MEL
    assert torch.equal(masked, expected)
