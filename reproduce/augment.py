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
    """With `probability`, lambda * clip + (1 - lambda) * partner for each clip, lambda ~ Beta(10, 10).

    A clip keeps its own length: the partner is cut to it, or followed by zeros. The mean of a mixed clip is removed
    again. Partners are the caller's to draw: uniformly over the training set, never balance-sampled.

    Args:
        waveforms: (batch, samples), means removed, zeros behind the short ones.
        lengths: (batch,) samples of each clip.
        targets, partner_targets: (batch, classes), one-hot, multi-hot or soft; or a dict of heads of these.
        partners: (batch, any number of samples), zeros behind the short ones.
        probability: AST uses 0.5 for AudioSet, 0 for ESC-50, 0.6 for Speech Commands.

    Returns:
        New waveforms (batch, samples), zeros behind the short ones, and soft targets shaped as `targets`.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"mixup probability must lie in [0, 1], not {probability!r}")
    batch, samples = waveforms.shape
    mixed = rng.random(batch) < probability
    weights = np.where(mixed, rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, batch), 1.0)
    lam = torch.from_numpy(weights).to(waveforms).unsqueeze(1)  # (batch, 1)

    own = torch.arange(samples, device=waveforms.device) < lengths.to(waveforms.device).unsqueeze(1)
    short_by = max(0, samples - partners.shape[1])
    fitted = torch.nn.functional.pad(partners[:, :samples], (0, short_by)) * own
    sums = lam * waveforms + (1 - lam) * fitted
    means = sums.sum(dim=1, keepdim=True) / lengths.to(sums).clamp(min=1).unsqueeze(1)
    chosen = torch.from_numpy(mixed).to(waveforms.device).unsqueeze(1)
    return torch.where(chosen, (sums - means) * own, waveforms), _mix_targets(targets, partner_targets, lam)


def _mix_targets(targets: Targets, partners: Targets, lam: torch.Tensor) -> Targets:
    if isinstance(targets, torch.Tensor):
        return lam * targets + (1 - lam) * partners
    if targets.keys() != partners.keys():
        raise ValueError(f"heads differ: {', '.join(targets)} and {', '.join(partners)}")
    return {head: lam * target + (1 - lam) * partners[head] for head, target in targets.items()}


def spec_augment(log_mels: torch.Tensor, freq_mask: int, time_mask: int, generator: torch.Generator) -> torch.Tensor:
    """One frequency and one time mask per clip, filled with MASK_LOG_MEL; call it before `audio.normalise`.

    Widths and places are drawn as in torchaudio's FrequencyMasking and TimeMasking: v ~ U[0, mask) and
    v0 ~ U[0, size - v) are real numbers, and cells floor(v0) .. floor(v0) + floor(v) - 1 are masked. A width is
    therefore uniform over 0 .. mask - 1. Padding counts as time, so a mask may fall on it. Masks of 0 do nothing.

    Args:
        log_mels: (batch, 1, mels, frames), un-normalised.
        freq_mask, time_mask: exclusive upper bounds of the widths, in mels and frames; AudioSet 48 and 192,
            ESC-50 24 and 96, Speech Commands 48 and 48.

    Raises:
        ValueError: a bound is negative or wider than its axis.
    """
    batch, _, mels, frames = log_mels.shape
    rows = _draw_spans(batch, mels, freq_mask, generator).to(log_mels.device).view(batch, 1, mels, 1)
    columns = _draw_spans(batch, frames, time_mask, generator).to(log_mels.device).view(batch, 1, 1, frames)
    return log_mels.masked_fill(rows | columns, MASK_LOG_MEL)


def _draw_spans(batch: int, size: int, mask: int, generator: torch.Generator) -> torch.Tensor:
    """(batch, size) bool with one random span per row."""
    if not 0 <= mask <= size:
        raise ValueError(f"a mask of up to {mask} does not fit an axis of {size}")
    # float64, or a float32 product could round up to `mask` itself
    width = torch.rand(batch, 1, generator=generator, dtype=torch.float64) * mask
    first = (torch.rand(batch, 1, generator=generator, dtype=torch.float64) * (size - width)).floor()
    cells = torch.arange(size)
    return (cells >= first) & (cells < first + width.floor())


def roll_time(log_mels: torch.Tensor, limit: int, generator: torch.Generator) -> torch.Tensor:
    """Rotate each clip along time by its own shift from -limit .. limit - 1 frames (AST: 10, Speech Commands only).

    (batch, 1, mels, frames) in and out; frames that leave one end enter at the other. Called after `normalise`.
    """
    batch, _, _, frames = log_mels.shape
    shifts = torch.randint(-limit, limit, (batch, 1), generator=generator)
    source = (torch.arange(frames) - shifts) % frames  # (batch, frames)
    return log_mels.gather(-1, source.to(log_mels.device).view(batch, 1, 1, frames).expand_as(log_mels))
