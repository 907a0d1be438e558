"""Each kind of unusable clip gives one line that names the file, the reason and the remedy."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from reproduce.audio.decoding import read_audio
from reproduce.audio.errors import AUDIO_REASONS, AudioError
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import decode_many, load_waveform
from reproduce.errors import InputError

RATE = 16_000


def make_noise(seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def write(path: Path, samples: np.ndarray, **options: str) -> Path:
    soundfile.write(path, samples, RATE, **options)
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def write_container(
    path: Path, video: bool = False, audio: bool = True, movflags: str = "", live: bool = False, frames: int = 5
) -> Path:
    """Two seconds of a tone, and `frames` tenths of a second of black; `live` as to a pipe, without durations."""
    av = pytest.importorskip("av")
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


def assert_refused(path: Path, reason: str, start: float | None = None, stop: float | None = None) -> AudioError:
    with pytest.raises(AudioError) as caught:
        read_audio(path, start, stop)
    message = str(caught.value)
    assert caught.value.reason == reason, message
    assert message.startswith(f"{path}: {reason}")
    assert "\n" not in message and "; " in message
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "a.wav", "missing")


def test_zero_byte_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    assert_refused(tmp_path / "a.wav", "zero-byte")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert_refused(tmp_path, "unreadable")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", make_noise()).chmod(0)
    assert_refused(tmp_path / "a.wav", "unreadable")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_text_with_an_audio_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("<html>404 not found</html>\n" * 20)
    assert_refused(path, "not audio")


def test_text_with_a_video_name(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    path.write_text("<html>404 not found</html>\n" * 20)
    assert_refused(path, "not audio")


@pytest.mark.parametrize("suffix", ["wav", "aiff"])
def test_file_with_no_samples(tmp_path: Path, suffix: str) -> None:
    assert_refused(write(tmp_path / f"a.{suffix}", np.zeros(0, np.float32)), "empty")


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_cut_off_file(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"a.{suffix}", make_noise(3.0))
    assert len(read_audio(path)[0]) == 3 * RATE
    assert_refused(cut(path, share), "truncated")


def test_opus_in_ogg_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", make_noise(3.0), subtype="OPUS")
    read_audio(path)
    assert_refused(cut(path, 0.9), "truncated")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_written_to_a_pipe_is_not_called_truncated(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.wav", make_noise())
    data = bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(read_audio(path)[0]) == RATE


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_aiff_cut_off(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "a.aiff", make_noise(3.0))
    assert len(read_audio(path)[0]) == 3 * RATE
    assert_refused(cut(path, share), "truncated")


@pytest.mark.parametrize("size", [0, 0x7F000024, 0xFFFFFFFF])
def test_aiff_written_to_a_pipe_is_not_called_truncated(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.aiff", make_noise())
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack(">I", size)
    path.write_bytes(data)
    assert len(read_audio(path)[0]) == RATE


def test_flac_written_to_a_pipe_is_not_called_truncated(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = write(tmp_path / "a.flac", make_noise())
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: 36 bits of total samples, 0 = unknown
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert len(read_audio(path)[0]) == RATE
    assert len(read_audio(path, 0.25, 0.5)[0]) == RATE // 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, value: float) -> None:
    noise = make_noise()
    noise[100:103] = value
    error = assert_refused(write(tmp_path / "a.wav", noise, subtype="FLOAT"), "NaN samples")
    assert error.detail.startswith("3 of 16000")


def test_video_without_an_audio_track(tmp_path: Path) -> None:
    assert_refused(write_container(tmp_path / "a.mp4", video=True, audio=False), "no audio track")


@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_cut_off_video(tmp_path: Path, movflags: str) -> None:
    path = write_container(tmp_path / "a.mp4", movflags=movflags)
    read_audio(path)
    assert_refused(cut(path, 0.6), "truncated")


@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_cut_off_matroska(tmp_path: Path, suffix: str) -> None:
    path = write_container(tmp_path / f"a.{suffix}")
    whole, rate = read_audio(path)
    assert abs(len(whole) / rate - 2.0) < 0.05
    assert_refused(cut(path, 0.5), "truncated")


def test_cut_off_webm_without_a_duration_of_its_track(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.webm")
    data = path.read_bytes()
    assert b"DURATION" in data
    path.write_bytes(data.replace(b"DURATION", b"durazion"))
    read_audio(path)
    assert_refused(cut(path, 0.5), "truncated")


def test_webm_written_to_a_pipe_is_not_called_truncated(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.webm", live=True)
    assert b"DURATION" not in path.read_bytes()
    samples, rate = read_audio(path)
    assert abs(len(samples) / rate - 2.0) < 0.05


def test_video_that_outlasts_its_audio_is_not_called_truncated(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", video=True, frames=50)
    samples, rate = read_audio(path)
    assert abs(len(samples) / rate - 2.0) < 0.05
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"durazion"))
    assert len(read_audio(path)[0]) == len(samples)


def test_video_without_pyav_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom")
    real = builtins.__import__

    def no_av(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_av)
    with pytest.raises(InputError, match="pip install av"):
        read_audio(path)


@pytest.mark.parametrize("start, stop", [(2.0, 3.0), (0.5, 0.5), (0.5, 0.2), (-1.0, 0.5), (float("nan"), None)])
def test_segment_that_cannot_be_cut(tmp_path: Path, start: float, stop: float | None) -> None:
    assert_refused(write(tmp_path / "a.wav", make_noise()), "empty", start, stop)


def test_segment_beyond_the_end_names_the_end(tmp_path: Path) -> None:
    error = assert_refused(write(tmp_path / "a.wav", make_noise()), "empty", 2.0, 3.0)
    assert "starts at 2 s, beyond the end at 1 s" in str(error)
    container = write_container(tmp_path / "a.mp4")
    assert_refused(container, "empty", 12.0, 13.0)


def test_clip_too_short_to_resample(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.ones(1, np.float32), 96_000)
    with pytest.raises(AudioError, match="empty"):
        load_waveform(path, AudioSpec())


def test_one_bad_clip_never_stops_the_run(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", make_noise())
    (tmp_path / "zero.wav").write_bytes(b"")
    clips = [(good, None, None), (tmp_path / "zero.wav", None, None), (tmp_path / "none.wav", None, None)] * 5
    results = list(decode_many(clips, AudioSpec(), workers=2))
    assert [i for i, _ in results] == list(range(15))
    kinds = [r.reason if isinstance(r, AudioError) else len(r) for _, r in results]
    assert kinds == [RATE, "zero-byte", "missing"] * 5


def test_every_reason_has_a_remedy_and_unknown_reasons_are_errors() -> None:
    for reason in AUDIO_REASONS:
        assert str(AudioError("a.wav", reason)).startswith(f"a.wav: {reason}; ")
    with pytest.raises(ValueError, match="unknown reason"):
        AudioError("a.wav", "odd")


def test_error_survives_the_way_out_of_a_worker() -> None:
    error = AudioError("a.wav", "truncated", "two\nlines")
    buffer = io.BytesIO(pickle.dumps(error))
    again = pickle.load(buffer)
    assert str(again) == str(error) == "a.wav: truncated (two lines); the download or copy was cut off: fetch it again"
    assert again.reason == "truncated" and again.path == Path("a.wav")


def test_without_pyav_a_video_among_good_clips_is_one_bad_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(64))
    (tmp_path / "b.raw").write_bytes(bytes(3200))
    good = write(tmp_path / "c.wav", make_noise())
    clips = [(path, None, None) for path in (tmp_path / "a.mp4", tmp_path / "b.raw", good)]
    decoded = [result for _, result in decode_many(clips, AudioSpec(), workers=1)]
    assert [getattr(result, "reason", "usable") for result in decoded] == ["needs PyAV", "not audio", "usable"]
    assert "pip install av" in str(decoded[0])
