"""Every format is read as the ffmpeg program reads it, whole and in stretches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from make_inputs import ANSWERS, BY_FFMPEG, LENGTH_S, OF_CHANNELS

from reproduce.audio.decoding import read_audio, stream_audio
from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.datasets.readers.scan import MEDIA_RANK

RATE = 44_100
SECONDS = 3
CODEC_FRAME = 2048  # the longest of the codecs below, in samples

# File name -> options of the ffmpeg program. Each suffix that the scanner lists is among them.
ENCODINGS = {
    **{f"plain{suffix}": "" for suffix in MEDIA_RANK},
    "plain.3gp": "-c:a aac",
    "plain.rf64": "-f wav -rf64 always",
    "plain.voc": "",
    "float.wav": "-c:a pcm_f32le",
    "bytes.wav": "-c:a pcm_u8",
    "adpcm.wav": "-c:a adpcm_ms",
    "24.w64": "-c:a pcm_s24le",
    "alac.m4a": "-c:a alac",
    "fragments.mp4": "-movflags frag_keyframe+empty_moov",
    "pcm.mkv": "-c:a pcm_s16le",
    "opus.mkv": "-c:a libopus -ar 48000",
    "flac.ogg": "-c:a flac",
    "six_channels.ogg": "-ac 6 -ar 48000",
    "32_bits.flac": "-sample_fmt s32",
    "no_xing.mp3": "-write_xing 0 -q:a 4",
    "low_rate.mp3": "-ar 8000 -b:a 8k",
    "artwork.mp3": "-metadata comment=" + "x" * 100_000,
}
# What one of the readers decodes with another library than ffmpeg's, or in another arithmetic.
LOOSE = {"bytes.wav": 2**-7, "adpcm.wav": 1e-3, "six_channels.ogg": 1e-3}


def ffmpeg(*options: str) -> bytes:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the ffmpeg program")
    done = subprocess.run(["ffmpeg", "-v", "error", "-y", *options], capture_output=True, check=False)
    assert not done.returncode, done.stderr.decode(errors="replace")
    return done.stdout


def decode_with_ffmpeg(path: Path, channels: int) -> np.ndarray:
    return np.frombuffer(ffmpeg("-i", str(path), "-f", "f32le", "-"), np.float32).reshape(-1, channels)


@pytest.fixture(scope="module")
def encoded(sound: Path) -> Path:
    """A folder with the sound in each of ENCODINGS."""
    folder = sound.parent / "encoded"
    folder.mkdir()
    outputs = [word for name, options in ENCODINGS.items() for word in (*options.split(), str(folder / name))]
    ffmpeg("-i", str(sound), *outputs)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in noise whose left channel is louder."""
    rng, time_s = np.random.default_rng(0), np.arange(SECONDS * RATE) / RATE
    sweep = 0.4 * np.sin(2 * np.pi * (200 + 500 * time_s) * time_s) + 0.02 * rng.standard_normal(len(time_s))
    path = tmp_path_factory.mktemp("sound") / "source.wav"
    soundfile.write(path, np.stack([sweep, 0.5 * sweep], axis=1), RATE)
    return path


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_format_reads_as_ffmpeg_reads_it_whole_and_in_stretches(encoded: Path, name: str) -> None:
    path = encoded / name
    warnings: list[AudioWarning] = []
    whole, rate = read_audio(path, warnings=warnings)
    assert not warnings and whole.dtype == np.float32
    theirs = decode_with_ffmpeg(path, whole.shape[1])
    assert abs(len(whole) - len(theirs)) <= CODEC_FRAME
    assert len(whole) / rate == pytest.approx(SECONDS, abs=0.1)
    shorter = min(len(whole), len(theirs))
    both = [samples[:shorter] for samples in (whole, theirs)]
    if whole.shape[1] > 2:  # the order of more channels is each library's own
        both = [np.sort(samples, axis=1) for samples in both]
    np.testing.assert_allclose(*both, atol=LOOSE.get(name, 1e-6), rtol=0)
    for start, stop in ((0.5, 1.25), (None, 0.7), (2.5, None), (2.0, 99.0)):
        stretch = read_audio(path, start, stop).samples
        expected = whole[round((start or 0) * rate) : None if stop is None else round(stop * rate)]
        np.testing.assert_array_equal(stretch, expected)


