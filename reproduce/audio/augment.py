"""AST's training augmentation (YuanGongND/ast `src/dataloader.py`; RECIPES.md section 1), on whole batches.

Order: waveform -> `mixup_waveforms` -> `audio.log_mel` -> `spec_augment` -> `audio.normalise` -> (`roll_time`, Speech
Commands only). Every function is pure and draws from the generator it is given, on the CPU, so that one seed gives
the same draws on every device.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

MIXUP_ALPHA = 10.0  # lambda ~ Beta(10, 10): mostly close to one half
# Masked cells are 0 in log-mel units because AST masks *before* it normalises: a loud constant, not the mean.
MASK_LOG_MEL = 0.0


Targets = TypeVar("Targets", torch.Tensor, dict[str, torch.Tensor])


def mixup_waveforms(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    targets: Targets,
    partners: torch.Tensor,
    partner_targets: Targets,
    probability: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, Targets]:
    """`mix_waveforms` with weights from `draw_mixup`."""
    lam = draw_mixup(len(waveforms), probability, rng)
    return mix_waveforms(waveforms, lengths, targets, partners, partner_targets, lam)


def draw_mixup(batch: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """(batch,) float64: each clip's own share. With `probability` it is lambda ~ Beta(10, 10), otherwise 1.

    Args:
        probability: AST uses 0.5 for AudioSet, 0 for ESC-50, 0.6 for Speech Commands.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"mixup probability must lie in [0, 1], not {probability!r}")
    mixed = rng.random(batch) < probability
    return np.where(mixed, rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, batch), 1.0)


def mix_waveforms(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    targets: Targets,
    partners: torch.Tensor,
    partner_targets: Targets,
    shares: np.ndarray,
) -> tuple[torch.Tensor, Targets]:
    """share * clip + (1 - share) * partner for each clip; one with a share of 1 stays as it is.

    A clip keeps its own length: the partner is cut to it, or followed by zeros. The mean of a mixed clip is removed
    again. Partners are the caller's to draw: uniformly over the training set, never balance-sampled.

    Args:
        waveforms: (batch, samples), means removed, zeros behind the short ones.
        lengths: (batch,) samples of each clip.
        targets, partner_targets: (batch, classes), one-hot, multi-hot or soft; or a dict of heads of these.
        partners: (batch, any number of samples), zeros behind the short ones.
        shares: (batch,), see `draw_mixup`.

    Returns:
        New waveforms (batch, samples), zeros behind the short ones, and soft targets shaped as `targets`.
    """
    samples = waveforms.shape[1]
    lam = torch.from_numpy(shares).to(waveforms).unsqueeze(1)  # (batch, 1)

    own = torch.arange(samples, device=waveforms.device) < lengths.to(waveforms.device).unsqueeze(1)
    short_by = max(0, samples - partners.shape[1])
    fitted = torch.nn.functional.pad(partners[:, :samples], (0, short_by)) * own
    sums = lam * waveforms + (1 - lam) * fitted
    means = sums.sum(dim=1, keepdim=True) / lengths.to(sums).clamp(min=1).unsqueeze(1)
    chosen = torch.from_numpy(shares < 1).to(waveforms.device).unsqueeze(1)
    return torch.where(chosen, (sums - means) * own, waveforms), _mix_targets(targets, partner_targets, lam)


def _mix_targets(targets: Targets, partners: Targets, lam: torch.Tensor) -> Targets:
    if isinstance(targets, torch.Tensor):
        return lam * targets + (1 - lam) * partners
    if targets.keys() != partners.keys():
        raise ValueError(f"heads differ: {', '.join(targets)} and {', '.join(partners)}")
    return {head: lam * target + (1 - lam) * partners[head] for head, target in targets.items()}


def spec_augment(log_mels: torch.Tensor, freq_mask: int, time_mask: int, generator: torch.Generator) -> torch.Tensor:
    """`mask_log_mels` with spans from `draw_spans`. (batch, 1, mels, frames) in and out, un-normalised."""
    batch, _, mels, frames = log_mels.shape
    freq_spans = draw_spans(batch, mels, freq_mask, generator)
    return mask_log_mels(log_mels, freq_spans, draw_spans(batch, frames, time_mask, generator))


def draw_spans(batch: int, size: int, mask: int, generator: torch.Generator) -> torch.Tensor:
    """(batch, 2) int64: the first masked cell of an axis and the one after the last; a mask of 0 gives empty spans.

    Widths and places are drawn as in torchaudio's FrequencyMasking and TimeMasking: v ~ U[0, mask) and
    v0 ~ U[0, size - v) are real numbers, and cells floor(v0) .. floor(v0) + floor(v) - 1 are masked. A width is
    therefore uniform over 0 .. mask - 1. Padding counts as time, so a mask may fall on it.

    Args:
        size: mels or frames.
        mask: exclusive upper bound of the width; AudioSet 48 mels and 192 frames, ESC-50 24 and 96, Speech Commands
            48 and 48.

    Raises:
        ValueError: a bound is negative or wider than its axis.
    """
    if not 0 <= mask <= size:
        raise ValueError(f"a mask of up to {mask} does not fit an axis of {size}")
    # float64, or a float32 product could round up to `mask` itself
    width = torch.rand(batch, 1, generator=generator, dtype=torch.float64) * mask
    first = (torch.rand(batch, 1, generator=generator, dtype=torch.float64) * (size - width)).floor()
    return torch.cat((first, first + width.floor()), dim=1).long()


def mask_log_mels(log_mels: torch.Tensor, freq_spans: torch.Tensor, time_spans: torch.Tensor) -> torch.Tensor:
    """One frequency and one time mask per clip, filled with MASK_LOG_MEL; call it before `audio.normalise`.

    Args:
        log_mels: (batch, 1, mels, frames), un-normalised.
        freq_spans, time_spans: (batch, 2), see `draw_spans`.
    """
    batch, _, mels, frames = log_mels.shape
    rows = _in_spans(freq_spans, mels, log_mels.device).view(batch, 1, mels, 1)
    columns = _in_spans(time_spans, frames, log_mels.device).view(batch, 1, 1, frames)
    return log_mels.masked_fill(rows | columns, MASK_LOG_MEL)


def _in_spans(spans: torch.Tensor, size: int, device: torch.device) -> torch.Tensor:
    """(batch, size) bool."""
    cells, spans = torch.arange(size, device=device), spans.to(device)
    return (cells >= spans[:, :1]) & (cells < spans[:, 1:])


def draw_shifts(batch: int, limit: int, generator: torch.Generator) -> torch.Tensor:
    """(batch,) int64 from -limit .. limit - 1 frames (AST: 10, Speech Commands only); zeros where `limit` is 0."""
    return torch.randint(-limit, limit, (batch,), generator=generator) if limit else torch.zeros(batch).long()


def roll_time(log_mels: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Rotate each clip along time by its own shift (batch,), in frames.

    (batch, 1, mels, frames) in and out; frames that leave one end enter at the other. Called after `normalise`.
    """
    batch, _, _, frames = log_mels.shape
    source = (torch.arange(frames) - shifts.view(batch, 1)) % frames  # (batch, frames)
    return log_mels.gather(-1, source.to(log_mels.device).view(batch, 1, 1, frames).expand_as(log_mels))
