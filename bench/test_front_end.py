"""The log-mel front end: ours in a batch, and torchaudio's `kaldi.fbank` in a loop, on the same ten-second clips."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from reproduce.audio import log_mel
from reproduce.audio_spec import AudioSpec

CLIPS, SECONDS = 16, 10
SPEC = AudioSpec()


def noise() -> torch.Tensor:
    """(CLIPS, samples): speed does not depend on what is heard."""
    return 0.1 * torch.randn(CLIPS, SECONDS * SPEC.sample_rate, generator=torch.Generator().manual_seed(0))


@pytest.mark.benchmark(group=f"log-mel, {CLIPS} clips of {SECONDS} s")
def test_batched_log_mel(benchmark: BenchmarkFixture) -> None:
    waveforms = noise()
    benchmark.extra_info.update(clips=CLIPS, seconds=SECONDS)
    benchmark.pedantic(lambda: log_mel(waveforms, None, SPEC), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group=f"log-mel, {CLIPS} clips of {SECONDS} s")
def test_kaldi_fbank_in_a_loop(benchmark: BenchmarkFixture) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="the peer needs torchaudio")
    waveforms = noise()
    benchmark.extra_info.update(clips=CLIPS, seconds=SECONDS)

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

    benchmark.pedantic(loop, rounds=5, warmup_rounds=1)
