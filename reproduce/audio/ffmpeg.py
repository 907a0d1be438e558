"""Sound decoded by FFmpeg through PyAV: mp3, AAC, MP4, Matroska, chained Ogg and other containers. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from reproduce.audio.blocks import BLOCK_SAMPLES, Block, Stretch, check_format
from reproduce.audio.errors import OF_DAMAGE, AudioError, AudioWarning

# Demuxers that read one file and open no other. Playlists (concat, hls, sdp, dash, ...) are not among them.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,"
    "ogg,rm,tta,voc,w64,wav,webm,wv"
)
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
_CONTAINER_SLACK_S = 0.2  # codec delay and padding: how far a container's stated duration may exceed what decodes
# Tags between the frames of joined mp3 files, or the last packet of a cut stream.
_MAX_BAD_PACKETS, _MAX_BAD_SHARE = 3, 0.01
_DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # that ffmpeg and mkvmerge give each Matroska track
_INTEGER_SCALES = {"s16": 2.0**-15, "s32": 2.0**-31}


class NotAudioError(Exception):
    """FFmpeg does not know the format, or it is not one of those that are allowed."""


def stream_ffmpeg(file: IO[bytes], path: Path | str, stretch: Stretch, warnings: list[AudioWarning]) -> Iterator[Block]:
    """Decode a stretch of a file's first audio track, block by block.

    Decoding begins with the file, as codecs carry state from packet to packet: a stretch gives the samples that the
    whole file gives there. It costs about 2 s per hour of sound before the stretch.

    Args:
        file: open at any position; nothing else is opened.
        path: for messages.
        stretch: decoding ends with it.
        warnings: receives what there is to know about the file.

    Raises:
        AudioError: truncated, no audio track, unreadable, unsupported format, too long or empty.
        NotAudioError: another kind of file.
    """
    with _open(file) as container:
        if not container.streams.audio:
            raise AudioError(path, "no audio track")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(path, "unreadable", "its audio codec is unknown")
        yield from _join(stretch.cut(path, _decode(path, container, stream, warnings)))


def _open(file: IO[bytes]) -> Any:
    """The container in `file`, to be closed; NotAudioError for a format that is not allowed or not known."""
    import av

    file.seek(0)
    # Tags that are not UTF-8. PyAV 19 has no such choice, and reads them.
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    try:
        return av.open(_Unnamed(file), options=_OPTIONS, buffer_size=1 << 16, **lenient)
    except (av.FFmpegError, ValueError, UnicodeError) as error:
        raise NotAudioError(getattr(error, "strerror", None) or str(error)) from None


class _Unnamed:
    """A file without its name, by whose suffix FFmpeg would guess the format."""

    name = ""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position, or -1, FFmpeg's error, for one that no file has: damaged files ask for such."""
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _join(blocks: Iterator[Block]) -> Iterator[Block]:
    """Join the small blocks of a decoder to large ones."""
    parts: list[np.ndarray] = []
    rate = waiting = 0
    for samples, rate in blocks:
        parts.append(samples)
        waiting += len(samples)
        if waiting >= BLOCK_SAMPLES:
            yield Block(np.concatenate(parts), rate)
            parts, waiting = [], 0
    if parts:
        yield Block(np.concatenate(parts), rate)


