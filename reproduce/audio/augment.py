"""AST's training augmentation (YuanGongND/ast `src/dataloader.py`; RECIPES.md section 1), on whole batches.

Order: waveform -> `mix_waveforms` -> `log_mel` -> `mask_log_mels` (SpecAugment) -> `normalise`. `draw_mixup` and
`draw_spans` draw the random numbers on the CPU, so that one seed gives the same draws on every device.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

MIXUP_ALPHA = 10.0  # lambda ~ Beta(10, 10): mostly close to one half
# Masked cells are 0 in log-mel units because AST masks *before* it normalises: a loud constant, not the mean.
MASK_LOG_MEL = 0.0

Targets = TypeVar("Targets", torch.Tensor, dict[str, torch.Tensor])


def draw_mixup(batch: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Draw (batch,) float64: the share of each clip in its mixture.

    With `probability` it is lambda ~ Beta(10, 10), otherwise 1.

    Args:
        batch: clips.
        probability: AST uses 0.5 for AudioSet, 0 for ESC-50, 0.6 for Speech Commands.
        rng: source of the draws.

    Raises:
        ValueError: `probability` is not within 0 and 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"mixup probability must be within 0 and 1, not {probability!r}")
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
    """Mix each clip with its partner: share * clip + (1 - share) * partner. A share of 1 changes nothing.

    A clip keeps its own length: the partner is cut to it, or followed by zeros. The mean of a mixed clip is removed
    again. The caller draws partners uniformly over the training set, never balance-sampled.

    Args:
        waveforms: (batch, samples), means removed, zeros behind the short ones.
        lengths: (batch,) samples of each clip.
        targets: (batch, classes), one-hot, multi-hot or soft; or a dict of heads of these.
        partners: (batch, any number of samples), zeros behind the short ones.
        partner_targets: as `targets`.
        shares: (batch,), see `draw_mixup`.

    Returns:
        New waveforms (batch, samples), zeros behind the short ones, and soft targets shaped as `targets`.
    """
    samples = waveforms.shape[1]
    lam = torch.from_numpy(shares).to(waveforms).unsqueeze(1)  # (batch, 1)

    inside = torch.arange(samples, device=waveforms.device) < lengths.to(waveforms.device).unsqueeze(1)
    short_by = max(0, samples - partners.shape[1])
    fitted = torch.nn.functional.pad(partners[:, :samples], (0, short_by)) * inside
    sums = lam * waveforms + (1 - lam) * fitted
    means = sums.sum(dim=1, keepdim=True) / lengths.to(sums).clamp(min=1).unsqueeze(1)
    mixed = torch.from_numpy(shares < 1).to(waveforms.device).unsqueeze(1)
    return torch.where(mixed, (sums - means) * inside, waveforms), _mix_targets(targets, partner_targets, lam)


def _mix_targets(targets: Targets, partners: Targets, lam: torch.Tensor) -> Targets:
    if isinstance(targets, torch.Tensor):
        return lam * targets + (1 - lam) * partners
    if targets.keys() != partners.keys():
        raise ValueError(f"heads differ: {', '.join(targets)} and {', '.join(partners)}")
    return {head: lam * target + (1 - lam) * partners[head] for head, target in targets.items()}


def draw_spans(batch: int, size: int, mask: int, generator: torch.Generator) -> torch.Tensor:
    """Draw (batch, 2) int64: the first masked cell of an axis and the one after the last.

    Widths and places are drawn as in torchaudio's FrequencyMasking and TimeMasking: v ~ U[0, mask) and
    v0 ~ U[0, size - v) are real numbers, and cells floor(v0) .. floor(v0) + floor(v) - 1 are masked. A width is
    therefore uniform over 0 .. mask - 1; a mask of 0 gives empty spans. Padding counts as time and may be masked.

    Args:
        batch: clips.
        size: mels or frames.
        mask: exclusive upper bound of the width; AudioSet 48 mels and 192 frames, ESC-50 24 and 96, Speech Commands
            48 and 48.
        generator: source of the draws.

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
    """Fill one frequency and one time span per clip with MASK_LOG_MEL; to be called before `normalise`.

    Args:
        log_mels: (batch, 1, mels, frames), un-normalised.
        freq_spans: (batch, 2), see `draw_spans`.
        time_spans: (batch, 2).

    Returns:
        A new tensor, shaped as `log_mels`.
    """
    batch, _, mels, frames = log_mels.shape
    rows = _in_spans(freq_spans, mels, log_mels.device).view(batch, 1, mels, 1)
    columns = _in_spans(time_spans, frames, log_mels.device).view(batch, 1, 1, frames)
    return log_mels.masked_fill(rows | columns, MASK_LOG_MEL)


def _in_spans(spans: torch.Tensor, size: int, device: torch.device) -> torch.Tensor:
    """(batch, size) bool."""
    cells, spans = torch.arange(size, device=device), spans.to(device)
    return (cells >= spans[:, :1]) & (cells < spans[:, 1:])
