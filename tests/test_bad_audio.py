"""Each kind of unusable clip gives one line that names the file, the reason and the remedy."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from reproduce.audio.decoding import read_audio, stream_audio
from reproduce.audio.errors import AUDIO_REASONS, AudioError, AudioWarning
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_clip, load_waveform

RATE = 16_000


def make_noise(seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def patch(path: Path, at: int, values: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(values)] = values
    path.write_bytes(data)
    return path


def write_container(
    path: Path, video: bool = False, audio: bool = True, movflags: str = "", live: bool = False, frames: int = 5
) -> Path:
    """Two seconds of a tone, and `frames` tenths of a second of black; `live` as to a pipe, without durations."""
    options = {"movflags": movflags} if movflags else {"live": "1"} if live else {}
    with av.open(str(path), "w", options=options) as container:
        codec = "libopus" if path.suffix == ".webm" else "aac"
        sound = container.add_stream(codec, rate=48_000, layout="mono") if audio else None
        if video:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
            black = np.zeros((32, 32, 3), np.uint8)
            for _ in range(frames):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
            container.mux(picture.encode())
        if sound is not None:
            tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 48_000) / 48_000)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            fifo = av.AudioFifo()
            fifo.write(frame)
            while (part := fifo.read(960, partial=True)) is not None:
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return path


def assert_refused(path: Path | str, reason: str, start: float | None = None, stop: float | None = None) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path, start, stop)
    message = str(caught.value)
    assert caught.value.reason == reason, message
    assert message.startswith(f"{path}: {reason}")
    assert "\n" not in message and "; " in message
    return message


def assert_lasts(path: Path, seconds: float) -> None:
    samples, rate = read_audio(path)
    assert len(samples) / rate == pytest.approx(seconds, abs=0.05)


# --- no file, or no sound file


def test_missing_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "a.wav", "missing")


def test_zero_byte_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    assert_refused(tmp_path / "a.wav", "zero-byte")


def test_folder_or_pipe_instead_of_a_file(tmp_path: Path) -> None:
    assert "(a folder); name a sound file" in assert_refused(tmp_path, "unreadable")
    os.mkfifo(tmp_path / "a.wav")
    assert "not a regular file" in assert_refused(tmp_path / "a.wav", "unreadable")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", make_noise()).chmod(0)
    assert_refused(tmp_path / "a.wav", "unreadable")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "mp4", "raw"])
def test_text_with_an_audio_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("<html>404 not found</html>\n" * 20)
    assert_refused(path, "not audio")


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile {sound}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{sound}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{sound}</BaseURL></MPD>',
    ],
    ids=["ffconcat", "hls", "sdp", "dash"],
)
def test_a_playlist_that_names_another_sound(tmp_path: Path, playlist: str) -> None:
    path = tmp_path / "a.mp3"
    path.write_text(playlist.format(sound=write(tmp_path / "secret.wav", make_noise())))
    assert_refused(path, "not audio")


def test_video_without_an_audio_track(tmp_path: Path) -> None:
    assert_refused(write_container(tmp_path / "a.mp4", video=True, audio=False), "no audio track")


# --- cut off


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "flac", "ogg", "mp3", "aiff", "au", "caf"])
def test_cut_off_file(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"a.{suffix}", make_noise(3.0))
    assert len(read_audio(path).samples) == 3 * RATE
    assert_refused(cut(path, share), "truncated")
    assert_refused(path, "truncated", 0.1, 0.2)


def test_opus_in_ogg_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", make_noise(3.0), subtype="OPUS")
    read_audio(path)
    assert_refused(cut(path, 0.9), "truncated")


def test_cut_off_wav_with_a_large_chunk_before_its_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", make_noise())
    data = path.read_bytes()
    path.write_bytes(data[:36] + b"LIST" + struct.pack("<I", 200_000) + bytes(200_000) + data[36:])
    assert len(read_audio(path).samples) == RATE
    assert_refused(cut(path, 0.95), "truncated")


@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_cut_off_video(tmp_path: Path, movflags: str) -> None:
    path = write_container(tmp_path / "a.mp4", movflags=movflags)
    read_audio(path)
    assert_refused(cut(path, 0.6), "truncated")


@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_cut_off_matroska(tmp_path: Path, suffix: str) -> None:
    path = write_container(tmp_path / f"a.{suffix}")
    assert_lasts(path, 2.0)
    assert_refused(cut(path, 0.5), "truncated")


# --- damaged in the middle


def damage(path: Path, seed: int = 0) -> Path:
    """Write 40 random bytes into the middle of a file."""
    return patch(path, path.stat().st_size // 2, np.random.default_rng(seed).bytes(40))


@pytest.mark.parametrize("name, subtype", [("a.flac", "PCM_16"), ("a.ogg", "VORBIS"), ("b.ogg", "OPUS")])
def test_damage_that_costs_sound_is_named(tmp_path: Path, name: str, subtype: str) -> None:
    message = assert_refused(damage(write(tmp_path / name, make_noise(9.0), subtype=subtype)), "unreadable")
    assert "damaged" in message and "fetch it again" in message and "permissions" not in message


def test_a_packet_that_cannot_be_decoded_is_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", make_noise(9.0))
    whole = read_audio(path).samples
    warnings: list[AudioWarning] = []
    samples, _ = read_audio(damage(path), warnings=warnings)
    assert len(samples) == pytest.approx(len(whole), abs=0.2 * RATE)
    assert [warning.reason for warning in warnings] == ["damaged"]


# --- not cut off


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0, 2 * RATE + 2, 2 * RATE + 44])
def test_wav_of_an_unset_or_slightly_wrong_size_is_read_whole(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.wav", make_noise())
    assert path.read_bytes()[36:40] == b"data"
    assert len(read_audio(patch(path, 40, struct.pack("<I", size))).samples) == RATE


@pytest.mark.parametrize("size", [0, 0x7F000024, 0xFFFFFFFF])
def test_aiff_written_to_a_pipe_is_not_called_truncated(tmp_path: Path, size: int) -> None:
    path = patch(write(tmp_path / "a.aiff", make_noise()), 4, struct.pack(">I", size))
    assert len(read_audio(path).samples) == RATE


def test_webm_written_to_a_pipe_is_not_called_truncated(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.webm", live=True)
    assert b"DURATION" not in path.read_bytes()
    assert_lasts(path, 2.0)


def test_video_that_outlasts_its_audio_is_not_called_truncated(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", video=True, frames=50)
    assert_lasts(path, 2.0)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"durazion"))
    assert_lasts(path, 2.0)


def test_ogg_that_merely_lacks_its_end_mark_is_used_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", make_noise(3.0))
    whole = read_audio(path).samples
    last = path.read_bytes().rfind(b"OggS")
    path.write_bytes(path.read_bytes()[:last])
    warnings: list[AudioWarning] = []
    samples, _ = read_audio(path, warnings=warnings)
    assert [warning.reason for warning in warnings] == ["no end mark"]
    np.testing.assert_allclose(samples, whole[: len(samples)], atol=1e-5)


# --- values


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, value: float) -> None:
    noise = make_noise()
    noise[100:103] = value
    assert "3 of 16000 not finite" in assert_refused(write(tmp_path / "a.wav", noise, subtype="FLOAT"), "NaN samples")


@pytest.mark.parametrize(
    "samples, cause",
    [
        (np.where(np.arange(RATE) == 9, np.float32(3e29), make_noise()), "3e+29"),
        (make_noise() * 32768, "scaled by 32768"),
        (np.rint(make_noise() * 32768), "integers"),
        (np.rint(make_noise() * 500), "divide them by 32768"),
    ],
    ids=["one sample", "scaled", "integers", "quiet integers"],
)
def test_samples_far_beyond_full_scale(tmp_path: Path, samples: np.ndarray, cause: str) -> None:
    assert cause in assert_refused(write(tmp_path / "a.wav", samples, subtype="FLOAT"), "absurd values")


def test_float_samples_somewhat_beyond_full_scale_are_used(tmp_path: Path) -> None:
    loud = make_noise() * 200
    assert np.abs(read_audio(write(tmp_path / "a.wav", loud, subtype="FLOAT")).samples).max() > 30


# --- bounds


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_sample_rates_that_no_recording_has(tmp_path: Path, rate: int) -> None:
    path = patch(write(tmp_path / "a.wav", make_noise()), 24, struct.pack("<I", rate))
    assert str(rate) in assert_refused(path, "unsupported format")


def test_a_thousand_channels(tmp_path: Path) -> None:
    assert "1024 channels" in assert_refused(write(tmp_path / "a.wav", np.zeros((9, 1024))), "unsupported format")


def test_a_flac_whose_header_promises_2_to_the_36_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", make_noise())
    patch(path, 21, bytes([path.read_bytes()[21] | 0x0F]) + b"\xff" * 4)
    assert_refused(path, "truncated")
    assert_refused(path, "truncated", 0.0, 0.5)


def test_a_small_file_of_many_hours_is_refused_whole_and_read_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.zeros(2 * 3600 * 1000 + 1000, np.int16), 1000)
    assert "120 min" in assert_refused(path, "too long")
    with pytest.raises(AudioError, match="too long"):
        next(stream_audio(path))
    assert len(load_clip(path, RATE, 7000.0, max_samples=10 * RATE).waveform) == 10 * RATE


@pytest.mark.parametrize("start, stop", [(2.0, 3.0), (0.5, 0.5), (0.5, 0.2), (-1.0, 0.5), (float("nan"), None)])
def test_segment_that_cannot_be_cut(tmp_path: Path, start: float, stop: float | None) -> None:
    assert_refused(write(tmp_path / "a.wav", make_noise()), "empty", start, stop)


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.mp3"])
def test_segment_beyond_the_end_names_the_end(tmp_path: Path, name: str) -> None:
    message = assert_refused(write(tmp_path / name, make_noise()), "empty", 2.0, 3.0)
    assert "starts at 2 s, beyond the end at 1 s" in message


@pytest.mark.parametrize("suffix", ["wav", "aiff"])
def test_file_with_no_samples(tmp_path: Path, suffix: str) -> None:
    assert_refused(write(tmp_path / f"a.{suffix}", np.zeros(0, np.float32)), "empty")


def test_clip_too_short_to_resample(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="empty"):
        load_waveform(write(tmp_path / "a.wav", np.ones(1, np.float32), 96_000), AudioSpec())


# --- packs


def test_packs_that_store_their_sound_elsewhere(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["v"] = make_noise()
    (tmp_path / "secret.bin").write_bytes(make_noise().tobytes())
    virtual = h5py.VirtualLayout((RATE,), np.float32)
    virtual[:] = h5py.VirtualSource(tmp_path / "other.h5", "v", (RATE,))
    with h5py.File(tmp_path / "a.h5", "w") as pack:
        pack["inside"] = make_noise()
        pack["external"] = h5py.ExternalLink(tmp_path / "other.h5", "/v")
        pack["soft"] = h5py.SoftLink("/external")
        pack.create_dataset("stored", (RATE,), np.float32, external=[(tmp_path / "secret.bin", 0, RATE * 4)])
        pack.create_virtual_dataset("virtual", virtual)
    np.testing.assert_array_equal(read_audio(f"{tmp_path}/a.h5::inside@{RATE}").samples[:, 0], make_noise())
    for key in ("external", "soft", "stored", "virtual"):
        assert_refused(f"{tmp_path}/a.h5::{key}", "unreadable")


# --- messages


def test_every_reason_has_a_remedy_and_unknown_reasons_are_errors() -> None:
    for reason in AUDIO_REASONS:
        assert str(AudioError("a.wav", reason)).startswith(f"a.wav: {reason}; ")
    with pytest.raises(ValueError, match="unknown reason"):
        AudioError("a.wav", "odd")


def test_error_survives_the_way_out_of_a_worker() -> None:
    error = AudioError("a.wav", "truncated", "two\nlines")
    again = pickle.load(io.BytesIO(pickle.dumps(error)))
    assert str(again) == str(error) == "a.wav: truncated (two lines); the download or copy was cut off: fetch it again"
    assert again.reason == "truncated" and again.path == Path("a.wav")
    error = AudioError("a.wav", "unreadable", "damaged", "fetch it again")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a.wav: unreadable (damaged); fetch it again"
