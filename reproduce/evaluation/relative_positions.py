"""The verb `inspect`: one sound through a trained model, for the figures of its input and its relative positions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import SpectrogramTransformer
from models.checkpoints import weights_sha256
from models.mast_model import MAST
from models.pooling_attention import PoolingAttention
from reproduce.audio.log_mel import log_mel, normalise
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_waveform
from reproduce.environment import describe_environment
from reproduce.evaluation.inference import TrainedModel
from reproduce.records.inspections import KIND, Inspection, Profile, save_inspection
from reproduce.records.record import RunRecord, now
from reproduce.records.store import append_record


def inspect(trained: TrainedModel, sound: Path, device: str) -> Inspection:
    """The start of `sound` as the model gets it; and of a MAST how every block's relative positions weigh distance.

    Raises:
        InputError: the sound cannot be read.
    """
    spec = trained.front_end
    waveform = load_waveform(sound, spec, max_samples=spec.samples)
    with torch.inference_mode():
        samples = torch.from_numpy(waveform)[None].to(device)
        spectrogram = normalise(log_mel(samples, None, spec), spec)
        freq, time = relative_profiles(trained.model, spectrogram, spec)
    shift = spec.frame_shift_ms / 1000
    return Inspection(waveform, spec.sample_rate, spectrogram[0, 0].cpu().numpy(), shift, freq, time)


def relative_profiles(
    model: SpectrogramTransformer, x: Tensor, spec: AudioSpec
) -> tuple[tuple[Profile, ...], tuple[Profile, ...]]:
    """Along frequency and along time, a profile a block of MAST; nothing of AST.

    Args:
        x: (1, 1, mels, frames), normalised.
    """
    if not isinstance(model, MAST):
        return (), ()
    found: list[tuple[Profile, Profile]] = []
    units = (1.0, spec.frame_shift_ms / 1000)

    def note(attn: PoolingAttention, q: Tensor) -> None:
        terms = attn.relative_terms(q.transpose(1, 2)[:, :, attn.prefix_tokens :])
        freq = terms[0].mean(dim=(0, 1, 3))  # (B, H, F, T, f) to (F, f)
        time = terms[1].mean(dim=(0, 1, 2))  # (B, H, F, T, t) to (T, t)
        profiles = (
            _profile(mean.float().cpu().numpy(), index.cpu().numpy(), size * unit)
            for mean, index, size, unit in zip(
                (freq, time), (attn.freq_index, attn.time_index), model.config.input_size, units, strict=True
            )
        )
        found.append((next(profiles), next(profiles)))

    hooks = [
        block.attn.norm_q.register_forward_hook(lambda _, __, q, attn=block.attn: note(attn, q))
        for block in model.blocks
    ]
    try:
        model.forward_features(x)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(freq for freq, _ in found), tuple(time for _, time in found)


def _profile(bias: np.ndarray, index: np.ndarray, extent: float) -> Profile:
    """(queries, keys) biases averaged by row of the table, and each row's distance where the axis spans `extent`."""
    queries, keys = bias.shape
    counts = np.bincount(index.ravel())
    rows = np.flatnonzero(counts)
    means = np.bincount(index.ravel(), weights=bias.ravel())[rows] / counts[rows]
    # From centre to centre: on the coarser axis a token spans several of the finer one's, whose unit rows count in.
    finer = max(queries, keys)
    span_q, span_k = finer / queries, finer / keys
    away = (rows - (keys - 1) * span_k + (span_q - span_k) / 2) * extent / finer  # query less key
    return Profile(-away[::-1], means[::-1])


def record_inspection(
    trained: TrainedModel, sound: Path, inspection: Inspection, device: str, records_dir: Path
) -> RunRecord:
    """Store the arrays and the record. The sound is known by its name and its samples, not by its place."""
    experiment: dict[str, Any] = {
        "model": trained.name,
        "sound": sound.name,
        "samples_sha256": hashlib.sha256(inspection.waveform.tobytes()).hexdigest(),
        "front_end": trained.front_end.to_dict(),
        "trained_on": list(trained.trained_on),
        "weights_sha256": weights_sha256(trained.model),
    }
    key = hashlib.sha256(json.dumps(experiment, sort_keys=True).encode()).hexdigest()[:16]
    record = RunRecord(
        kind=KIND,
        key=key,
        experiment=experiment,
        scale=trained.scale,
        metrics={},
        environment=describe_environment(device, "float32"),
        weights_sha256=experiment["weights_sha256"],
        predictions=save_inspection(records_dir, key, inspection),
        created=now(),
    )
    append_record(records_dir, record)
    return record
