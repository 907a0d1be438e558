"""The HEAR benchmark's common API (https://hearbenchmark.com/hear-api.html) over a trained model of this project.

hear-validator reproduce.hear --model runs/KEY.safetensors
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reproduce.audio.log_mel import log_mel, normalise
from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError
from reproduce.evaluation.inference import TrainedModel
from reproduce.evaluation.sources import open_model

DEFAULT_MODEL = "demo"
BATCH = 16  # pieces per forward pass


class HearModel(nn.Module):
    """A model with the attributes that HEAR asks for.

    Attributes:
        sample_rate: Hz of the audio that the functions take.
        scene_embedding_size: width of a sound's embedding.
        timestamp_embedding_size: width of an embedding in time.
    """

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.model: Any = trained.model.eval()
        self.front_end: AudioSpec = trained.front_end
        self.sample_rate: int = trained.front_end.sample_rate
        self.scene_embedding_size: int = trained.model.embedding_dim
        self.timestamp_embedding_size: int = trained.model.embedding_dim

    def forward(self, audio: Tensor) -> Tensor:
        """(n, samples) to scene embeddings (n, width)."""
        return get_scene_embeddings(audio, self)


def load_model(model_file_path: str = "") -> HearModel:
    """Load a model on the CPU.

    Args:
        model_file_path: what `load_classifier` takes; "" for the demo model.

    Raises:
        InputError: the weights cannot be had or read.
    """
    return HearModel(open_model(model_file_path or DEFAULT_MODEL, "cpu"))


@torch.inference_mode()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """The mean of the pooled embeddings of each sound's pieces, each as long as the model's input.

    Args:
        audio: (n_sounds, n_samples) float32 at `model.sample_rate`, mono, full scale 1, of any length.
        model: from `load_model`, on the device of `audio`.

    Returns:
        (n_sounds, scene_embedding_size) float32.
    """
    _check(audio)
    samples = model.front_end.samples
    starts = list(range(0, max(1, audio.shape[1] - samples + 1), samples))
    if starts[-1] + samples < audio.shape[1]:
        starts.append(audio.shape[1] - samples)  # the last piece ends with the sound
    pieces = []
    for start in starts:
        inputs = _inputs(audio[:, start : start + samples], model)
        pieces.append(torch.cat([model.model.pool(model.model.forward_features(x)) for x in inputs.split(BATCH)]))
    return torch.stack(pieces).mean(dim=0).float()


@torch.inference_mode()
def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """The last block's tokens, their mean over frequency: one embedding per column of the model's time grid.

    AST's columns lie 100 ms apart and MAST's 320 ms at a hop of 10 ms. Each has seen the whole piece of sound that it
    lies in, which is as long as the model's input.

    Args:
        audio: as for `get_scene_embeddings`.
        model: likewise.

    Returns:
        (n_sounds, n_timestamps, timestamp_embedding_size) float32, and the middles of the columns in milliseconds,
        (n_sounds, n_timestamps) float32, evenly spaced.

    Raises:
        InputError: a model without a grid of tokens.
    """
    _check(audio)
    spec = model.front_end
    first, step, columns = _columns(model)  # frames
    piece = round(step * columns) * spec.hop_length  # samples from one piece to the next
    embeddings = []
    for start in range(0, max(1, audio.shape[1]), piece):
        inputs = _inputs(audio[:, start : start + spec.samples], model)
        parts = [
            model.model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[0].mean(dim=2).mT
            for x in inputs.split(BATCH)
        ]
        embeddings.append(torch.cat(parts))  # (n, columns, width)
    frames = first + step * torch.arange(columns * len(embeddings), dtype=torch.float64)
    times_ms = 1000 * (frames * spec.hop_length + (spec.win_length - spec.hop_length) / 2) / spec.sample_rate
    count = max(1, int((times_ms < 1000 * audio.shape[1] / spec.sample_rate).sum()))
    times = times_ms[:count].float().to(audio.device).expand(audio.shape[0], -1)
    return torch.cat(embeddings, dim=1)[:, :count].float(), times


def _columns(model: HearModel) -> tuple[float, float, int]:
    """The middle of the first column of the token grid and the distance of columns, in frames, and their number."""
    if not hasattr(model.model, "forward_intermediates"):
        raise InputError("timestamp embeddings need a model with a grid of tokens: use mast_* or ast_*")
    *_, last = model.model.block_shapes()
    config, frames, columns = model.model.config, model.front_end.frames, last.grid[1]
    size, step = getattr(config, "patch_size", frames), getattr(config, "patch_stride", frames)
    if columns == (frames - size) // step + 1:  # patches that are not pooled; they leave the last frames out
        return size / 2, float(step), columns
    return frames / columns / 2, frames / columns, columns


def _inputs(audio: Tensor, model: HearModel) -> Tensor:
    """(n, samples) to normalised log-mels (n, 1, mels, frames); each sound's mean is removed."""
    centred = audio.float() - audio.double().mean(dim=1, keepdim=True).float()
    return normalise(log_mel(centred, None, model.front_end), model.front_end)


def _check(audio: Tensor) -> None:
    if audio.ndim != 2 or not audio.shape[1]:
        raise InputError(f"audio of shape {tuple(audio.shape)}: pass (n_sounds, n_samples)")
