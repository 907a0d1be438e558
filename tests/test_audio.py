"""The front end: reading, waveforms, and log-mels equal to kaldi's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from reproduce.audio import waveforms
from reproduce.audio.errors import AudioError
from reproduce.audio.log_mel import (
    PADDING_LOG_MEL,
    log_mel,
    mel_filters,
    normalise,
    stack_waveforms,
)
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import crop, decode_many, is_silent, load_clip, load_waveform, resample, to_mono

SPEC = AudioSpec()
RATE = SPEC.sample_rate


def make_tone(hz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_noise(samples: int, seed: int = 0) -> torch.Tensor:
    noise = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return noise - noise.mean()


def single(waveform: torch.Tensor, spec: AudioSpec = SPEC) -> torch.Tensor:
    """(samples,) -> (mels, frames)."""
    return log_mel(waveform.unsqueeze(0), None, spec)[0, 0]


def kaldi_fbank(waveform: torch.Tensor) -> torch.Tensor:
    """AST's own call -> (mels, frames of the clip)."""
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    return kaldi.fbank(
        waveform.unsqueeze(0),
        htk_compat=True,
        sample_frequency=RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    ).T


def real_waveforms(esc10: Path, count: int) -> list[torch.Tensor]:
    paths = sorted((esc10 / "audio").glob("*.ogg"))
    return [torch.from_numpy(load_waveform(path, SPEC)) for path in paths[:: len(paths) // count][:count]]


# --- AudioSpec


def test_spec_derives_its_lengths() -> None:
    assert (SPEC.win_length, SPEC.hop_length, SPEC.n_fft, SPEC.samples) == (400, 160, 512, 164_080)
    assert SPEC.seconds == pytest.approx(10.255)
    assert SPEC.frames_of(10 * RATE) == 998
    assert [SPEC.frames_of(n) for n in (0, 399, 400, 559, 560, SPEC.samples, 10**7)] == [0, 0, 1, 1, 2, 1024, 1024]


def test_spec_survives_a_dict_and_refuses_unknown_fields() -> None:
    spec = AudioSpec(frames=512, mean=-6.6268077, std=5.358466)
    assert AudioSpec.from_dict(spec.to_dict()) == spec
    assert spec.to_dict()["pad"] == "zero"  # stored front ends and the keys of runs carry it
    with pytest.raises(ValueError, match="no field hop_ms"):
        AudioSpec.from_dict({"hop_ms": 10})


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 0},
        {"mels": -1},
        {"frames": 0},
        {"std": 0.0},
        {"mean": float("nan")},
        {"frame_shift_ms": 0.01},
        {"high_hz": 9000.0},
        {"low_hz": 5000.0, "high_hz": 4000.0},
        {"preemphasis": 1.5},
        {"pad": "repeat"},
        {"frames": 64.0},
        {"std": float("inf")},
        {"frame_length_ms": 10**30},
        {"frame_length_ms": 9000.0},
        {"preemphasis": "0.97"},
    ],
)
def test_spec_refuses_what_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="AudioSpec"):
        dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]


# --- waveforms


