"""The log-mel front end: ours on a batch, and torchaudio's `kaldi.fbank` in a loop, on the same ten-second clips."""

from __future__ import annotations

import pytest
import torch

from bench.conftest import Comparison
from reproduce.audio.log_mel import log_mel
from reproduce.audio.spec import AudioSpec
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget

CLIPS, SECONDS = 16, 10
SPEC = AudioSpec()
BUDGET = Budget(least=5, most=25, seconds=5)


def test_log_mel(compare: Comparison, device: str) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="the peer needs torchaudio")
    waveforms = 0.1 * torch.randn(CLIPS, SECONDS * SPEC.sample_rate, generator=torch.Generator().manual_seed(0))
    waveforms = waveforms.to(device)

    def loop() -> None:
        for waveform in waveforms:
            kaldi.fbank(
                waveform[None],
                htk_compat=True,
                sample_frequency=SPEC.sample_rate,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=SPEC.mels,
                dither=0.0,
                frame_shift=SPEC.frame_shift_ms,
            )

    candidates = [
        Candidate("log_mel, batched", lambda: log_mel(waveforms, None, SPEC), CLIPS),
        Candidate("torchaudio fbank, loop", loop, CLIPS),
    ]
    compare("front end", candidates, device, BUDGET, batch=CLIPS, seconds=SECONDS)
