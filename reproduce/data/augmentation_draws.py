"""What is random about the clips of a training step: mixup partners and weights, crops and SpecAugment masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from reproduce.audio.augment import draw_mixup, draw_spans
from reproduce.data.waveform_store import WaveformStore
from reproduce.experiments.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class AugmentationDraws:
    """Everything random about the clips of one step.

    Args:
        positions: (clips,) int64, positions in the store.
        partners: (clips,) int64, positions of the mixup partners.
        mixup_weights: (clips,) float64, weight of the clip in its mixture; 1 where it is not mixed.
        crop_points: (clips, 2) float64, where the clip and its partner are cropped: 0 is the earliest crop of a longer
            clip, 1 the latest.
        freq_spans: (clips, 2) int64, see `draw_spans`.
        time_spans: (clips, 2) int64, see `draw_spans`.
    """

    positions: np.ndarray
    partners: np.ndarray
    mixup_weights: np.ndarray
    crop_points: np.ndarray
    freq_spans: torch.Tensor
    time_spans: torch.Tensor


def draw_augmentation(
    positions: np.ndarray, store: WaveformStore, recipe: Recipe, seed: tuple[int, int, int]
) -> AugmentationDraws:
    """Draw the augmentation of one step for the (clips,) `positions`; `seed` is (seed, epoch, step)."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    clips = len(positions)
    # The order of these draws is part of every epoch's identity.
    return AugmentationDraws(
        positions=positions,
        partners=rng.integers(len(store), size=clips),
        mixup_weights=draw_mixup(clips, recipe.mixup, rng),
        crop_points=rng.random((clips, 2)) if recipe.crop == "random" else np.zeros((clips, 2)),
        freq_spans=draw_spans(clips, store.spec.mels, recipe.freq_mask, generator),
        time_spans=draw_spans(clips, store.spec.frames, recipe.time_mask, generator),
    )
