"""The front end: reading, waveforms, and log-mels equal to kaldi's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from reproduce.audio.decoding import read_audio
from reproduce.audio.errors import AudioError
from reproduce.audio.log_mel import (
    PADDING_LOG_MEL,
    log_mel,
    mel_filters,
    normalise,
    stack_waveforms,
)
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import crop, decode_many, is_silent, load_waveform, pad_or_trim, resample, to_mono

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
    spec = AudioSpec(frames=512, mean=-6.6268077, std=5.358466, pad="repeat")
    assert AudioSpec.from_dict(spec.to_dict()) == spec
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
        {"pad": "edge"},
    ],
)
def test_spec_refuses_what_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="AudioSpec"):
        dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]


# --- reading


@pytest.mark.parametrize(
    "suffix, subtype, tolerance",
    [
        ("wav", "PCM_U8", 2**-7),
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 2**-23),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("flac", "PCM_16", 2**-15),
        ("flac", "PCM_24", 2**-23),
        ("ogg", "VORBIS", 0.05),
        ("ogg", "OPUS", 0.05),
        ("mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_formats_and_bit_depths_read_alike(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    written = np.stack([make_tone(440, 1, 48_000), make_tone(880, 1, 48_000)], axis=1)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, written, 48_000, subtype=subtype)
    samples, rate = read_audio(path)
    assert (rate, samples.dtype, samples.shape) == (48_000, np.float32, written.shape)
    middle = slice(4800, -4800)  # codecs smear the ends
    np.testing.assert_allclose(samples[middle], written[middle], atol=tolerance, rtol=0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_segment_equals_the_slice_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, make_noise(3 * RATE).numpy(), RATE)
    whole, _ = read_audio(path)
    for start, stop in ((0.5, 1.25), (None, 0.7), (2.5, None), (2.0, 99.0)):
        segment, _ = read_audio(path, start, stop)
        expected = whole[round((start or 0) * RATE) : round((stop or 3) * RATE)]
        # an mp3 decoder that starts in mid-file rounds differently, in the last bit
        np.testing.assert_allclose(segment, expected, atol=1e-6 if suffix == "mp3" else 0, rtol=0)


@pytest.mark.parametrize("suffix, codec", [("mp4", "aac"), ("m4a", "aac"), ("mkv", "pcm_s16le"), ("webm", "libopus")])
def test_containers_read_whole_and_in_segments(tmp_path: Path, suffix: str, codec: str) -> None:
    av = pytest.importorskip("av")
    path, rate = tmp_path / f"a.{suffix}", 48_000
    sweep = (0.5 * np.sin(2 * np.pi * 200 * np.arange(3 * rate) ** 2 / rate**2)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        planar = "s16" if codec == "pcm_s16le" else stream.codec_context.format.name
        frame = av.AudioFrame.from_ndarray(np.stack([sweep, -sweep / 2]), format="fltp", layout="stereo")
        frame.sample_rate = rate
        for part in av.AudioResampler(format=planar, frame_size=960).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    whole, read_rate = read_audio(path)
    assert read_rate == rate and whole.shape[1] == 2
    assert len(whole) == pytest.approx(3 * rate, abs=0.05 * rate)
    # PyAV, unlike the ffmpeg program, writes no edit list that would hide the AAC encoder's first 1024 samples
    delay = 1024 if codec == "aac" else 0
    written = np.stack([sweep, -sweep / 2], axis=1)[rate // 2 : 2 * rate]
    decoded = whole[rate // 2 + delay : 2 * rate + delay]
    assert np.abs(decoded - written).mean() < 0.02, "decoded sound is not where it was written"
    segment, _ = read_audio(path, 1.0, 1.5)
    assert segment.shape == (rate // 2, 2)
    late = 48 if suffix in ("mkv", "webm") else 0  # time stamps of whole milliseconds
    offsets = range(rate - late, rate + late + 1)
    assert min(np.abs(segment - whole[o : o + rate // 2]).max() for o in offsets) < 2e-3


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


def test_crop_and_fit_cut_and_tile() -> None:
    ramp = np.arange(RATE, dtype=np.float32)
    np.testing.assert_array_equal(crop(ramp, 3, 5), [5, 6, 7])
    assert len(crop(ramp, 10, RATE - 4)) == 4
    with pytest.raises(ValueError, match="outside"):
        crop(ramp, 3, RATE)
    assert len(pad_or_trim(ramp, SPEC)) == RATE
    tiled = pad_or_trim(ramp, AudioSpec(pad="repeat"))
    assert tiled.shape == (SPEC.samples,)
    np.testing.assert_array_equal(tiled, ramp[np.arange(SPEC.samples) % RATE])
    assert len(pad_or_trim(np.zeros(SPEC.samples + 9, np.float32), AudioSpec(pad="repeat"), offset=4)) == SPEC.samples


def test_decode_many_keeps_the_order_and_reads_only_a_little_ahead(tmp_path: Path) -> None:
    paths = []
    for i in range(12):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], make_noise(1000 + i).numpy(), RATE)
    asked = []

    def clips():  # type: ignore[no-untyped-def]
        for i, path in enumerate(paths):
            asked.append(i)
            yield path, None, None

    results = decode_many(clips(), SPEC, workers=2)
    assert next(results)[0] == 0
    assert len(asked) == 4
    assert [(i, len(w)) for i, w in results if not isinstance(w, AudioError)] == [(i, 1000 + i) for i in range(1, 12)]


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


def test_the_empty_filter_is_at_the_floor_even_in_noise() -> None:
    features = single(make_noise(SPEC.samples))
    assert features[3].unique().tolist() == [pytest.approx(-15.942, abs=5e-4)]
    assert features[4].min() > -15


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
