"""One sound through a trained model, for the figures of its input and of MAST's relative positions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import SpectrogramClassifier
from models.checkpoints import weights_sha256
from models.pooling_attention import relative_index
from reproduce.audio.log_mel import log_mel, normalise
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_waveform
from reproduce.environment import describe_environment
from reproduce.evaluation.inference import TrainedModel
from reproduce.keys import hash_key
from reproduce.records.inspections import KIND, Inspection, Profile, save_inspection
from reproduce.records.record import RunRecord, now
from reproduce.records.store import append_record


def inspect(trained: TrainedModel, sound: Path, device: str) -> Inspection:
    """The start of `sound` as the model's input, and how the relative positions of each block of a MAST weigh distance.

    Args:
        trained: see there.
        sound: a sound file.
        device: of the model.

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
    model: SpectrogramClassifier, x: Tensor, spec: AudioSpec
) -> tuple[tuple[Profile, ...], tuple[Profile, ...]]:
    """Along frequency and along time, one profile per block of MAST; none for AST.

    Args:
        model: in evaluation mode.
        x: (1, 1, mels, frames), normalised.
        spec: front end, for the distance between frames.
    """
    units = (1.0, spec.frame_shift_ms / 1000)
    mels, seconds = (size * unit for size, unit in zip(model.config.input_size, units, strict=True))
    terms = model.relative_position_terms(x)
    return tuple(mean_bias_by_distance(freq.cpu().numpy(), mels) for freq, _ in terms), tuple(
        mean_bias_by_distance(time.cpu().numpy(), seconds) for _, time in terms
    )


def mean_bias_by_distance(bias: np.ndarray, extent: float) -> Profile:
    """Average biases over the pairs that share a row of the relative-position table.

    Args:
        bias: (queries, keys) along one axis.
        extent: length of the axis, in the unit of the profile's distances.
    """
    queries, keys = bias.shape
    index = relative_index(queries, keys).numpy().ravel()
    counts = np.bincount(index)
    rows = np.flatnonzero(counts)
    means = np.bincount(index, weights=bias.astype(np.float64).ravel())[rows] / counts[rows]
    # Rows count tokens of the finer axis; distances are from centre to centre.
    finer = max(queries, keys)
    span_q, span_k = finer / queries, finer / keys
    distance = (rows - (keys - 1) * span_k + (span_q - span_k) / 2) * extent / finer  # query less key
    return Profile(-distance[::-1], means[::-1])


def record_inspection(
    trained: TrainedModel, sound: Path, inspection: Inspection, device: str, records_dir: Path
) -> RunRecord:
    """Store the arrays, append and return the record. The sound is identified by its name and samples, not its folder.

    Args:
        trained: see there.
        sound: the file that was inspected.
        inspection: of that file.
        device: of the model.
        records_dir: folder of the records.

    Raises:
        InputError: the folder cannot be written.
    """
    experiment: dict[str, Any] = {
        "model": trained.name,
        "sound": sound.name,
        "samples_sha256": hashlib.sha256(inspection.waveform.tobytes()).hexdigest(),
        "front_end": trained.front_end.to_dict(),
        "trained_on": list(trained.trained_on),
        "weights_sha256": weights_sha256(trained.model),
    }
    key = hash_key(experiment)
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