def test_joined_streams_are_read_to_the_end_of_the_last(sound: Path, tmp_path: Path) -> None:
    for name, options in {"a.mp3": "", "b.ogg": "-c:a libvorbis", "c.opus": "", "d.aac": "", "e.flac": ""}.items():
        part, joined = tmp_path / name, tmp_path / f"joined_{name}"
        ffmpeg("-i", str(sound), *options.split(), str(part))
        joined.write_bytes(2 * part.read_bytes())
        samples, rate = read_audio(joined)
        assert len(samples) / rate == pytest.approx(2 * SECONDS, abs=0.15), name


def test_a_flac_is_read_beyond_the_count_of_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    whole = read_audio(path).samples
    data = bytearray(path.read_bytes())
    for count in (5000, 0):  # understated; or 0 = unknown, as written to a pipe
        data[21] &= 0xF0  # STREAMINFO: 36 bits of total samples
        data[22:26] = count.to_bytes(4, "big")
        path.write_bytes(data)
        np.testing.assert_array_equal(read_audio(path).samples, whole)
        np.testing.assert_array_equal(read_audio(path, 0.25, 0.5).samples, whole[RATE // 4 : RATE // 2])


@pytest.mark.parametrize("name", ["a::b.wav", "latin1 \udce9.flac", "concat:x.mp3", "http:a.ogg", "-i.wav"])
def test_a_file_of_any_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / f"a{Path(name).suffix}", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    (tmp_path / f"a{Path(name).suffix}").rename(name)
    assert len(read_audio(name).samples) == pytest.approx(RATE, abs=CODEC_FRAME)


def test_nothing_behind_a_stretch_is_decoded(tmp_path: Path) -> None:
    samples = np.zeros(60 * 8000, np.float32)
    samples[40 * 8000 :] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert len(read_audio(tmp_path / "a.wav", 1.0, 30.0).samples) == 29 * 8000
    with pytest.raises(AudioError, match="NaN samples"):
        read_audio(tmp_path / "a.wav", 1.0)


def test_blocks_joined_are_the_whole_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", 0.1 * np.random.default_rng(0).standard_normal((60 * RATE, 2)), RATE)
    blocks = list(stream_audio(tmp_path / "a.flac"))
    assert len(blocks) > 1 and {rate for _, rate in blocks} == {RATE}
    np.testing.assert_array_equal(
        np.concatenate([samples for samples, _ in blocks]), read_audio(tmp_path / "a.flac")[0]
    )


# --- the inputs of the issue: name -> seconds that ffmpeg decodes, or the reason


@pytest.mark.parametrize("name", ANSWERS)
def test_an_input_that_other_readers_get_wrong(inputs: Path, name: str) -> None:
    expected, warning = ANSWERS[name]
    warnings: list[AudioWarning] = []
    try:
        samples, rate = read_audio(inputs / name, warnings=warnings)
    except AudioError as error:
        assert error.reason == expected, error
        assert "\n" not in str(error)
        return
    assert len(samples) / rate == pytest.approx(expected, abs=LENGTH_S)
    assert [w.reason for w in warnings] == ([warning] if warning and warning != OF_CHANNELS else [])
    theirs = decode_with_ffmpeg(inputs / name, samples.shape[1])
    assert abs(len(theirs) - len(samples)) <= CODEC_FRAME
    middle = read_audio(inputs / name, 0.4, 0.9).samples
    np.testing.assert_array_equal(middle, samples[round(0.4 * rate) : round(0.9 * rate)])


def test_a_track_of_unknown_codec_is_read_as_ffmpeg_reads_it_or_one_line(inputs: Path) -> None:
    path = inputs / BY_FFMPEG
    try:
        samples = read_audio(path).samples
    except AudioError as error:
        assert error.reason == "unreadable"
    else:  # FFmpeg finds AAC by the track's description
        assert len(samples) == len(decode_with_ffmpeg(path, samples.shape[1]))