def _decode(path: Path | str, container: Any, stream: Any, warnings: list[AudioWarning]) -> Iterator[Block]:
    """Yield one block per decoded frame. A few packets that cannot be decoded are skipped, with a warning."""
    samples = packets = 0
    rate = channels = 0
    damage: list[str] = []
    holes = _Holes(container.format.name == "ogg")
    for frames in _frames(container, stream):
        packets += 1
        if isinstance(frames, str):
            damage.append(frames)
            continue
        for frame in frames:
            form = frame.sample_rate, frame.layout.nb_channels
            if not samples:
                rate, channels = form
                check_format(path, rate, channels)
            if form != (rate, channels):
                change = f"{rate} Hz, {channels} channels, to {form[0]} Hz, {form[1]} channels"
                raise AudioError(path, "unsupported format", f"changes after {samples / rate:.2f} s from {change}")
            if holes.seconds_before(frame) > _CONTAINER_SLACK_S:
                raise AudioError(
                    path, "unreadable", f"damaged: sound is missing after {samples / rate:.2f} s", OF_DAMAGE
                )
            samples += frame.samples
            yield Block(_to_float(frame), rate)
    if not samples or len(damage) > max(_MAX_BAD_PACKETS, packets * _MAX_BAD_SHARE):
        raise AudioError(path, "unreadable", f"{len(damage)} of {packets} packets cannot be decoded", OF_DAMAGE)
    promised = _promised_seconds(container, stream)
    if samples / rate < promised - _CONTAINER_SLACK_S:
        raise AudioError(path, "truncated", f"decodes to {samples / rate:.2f} s of {promised:.2f} s")
    if damage:
        warnings.append(AudioWarning(Path(path), "damaged", f"skipped {len(damage)} of {packets} packets: {damage[0]}"))


class _Holes:
    """Sound that is missing between the frames of an Ogg, whose time stamps count samples exactly."""

    def __init__(self, exact: bool) -> None:
        self.exact, self.end, self.total = exact, None, 0.0

    def seconds_before(self, frame: Any) -> float:
        """Seconds that are missing so far, up to `frame`."""
        if self.exact and frame.time is not None:
            if self.end is not None:  # the next stream of a chain begins at 0 again
                self.total += max(0.0, frame.time - self.end)
            self.end = frame.time + frame.samples / frame.sample_rate
        return self.total


def _frames(container: Any, stream: Any) -> Iterator[list[Any] | str]:
    """Yield the frames of each packet, or what is wrong with it."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:  # nothing behind it can be read
            yield error.strerror or str(error)
            return
        if packet is None:
            return
        try:
            yield packet.decode()
        except (av.FFmpegError, ValueError, AttributeError) as error:  # also frames that PyAV does not know
            yield getattr(error, "strerror", None) or str(error)


def _to_float(frame: Any) -> np.ndarray:
    """(samples, channels) float32 of an audio frame, full scale = 1."""
    kind = frame.format.packed.name
    values = frame.to_ndarray()
    samples = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if kind == "u8":
        return (samples.astype(np.float32) - 128) * np.float32(2**-7)
    if kind in _INTEGER_SCALES:
        return samples.astype(np.float32) * np.float32(_INTEGER_SCALES[kind])
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite, which `check_values` refuses
        return samples.astype(np.float32, copy=False)


# --- stated durations ---


def stated_seconds_ffmpeg(file: IO[bytes]) -> float | None:
    """What a file's header says, or FFmpeg estimates by the bit rate; None without either.

    Raises:
        NotAudioError: another kind of file.
    """
    with _open(file) as container:
        return container.duration / 1e6 if container.duration else None  # FFmpeg counts microseconds


def _promised_seconds(container: Any, stream: Any) -> float:
    """How much sound MP4 or Matroska promises; 0 for other formats, whose durations FFmpeg estimates."""
    names = container.format.name.split(",")
    if "matroska" in names:
        return _matroska_seconds(container, stream)
    known = "mov" in names and stream.duration and stream.time_base
    return float(stream.duration * stream.time_base) if known else 0.0


def _matroska_seconds(container: Any, stream: Any) -> float:
    """Length of the audio by its DURATION tag, else by the file's length where audio is all it holds."""
    tag = _DURATION_TAG.match(stream.metadata.get("DURATION", ""))
    if tag:
        end = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    elif len(container.streams) == 1 and not stream.duration:  # given a duration, FFmpeg has estimated both
        end = (container.duration or 0) / 1e6  # FFmpeg counts microseconds
    else:
        return 0.0
    return end - max(0.0, float((stream.start_time or 0) * stream.time_base))  # both count from time stamp 0
