"""Sound files of every format that the suite reads, through `predict`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from fuzz.finite import check_finite
from fuzz.flac import other_sound, same_sound
from fuzz.kind import Kind, command
from fuzz.mutators import damage, pick
from fuzz.weights import save_debug_model
from make_audio import RATE, tone
from numpy.random import Generator

from reproduce.audio.waveforms import load_clip

MODEL = "model.safetensors"
SAME = "same.txt"  # names the seed whose samples a damaged file must still have
LONGEST_S = 80.0  # a second, doubled several times, at a sixteenth of its rate
STEREO = np.stack([tone(300.0, seed=1), tone(500.0, seed=2)], axis=1)
ABSURD = (np.nan, np.inf, -np.inf, 3e29, 1e300, 32767.0)


def sndfile(format: str, subtype: str | None = None, samples: np.ndarray = STEREO) -> bytes:
    """A file as libsndfile writes it."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format=format, subtype=subtype)
    return stream.getvalue()


def ffmpeg(format: str, codec: str, rate: int = RATE) -> bytes:
    """A file as FFmpeg writes it."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=format) as container:
        track = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone(300.0) * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(format=track.format.name, layout="mono", rate=rate, frame_size=track.frame_size)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    return stream.getvalue()


def _wavs() -> dict[str, bytes]:
    return {
        "pcm16.wav": sndfile("WAV", "PCM_16"),
        "float.wav": sndfile("WAV", "FLOAT"),
        "double.wav": sndfile("WAV", "DOUBLE", STEREO.astype(np.float64)),
        "adpcm.wav": sndfile("WAV", "MS_ADPCM"),
        "long.w64": sndfile("W64", "PCM_16"),
        "long.rf64": sndfile("RF64", "PCM_16"),
        "apple.aiff": sndfile("AIFF", "PCM_16"),
        "sun.au": sndfile("AU", "PCM_16"),
        "core.caf": sndfile("CAF", "PCM_16"),
    }


def _oggs() -> dict[str, bytes]:
    vorbis = sndfile("OGG", "VORBIS")
    return {"vorbis.ogg": vorbis, "opus.opus": sndfile("OGG", "OPUS"), "chained.ogg": vorbis + sndfile("OGG", "VORBIS")}


def _mp3s() -> dict[str, bytes]:
    lame = sndfile("MP3")
    return {"lame.mp3": lame, "joined.mp3": lame + lame}


def _containers() -> dict[str, bytes]:
    return {
        "aac.m4a": ffmpeg("mp4", "aac"),
        "adts.aac": ffmpeg("adts", "aac"),
        "opus.webm": ffmpeg("webm", "libopus", 48_000),
        "aac.mkv": ffmpeg("matroska", "aac"),
    }


def _flacs() -> dict[str, bytes]:
    return {"pcm.flac": sndfile("FLAC"), "deep.flac": sndfile("FLAC", "PCM_24")}


def _mutate(seeds: Path, case: Path, random: Generator) -> None:
    source = pick(sorted(path for path in seeds.iterdir() if path.suffix not in ("", ".safetensors")), random)
    data = source.read_bytes()
    if source.suffix == ".flac" and random.random() < 0.7:
        if random.random() < 0.4:
            (case / SAME).write_text(source.name)
            (case / source.name).write_bytes(same_sound(data, random))
        else:
            (case / source.name).write_bytes(other_sound(data, random))
        return
    if source.name in ("float.wav", "double.wav") and random.random() < 0.5:
        samples, rate = soundfile.read(source, dtype="float64")
        samples[random.integers(len(samples), size=5)] = pick(ABSURD, random)
        with np.errstate(over="ignore"):
            soundfile.write(case / source.name, samples, rate, subtype=source.stem.upper())
        return
    (case / source.name).write_bytes(damage(data, random))


def _predict(case: Path, seeds: Path) -> Any:
    predicted = command("predict", "--model", seeds / MODEL, case, "--format", "json", "--device", "cpu")
    for row in json.loads(predicted):
        sound = load_clip(row["file"], RATE).waveform
        check_finite(sound)
        assert 0 < len(sound) <= LONGEST_S * RATE, f"{len(sound)} samples"
        if (case / SAME).exists():
            before = load_clip(seeds / (case / SAME).read_text(), RATE).waveform
            assert np.array_equal(sound, before), "other samples than those of the seed"
    return predicted


def _warm_up(seeds: Path) -> None:
    sound = next(path for path in sorted(seeds.iterdir()) if path.suffix not in ("", ".safetensors"))
    command("predict", "--model", seeds / MODEL, sound, "--device", "cpu")
    av.open(io.BytesIO(sndfile("MP3"))).close()


def _kind(name: str, make: Callable[[], Mapping[str, bytes]]) -> Kind:
    def prepare(seeds: Path) -> None:
        for file, data in make().items():
            (seeds / file).write_bytes(data)
        save_debug_model(seeds / MODEL)

    return Kind(name=name, prepare=prepare, mutate=_mutate, run=_predict, warm_up=_warm_up)


KINDS = tuple(
    _kind(name, make)
    for name, make in (("wav", _wavs), ("flac", _flacs), ("ogg", _oggs), ("mp3", _mp3s), ("containers", _containers))
)
WAV, FLAC, OGG, MP3, CONTAINERS = KINDS
