"""The second implementation of the front end: `torchaudio.compliance.kaldi.fbank`, the call that AST's code makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError


def write_kaldi_log_mels(waveforms: torch.Tensor, frames: Sequence[int], spec: AudioSpec, out: torch.Tensor) -> None:
    """Write torchaudio's log-mels of every clip into `out`, whose other frames stay as they are.

    Args:
        waveforms: (batch, samples) float.
        frames: whole windows of each clip, at most `spec.frames`; 0 for a clip shorter than a window.
        spec: parameters of the spectrogram.
        out: (batch, 1, mels, frames), on the device and in the precision of `waveforms`.

    Raises:
        InputError: torchaudio cannot be imported.
    """
    try:
        from torchaudio.compliance import kaldi  # late: only this front end needs it
    except (ImportError, OSError) as error:
        raise InputError(
            f"--front-end torchaudio: cannot import torchaudio ({error}): install the release that fits torch "
            f"{torch.__version__}, or omit the option"
        ) from None
    for waveform, count, log_mels in zip(waveforms, frames, out, strict=True):
        if count:
            used = spec.win_length + (count - 1) * spec.hop_length
            log_mels[0, :, :count] = kaldi.fbank(
                waveform[None, :used],
                htk_compat=True,
                use_energy=False,
                window_type="hanning",
                dither=0.0,
                sample_frequency=float(spec.sample_rate),
                num_mel_bins=spec.mels,
                frame_length=spec.frame_length_ms,
                frame_shift=spec.frame_shift_ms,
                low_freq=spec.low_hz,
                high_freq=spec.high_hz,
                preemphasis_coefficient=spec.preemphasis,
            ).T
