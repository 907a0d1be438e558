"""From waveforms to log-mel spectrograms: the only feature code of the project.

`load_waveform` -> `crop` -> `stack_waveforms` -> `log_mel` -> `normalise`. The front end is AST's (YuanGongND/ast
`src/dataloader.py`): `torchaudio.compliance.kaldi.fbank` with a Hann window, 128 mels, no dither, on waveforms that are
*not* scaled by 2**15. `log_mel` repeats torchaudio's arithmetic on whole batches and on any device, or calls torchaudio
where `AudioSpec.implementation` says so.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from reproduce.audio.kaldi import write_kaldi_log_mels
from reproduce.audio.spec import TORCHAUDIO, AudioSpec

LOG_MEL_FLOOR_ENERGY = torch.finfo(torch.float32).eps  # kaldi floors mel energies at 1.19e-7, i.e. log-mel -15.942
# AST's quirk: frames past a clip's end are 0 in *log*-mel units, before normalisation. That is a loud constant
# (+0.467 after normalisation with AudioSet's statistics), not silence (-1.278) and not the mean (0).
PADDING_LOG_MEL = 0.0
_CUDA_CHUNK_CLIPS = 64  # bounds memory: about 0.4 GiB of frames and spectra at 1024 frames
_MEL_BANDS = 4  # mel filters are narrow: four blocks of the matrix skip most of its zeros


def stack_waveforms(waveforms: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms of any lengths -> (batch, longest) float32, zeros behind the short ones, and (batch,) int64 lengths."""
    lengths = torch.tensor([len(w) for w in waveforms], dtype=torch.int64)
    batch = torch.zeros(len(waveforms), int(lengths.max()), dtype=torch.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


# --- spectrograms --------------------------------------------------------------------------------------------


def mel_filters(spec: AudioSpec) -> torch.Tensor:
    """Triangular filters on the HTK mel scale, (mels, fft // 2 + 1) float32, as kaldi's get_mel_banks.

    Computed in float32 and in torchaudio's order of operations: a filter that touches a single FFT bin would
    otherwise differ visibly. At 128 mels and a 512-point FFT filter 3 lies between two bins and is empty.
    """

    def mel_of(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    low = mel_of(spec.low_hz)
    step = (mel_of(spec.top_hz) - low) / (spec.mels + 1)
    index = torch.arange(spec.mels).unsqueeze(1)
    left, centre, right = low + index * step, low + (index + 1.0) * step, low + (index + 2.0) * step
    hz = spec.sample_rate / spec.n_fft * torch.arange(spec.n_fft / 2)
    mel = (1127.0 * (1.0 + hz / 700.0).log()).unsqueeze(0)
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    return torch.nn.functional.pad(filters, (0, 1))  # kaldi gives the Nyquist bin no weight


@dataclass(frozen=True)
class _Constants:
    window: torch.Tensor  # (window,)
    bands: tuple[tuple[slice, slice, torch.Tensor], ...]  # mels of a band, its FFT bins, and (mels, bins) weights


@lru_cache(maxsize=32)
def _constants(spec: AudioSpec, device: torch.device, dtype: torch.dtype) -> _Constants:
    window = torch.hann_window(spec.win_length, periodic=False)
    bands, start = [], 0
    for rows in mel_filters(spec).chunk(_MEL_BANDS):
        mels = slice(start, start + len(rows))
        start = mels.stop
        used = torch.nonzero(rows.sum(dim=0)).flatten()
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        bands.append((mels, bins, rows[:, bins].to(device, dtype, copy=True).contiguous()))
    return _Constants(window.to(device, dtype), tuple(bands))


@torch.no_grad()
def log_mel(waveforms: torch.Tensor, lengths: torch.Tensor | None, spec: AudioSpec) -> torch.Tensor:
    """AST's log-mel spectrogram, un-normalised, on the device and in the precision of `waveforms`.

    Equals `torchaudio.compliance.kaldi.fbank(w, htk_compat=True, use_energy=False, window_type="hanning",
    num_mel_bins=128, dither=0, frame_shift=10)` clip by clip. On the CPU every operation rounds as theirs does:
    in clips without high frequencies float32 rounding moves cells near the floor by up to 4e-3, so cheaper
    algebra (pre-emphasis of the whole waveform, folded DC removal) would not agree to 1e-4.

    Args:
        waveforms: (batch, samples) float, means removed, zeros behind the short ones.
        lengths: (batch,) samples of each clip, or None when all fill the width.

    Returns:
        (batch, 1, mels, frames). Only whole windows count (10 s give 998 frames); frames past a clip's end are
        PADDING_LOG_MEL, and a clip shorter than one window, where kaldi.fbank stops with an assertion, is all
        padding. Longer clips keep their first `frames`. The batch does not change a clip's values on the CPU.

    Raises:
        ValueError: `lengths` do not fit `waveforms`.
        InputError: the front end is torchaudio's, and torchaudio cannot be imported.
    """
    batch, samples = waveforms.shape
    counts = [samples] * batch if lengths is None else [int(n) for n in lengths.tolist()]
    if len(counts) != batch or any(not 0 <= n <= samples for n in counts):
        raise ValueError(f"lengths must be {batch} numbers from 0 to {samples}, not {counts}")
    frames = [spec.frames_of(n) for n in counts]
    out = waveforms.new_full((batch, 1, spec.mels, spec.frames), PADDING_LOG_MEL)
    if spec.implementation == TORCHAUDIO:
        with _full_precision(waveforms.device):
            write_kaldi_log_mels(waveforms, frames, spec, out)
        return out
    # One clip at a time stays in a CPU's cache (measured faster than a batch) and leaves no padded frame to compute.
    step = 1 if waveforms.device.type == "cpu" else _CUDA_CHUNK_CLIPS
    scratch = _Scratch.of(min(step, batch), max(frames, default=0), waveforms, spec)
    with _full_precision(waveforms.device):
        for i in range(0, batch, step):
            longest = max(frames[i : i + step])
            if longest:
                used = spec.win_length + (longest - 1) * spec.hop_length
                _log_mel_of_full_rows(waveforms[i : i + step, :used], spec, scratch, out[i : i + step, 0, :, :longest])
    if step > 1:
        ends = torch.tensor(frames, device=out.device).view(batch, 1, 1, 1)
        out.masked_fill_(torch.arange(spec.frames, device=out.device) >= ends, PADDING_LOG_MEL)
    return out


@dataclass(frozen=True)
class _Scratch:
    """Intermediate results, allocated once and reused from clip to clip, as fresh memory costs time."""

    means: torch.Tensor  # (clips, frames, 1)
    padded: torch.Tensor  # (clips, frames, fft): windowed frames with zeros behind them
    weighted: torch.Tensor  # (clips, frames, window - 1): predecessors times the pre-emphasis
    power: torch.Tensor  # (clips, frames, fft // 2 + 1)

    @classmethod
    def of(cls, clips: int, frames: int, like: torch.Tensor, spec: AudioSpec) -> _Scratch:
        bins = spec.n_fft // 2 + 1
        return cls(
            like.new_empty(clips, frames, 1),
            like.new_zeros(clips, frames, spec.n_fft),
            like.new_empty(clips, frames, spec.win_length - 1),
            like.new_empty(clips, frames, bins),
        )

    def part(self, clips: int, frames: int) -> _Scratch:
        parts = (self.means, self.padded, self.weighted, self.power)
        return _Scratch(*(x[:clips, :frames] for x in parts))


def _log_mel_of_full_rows(waveforms: torch.Tensor, spec: AudioSpec, scratch: _Scratch, out: torch.Tensor) -> None:
    """(clips, samples) into `out` (clips, mels, frames), every frame of which is sound."""
    constants = _constants(spec, waveforms.device, waveforms.dtype)
    scratch = scratch.part(len(out), out.shape[-1])
    frames = waveforms.unfold(-1, spec.win_length, spec.hop_length)  # (clips, frames, window), a view
    windowed = scratch.padded[..., : spec.win_length]
    torch.sub(frames, torch.mean(frames, -1, keepdim=True, out=scratch.means), out=windowed)
    if spec.preemphasis:
        # The first sample has no predecessor; kaldi takes itself, and the Hann window then multiplies it by 0.
        windowed[..., 1:] -= torch.mul(windowed[..., :-1], spec.preemphasis, out=scratch.weighted)
    windowed *= constants.window
    squares = torch.view_as_real(torch.fft.rfft(scratch.padded)).square_()
    power = torch.add(squares[..., 0], squares[..., 1], out=scratch.power)
    for mels, bins, weights in constants.bands:
        torch.bmm(weights.expand(len(out), -1, -1), power[..., bins].mT, out=out[:, mels])
    out.clamp_(min=LOG_MEL_FLOOR_ENERGY).log_()


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast and TF32 off: with 10 mantissa bits a log-mel is off by up to 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def normalise(log_mels: torch.Tensor, spec: AudioSpec) -> torch.Tensor:
    """(x - mean) / (2 * std) of log-mels of any shape: AST scales to a standard deviation of 0.5, not 1."""
    return (log_mels - spec.mean) / (2 * spec.std)