def test_stereo_is_mixed_down_not_cut_to_the_first_channel() -> None:
    samples = np.array([[1.0, 0.0], [0.5, -0.5], [0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(to_mono(samples), np.array([0.5, 0.0, 0.5], np.float32))


def test_resampling_keeps_low_tones_and_removes_what_would_alias() -> None:
    middle = slice(1600, -1600)
    kept = resample(make_tone(1000, 1, 44_100), 44_100, RATE)
    assert kept.dtype == np.float32 and len(kept) == RATE
    np.testing.assert_allclose(kept[middle], make_tone(1000, 1, RATE)[middle], atol=1e-4)
    high = make_tone(12_000, 1, 32_000)
    assert np.abs(resample(high, 32_000, RATE)[middle]).max() < 1e-4
    assert np.abs(high[::2]).max() > 0.4  # slicing, as some public loaders do, folds it to 4 kHz


def test_resampling_to_the_same_rate_is_the_identity() -> None:
    tone = make_tone(440, 0.1, RATE)
    assert resample(tone, RATE, RATE) is tone


def test_load_waveform_is_mono_resampled_centred_and_unscaled(tmp_path: Path) -> None:
    tone = make_tone(440, 1, 44_100)
    soundfile.write(tmp_path / "a.wav", np.stack([tone + 0.25, tone], axis=1), 44_100, subtype="FLOAT")
    waveform = load_waveform(tmp_path / "a.wav", SPEC)
    assert waveform.dtype == np.float32 and waveform.shape == (RATE,)
    assert abs(waveform.mean()) < 1e-6
    assert np.abs(waveform[1600:-1600]).max() == pytest.approx(0.5, abs=0.01)
    assert load_waveform(tmp_path / "a.wav", SPEC, 0.25, 0.5).shape == (RATE // 4,)


def test_silence_is_told_from_faint_sound() -> None:
    assert is_silent(np.zeros(100, np.float32))
    assert is_silent(np.full(100, 0.3, np.float32))
    assert not is_silent(np.array([0, 0, 2**-15, 0], np.float32))


def test_crop_keeps_a_stretch_and_refuses_to_keep_nothing() -> None:
    ramp = np.arange(RATE, dtype=np.float32)
    np.testing.assert_array_equal(crop(ramp, 3, 5), [5, 6, 7])
    assert len(crop(ramp, 10, RATE - 4)) == 4
    with pytest.raises(ValueError, match="outside"):
        crop(ramp, 3, RATE)


@pytest.mark.parametrize("rate", [8000, RATE, 44_100])
def test_the_first_samples_alone_equal_those_of_the_whole_clip(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, make_noise(60 * rate).numpy(), rate)
    whole = load_clip(path, RATE).waveform
    assert len(whole) == 60 * RATE
    np.testing.assert_array_equal(load_clip(path, RATE, max_samples=5 * RATE).waveform, whole[: 5 * RATE])
    later = load_clip(path, RATE, 50.0, max_samples=20 * RATE).waveform
    assert len(later) == 10 * RATE


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_the_start_of_a_long_clip_is_what_the_whole_clip_gives_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    monkeypatch.setattr(waveforms, "LONG_SAMPLES", 10 * RATE)
    path, head = tmp_path / "long.wav", 2 * RATE
    noise = 0.1 * np.random.default_rng(0).standard_normal(300 * RATE) + offset
    soundfile.write(path, noise, RATE)
    whole = load_waveform(path, SPEC)
    tracemalloc.start()
    start = load_waveform(path, SPEC, head=head)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(start, whole[:head], atol=1e-7)
    assert peak < whole.nbytes
    assert np.array_equal(load_waveform(path, SPEC, 0.0, 5.0, head=head), load_waveform(path, SPEC, 0.0, 5.0))


def test_the_start_of_a_long_clip_brings_the_warnings_of_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveforms, "LONG_SAMPLES", RATE)
    left = 0.1 * np.random.default_rng(0).standard_normal(9 * RATE)
    sounds = {
        "cancels": np.stack([left, -left], axis=1),
        "silent": np.zeros(9 * RATE),
        "late": np.append(0 * left, left),
    }
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    told = {name: [w.reason for w in load_clip(tmp_path / f"{name}.wav", RATE, head=100).warnings] for name in sounds}
    assert told == {"cancels": ["channels cancel"], "silent": ["silent"], "late": []}


def test_a_long_clip_resampled_in_blocks_equals_one_resampled_at_once(tmp_path: Path) -> None:
    noise, rate = make_noise(60 * 44_100).numpy(), 44_100
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    np.testing.assert_array_equal(load_clip(tmp_path / "a.wav", RATE).waveform, resample(noise, rate, RATE))


def test_silent_cancelling_and_very_short_clips_carry_a_warning(tmp_path: Path) -> None:
    noise = make_noise(RATE).numpy()
    clips = {
        "sounding": np.stack([noise, 0.5 * noise], axis=1),
        "silent": np.zeros((RATE, 2)),
        "channels cancel": np.stack([noise, -noise], axis=1),
        "very short": noise[:800],
    }
    for reason, samples in clips.items():
        path = tmp_path / f"{reason}.wav"
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        warnings = load_clip(path, RATE).warnings
        assert [warning.reason for warning in warnings] == [reason] * (reason != "sounding")
        assert all(str(warning).startswith(f"{path}: {reason}") for warning in warnings)


def test_decode_many_keeps_the_order_and_reads_only_a_little_ahead(tmp_path: Path) -> None:
    paths = []
    for i in range(12):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], make_noise(1000 + i).numpy(), RATE)
    paths.insert(6, tmp_path / "none.wav")
    asked = []

    def clips():  # type: ignore[no-untyped-def]
        for i, path in enumerate(paths):
            asked.append(i)
            yield path, None, None

    results = decode_many(clips(), SPEC, workers=2, max_samples=1005)
    first = next(results)
    assert not isinstance(first, AudioError) and abs(first.waveform.mean()) < 1e-6
    assert len(asked) == 4
    sizes = [result.reason if isinstance(result, AudioError) else len(result.waveform) for result in results]
    assert sizes == [1001, 1002, 1003, 1004, 1005, "missing", *[1005] * 6]


# --- log-mel


def test_mel_filters_equal_kaldis_and_filter_3_is_empty() -> None:
    filters = mel_filters(SPEC)
    assert filters.shape == (128, 257)
    assert torch.nonzero(filters.sum(dim=1) == 0).flatten().tolist() == [3]
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    theirs, _ = kaldi.get_mel_banks(128, 512, float(RATE), 20.0, 0.0, 100.0, -500.0, 1.0)
    torch.testing.assert_close(filters[:, :256], theirs, atol=0, rtol=1e-6)


def test_log_mel_equals_kaldi_on_real_clips(esc10: Path) -> None:
    worst = 0.0
    for waveform in real_waveforms(esc10, 24):
        theirs = kaldi_fbank(waveform)
        ours = single(waveform)
        own = theirs.shape[1]
        assert own == SPEC.frames_of(len(waveform))
        worst = max(worst, (ours[:, :own] - theirs).abs().max().item())
        assert torch.all(ours[:, own:] == PADDING_LOG_MEL)
    assert worst < 1e-4


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 16_123, 160_000, 164_080, 200_000])
def test_log_mel_equals_kaldi_at_every_tail(samples: int) -> None:
    noise = make_noise(samples)
    theirs = kaldi_fbank(noise)[:, : SPEC.frames]
    torch.testing.assert_close(single(noise)[:, : theirs.shape[1]], theirs, atol=1e-4, rtol=0)


