"""Statistics of log-mels over time, the input of the baseline: one vector per clip, whatever its length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from reproduce.audio.log_mel import log_mel, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import Problem
from reproduce.machine import decoding_threads
from reproduce.pool import ordered_map

FRONT_END = AudioSpec(mels=64, frames=1024, mean=0.0, std=1.0)  # AST's hop and window, half its mels
STATISTICS = ("mean", "deviation", "mean step between frames", "5th percentile", "95th percentile")  # of each mel


def log_mel_statistics(waveform: np.ndarray, spec: AudioSpec = FRONT_END) -> np.ndarray:
    """Summarise a (samples,) waveform as (5 x mels,) float32: STATISTICS of each mel over the frames of sound."""
    parts = [waveform[i : i + spec.samples] for i in range(0, max(1, len(waveform)), spec.samples)]
    parts = [part for part in parts if len(part) >= spec.win_length] or [_padded(parts[0], spec.win_length)]
    rows = []
    for part in parts:
        waveforms, lengths = stack_waveforms([part])
        rows.append(log_mel(waveforms, lengths, spec)[0, 0, :, : spec.frames_of(len(part))])
    frames = torch.cat(rows, dim=1)  # (mels, frames)
    steps = frames.diff(dim=1).abs().mean(dim=1) if frames.shape[1] > 1 else torch.zeros(len(frames))
    low, high = torch.quantile(frames, torch.tensor([0.05, 0.95]), dim=1)
    parts_of = (frames.mean(dim=1), frames.std(dim=1, correction=0), steps, low, high)
    return torch.cat(parts_of).numpy().astype(np.float32)


def _padded(waveform: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(waveform, (0, max(0, samples - len(waveform)))).astype(np.float32)


def store_features(
    store: WaveformStore, seconds: float, on_clip: Callable[[], object] = lambda: None
) -> list[np.ndarray | Problem]:
    """The statistics of every clip of `store`, or why it cannot be used.

    Args:
        store: the clips.
        seconds: of a longer clip, its first seconds count.
        on_clip: called after every clip, for a progress bar.
    """
    samples = round(seconds * FRONT_END.sample_rate)

    def features(position: int) -> np.ndarray | Problem:
        waveform = store.read(position)
        return waveform if isinstance(waveform, Problem) else log_mel_statistics(waveform[:samples])

    rows = []
    for row in ordered_map(features, range(len(store)), decoding_threads()):
        rows.append(row)
        on_clip()
    return rows
