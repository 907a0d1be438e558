"""Sound inside video and MPEG-4 containers, decoded by PyAV. No torch here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.audio.headers import is_container, is_matroska

_CONTAINER_SLACK_S = 0.2  # codec delay and padding: how far a container's stated duration may exceed what decodes
_DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # that ffmpeg and mkvmerge give each Matroska track
_CONTAINER_PREROLL_S = 0.2  # codecs with overlapping windows need some packets before the first exact sample


def read_container(path: Path, head: bytes, start: float | None, stop: float | None) -> tuple[np.ndarray, int]:
    """The first audio track of a video container."""
    try:
        import av
    except ImportError:
        raise AudioError(path, "needs PyAV", "video container, or a flac that does not say its length") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(path, "no audio track")
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            samples, first = _decode_stream(container, stream, start, stop)
            duration = _matroska_seconds(container, stream) if is_matroska(head) else _stream_seconds(stream)
    except av.FFmpegError as error:
        reason = "truncated" if is_container(head) else "not audio"
        raise AudioError(path, reason, error.strerror or str(error)) from None
    end = (first + len(samples)) / rate
    if stop is None and end < duration - _CONTAINER_SLACK_S:
        raise AudioError(path, "truncated", f"decodes to {end:.2f} s of {duration:.2f} s")
    skip = 0 if start is None else round(start * rate) - first
    last = len(samples) if stop is None else round(stop * rate) - first
    if skip >= len(samples) > 0:
        raise AudioError(path, "empty", f"segment starts at {start:g} s, beyond the end at {end:g} s")
    return samples[max(0, skip) : last], rate


def _stream_seconds(stream: Any) -> float:
    """How long a PyAV stream says it is, or 0."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


def _matroska_seconds(container: Any, stream: Any) -> float:
    """How long the audio of a mkv or webm says it is, or 0: its DURATION tag, else the whole file's length.

    A video track may rightly outlast the audio, so the file's length counts only where the audio is all there is.
    """
    tag = _DURATION_TAG.match(stream.metadata.get("DURATION", ""))
    if tag:
        end = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    elif len(container.streams) == 1 and not stream.duration:  # given a duration, ffmpeg has guessed both
        end = (container.duration or 0) / 1e6  # ffmpeg counts microseconds
    else:
        return 0.0
    return end - max(0.0, float((stream.start_time or 0) * stream.time_base))  # both count from time stamp 0


def _decode_stream(container: Any, stream: Any, start: float | None, stop: float | None) -> tuple[np.ndarray, int]:
    """Decode a PyAV audio stream around [start, stop) seconds -> (samples, channels) and its first sample's index."""
    import av

    rate = stream.codec_context.sample_rate
    origin = float((stream.start_time or 0) * stream.time_base)
    if start:
        target = max(0.0, start - _CONTAINER_PREROLL_S) + origin
        container.seek(int(target / stream.time_base), stream=stream)
    to_float = av.AudioResampler(format="fltp")
    blocks: list[np.ndarray] = []
    first: int | None = None
    position = 0
    for frame in container.decode(stream):
        if first is None:
            first = round(((frame.time or 0.0) - origin) * rate) if start else 0
        blocks.extend(part.to_ndarray() for part in to_float.resample(frame))
        position += frame.samples
        if stop is not None and first + position >= stop * rate:
            break
    if blocks:
        blocks.extend(part.to_ndarray() for part in to_float.resample(None))
    channels = stream.codec_context.channels
    samples = np.concatenate(blocks, axis=1).T if blocks else np.zeros((0, channels), np.float32)
    return samples.astype(np.float32, copy=False), first or 0