def test_log_mel_equals_the_hugging_face_extractor(esc10: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torchaudio")
    extractor = transformers.ASTFeatureExtractor()
    for waveform in real_waveforms(esc10, 4):
        theirs = extractor(waveform.numpy(), sampling_rate=RATE, return_tensors="pt").input_values[0].T
        torch.testing.assert_close(normalise(single(waveform), SPEC), theirs, atol=1e-4, rtol=0)


def test_ten_seconds_give_998_frames_and_padding_is_a_loud_constant() -> None:
    features = single(make_noise(10 * RATE))
    assert features.shape == (128, 1024)
    assert torch.all(features[:, 998:] == PADDING_LOG_MEL)
    assert torch.all(features[:3, 997] != PADDING_LOG_MEL)
    assert normalise(features, SPEC)[0, -1].item() == pytest.approx(0.467, abs=5e-4)


def test_silence_lies_at_the_log_floor() -> None:
    features = single(torch.zeros(SPEC.samples))
    assert features.unique().tolist() == [pytest.approx(-15.942, abs=5e-4)]
    assert normalise(features, SPEC)[0, 0].item() == pytest.approx(-1.278, abs=5e-4)


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_a_clip_shorter_than_one_window_is_all_padding(samples: int) -> None:
    assert torch.all(single(torch.ones(samples)) == PADDING_LOG_MEL)


def test_a_batch_gives_each_clip_what_it_gives_alone() -> None:
    clips = [make_noise(n, seed=n).numpy() for n in (RATE, 300, 200_000, 12_345, 164_080)]
    batch, lengths = stack_waveforms(clips)
    together = log_mel(batch, lengths, SPEC)
    assert together.shape == (5, 1, 128, 1024)
    for features, clip in zip(together, clips, strict=True):
        assert torch.equal(features[0], single(torch.from_numpy(clip)))


def test_what_lies_behind_a_clips_length_is_not_heard() -> None:
    noise = make_noise(RATE)
    lengths = torch.tensor([8000])
    quiet = noise.clone()
    quiet[8000:] = 0
    assert torch.equal(log_mel(noise[None], lengths, SPEC), log_mel(quiet[None], lengths, SPEC))


def test_impossible_lengths_are_errors() -> None:
    for lengths in ([5], [101, 1], [-1, 1]):
        with pytest.raises(ValueError, match="lengths"):
            log_mel(torch.zeros(2, 100), torch.tensor(lengths), SPEC)


def test_autocast_and_tf32_do_not_reach_the_features() -> None:
    noise = make_noise(RATE)
    plain = single(noise)
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(single(noise), plain)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_other_specs_shape_the_features() -> None:
    spec = AudioSpec(sample_rate=32_000, mels=64, frames=100, high_hz=14_000.0, preemphasis=0.0)
    features = single(make_noise(32_000), spec)
    assert features.shape == (64, 100)
    assert (spec.win_length, spec.hop_length, spec.n_fft) == (800, 320, 1024)
    assert torch.all(features[:, :98] > -15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu() -> None:
    batch, lengths = stack_waveforms([make_noise(n, seed=n).numpy() for n in (RATE, 300, 200_000)] * 30)
    there = log_mel(batch.cuda(), lengths, SPEC).cpu()
    torch.testing.assert_close(there, log_mel(batch, lengths, SPEC), atol=1e-3, rtol=0)


def test_features_need_no_torchaudio() -> None:
    heavy = ("torchaudio", "av", "transformers")
    code = f"import sys, reproduce.audio.log_mel; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the second implementation


def test_torchaudios_front_end_is_kaldis_own_and_pads_as_ours() -> None:
    pytest.importorskip("torchaudio.compliance.kaldi")
    spec = replace(SPEC, implementation="torchaudio")
    clips = [make_noise(n, seed=n).numpy() for n in (RATE, 300, 200_000)]
    features = log_mel(*stack_waveforms(clips), spec)
    for clip, row in zip(clips, features, strict=True):
        theirs = (
            kaldi_fbank(torch.from_numpy(clip))[:, : SPEC.frames]
            if len(clip) >= SPEC.win_length
            else torch.zeros(128, 0)
        )
        assert torch.equal(row[0, :, : theirs.shape[1]], theirs)
        assert torch.all(row[0, :, theirs.shape[1] :] == PADDING_LOG_MEL)
    torch.testing.assert_close(features, log_mel(*stack_waveforms(clips), SPEC), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "spec",
    [AudioSpec(mels=64, frames=128, frame_length_ms=40.0, frame_shift_ms=40.0), AudioSpec(mels=32, preemphasis=0.0)],
)
def test_both_front_ends_agree_on_other_parameters(spec: AudioSpec) -> None:
    pytest.importorskip("torchaudio.compliance.kaldi")
    noise = make_noise(5 * RATE)
    torch.testing.assert_close(
        single(noise, replace(spec, implementation="torchaudio")), single(noise, spec), atol=1e-4, rtol=0
    )


def test_only_torchaudios_front_end_is_written_down() -> None:
    assert "implementation" not in SPEC.to_dict()
    other = replace(SPEC, implementation="torchaudio")
    assert AudioSpec.from_dict(other.to_dict()) == other
    with pytest.raises(ValueError, match="batched, torchaudio"):
        AudioSpec(implementation="librosa")
