"""From a sound file to samples: which decoder reads it, and whether it is whole. No torch here.

Length comes from decoding, never from a header. libsndfile reads WAV, FLAC, AIFF and Ogg of one stream; FFmpeg, through
PyAV, reads what libsndfile does not know or does not read to its end (mp3, AAC, MP4, Matroska, chained Ogg).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reproduce.audio.blocks import Block, Stretch, check_length, check_values
from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.audio.ffmpeg import NotAudioError, stated_seconds_ffmpeg, stream_ffmpeg
from reproduce.audio.headers import Header, open_regular, read_header
from reproduce.audio.libsndfile import open_sndfile, stream_sndfile
from reproduce.audio.packs import is_packed, stream_packed

_AUDIO_MAGIC = (b"RIFF", b"RF64", b"BW64", b"fLaC", b"OggS", b"FORM", b"caff", b"riff", b".snd", b"\x1aE\xdf\xa3")
_MAX_SAMPLES = 1 << 26  # values: 256 MiB of float32


def read_audio(
    path: str | Path, start: float | None = None, stop: float | None = None, warnings: list[AudioWarning] | None = None
) -> Block:
    """Decode a file, or a stretch of it, as one block: (samples, channels) float32 and the file's rate in Hz.

    The arguments and errors are those of `stream_audio`.

    Raises:
        AudioError: also too long, for more than 256 MiB of samples.
    """
    parts, samples_read, rate = [], 0, 0
    for samples, rate in stream_audio(path, start, stop, warnings):
        samples_read += samples.size
        if samples_read > _MAX_SAMPLES:
            raise AudioError(path, "too long", f"more than {samples_read // samples.shape[1] / rate / 60:.0f} min")
        parts.append(samples)
    return Block(parts[0] if len(parts) == 1 else np.concatenate(parts), rate)


def stream_audio(
    path: str | Path,
    start: float | None = None,
    stop: float | None = None,
    warnings: list[AudioWarning] | None = None,
    *,
    limited: bool = True,
) -> Iterator[Block]:
    """Decode a file or a stretch of it as blocks of at most a few million samples, at least one.

    Args:
        path: a sound file, or "FILE.h5::KEY" for a clip inside a pack.
        start: seconds; its samples are those of the whole file from there on.
        stop: seconds; nothing behind it is decoded.
        warnings: receives what there is to know about the file; complete after the last block.
        limited: refuse more than two hours as too long; False for readers that hold one block at a time.

    Raises:
        AudioError: with a reason of AUDIO_REASONS. A file whose header shows that it is cut is an error even where
            `stop` precedes the cut.
        InputError: the pack needs h5py, which is not installed.
    """
    if (start is not None and not start >= 0) or (stop is not None and not stop > (start or 0.0)):
        raise AudioError(path, "empty", f"segment from {start} to {stop} s")
    if is_packed(path):
        blocks = stream_packed(path, Stretch(start, stop, limited))
    else:
        blocks = _stream_file(Path(path), Stretch(start, stop, limited), [] if warnings is None else warnings)
    count = 0
    for block in blocks:
        count += len(block.samples)
        if limited:
            check_length(path, count, block.samples.shape[1], block.sample_rate)
        check_values(path, block.samples)
        yield block
    if not count:
        raise AudioError(path, "empty", "no samples")


def stated_seconds(path: str | Path) -> float | None:
    """How long a file claims to be, for a progress bar; None where it does not say. No result may depend on it."""
    if is_packed(path):
        return None
    try:
        with open_regular(Path(path)) as file:
            sound = None if read_header(file).for_ffmpeg else open_sndfile(file)
            if sound is None:
                return stated_seconds_ffmpeg(file)
            with sound:
                return sound.frames / sound.samplerate
    except (AudioError, NotAudioError, OSError):
        return None


def _stream_file(path: Path, stretch: Stretch, warnings: list[AudioWarning]) -> Iterator[Block]:
    with open_regular(path) as file:
        try:
            header = read_header(file)
            _check_whole(path, header, warnings)
            sound = None if header.for_ffmpeg else open_sndfile(file)
            if sound is not None:
                with sound:
                    yield from stream_sndfile(sound, path, stretch)
            else:
                yield from stream_ffmpeg(file, path, stretch, warnings)
        except NotAudioError as error:
            # The right first bytes, yet no usable header: a damaged file, or a codec that nobody knows.
            known = header.head.startswith(_AUDIO_MAGIC) or header.head[4:8] == b"ftyp"
            raise AudioError(path, "unreadable" if known else "not audio", str(error)) from None
        except OSError as error:
            raise AudioError(path, "unreadable", error.strerror or str(error)) from None


def _check_whole(path: Path, header: Header, warnings: list[AudioWarning]) -> None:
    missing = 0 if header.end is None else header.end - header.size
    if missing > header.slack:
        raise AudioError(path, "truncated", f"{header.size} bytes where the header promises {header.end}")
    if missing > 0:
        warnings.append(AudioWarning(path, "wrong size in header", f"{missing} bytes too much"))
    if header.no_end_mark:
        warnings.append(AudioWarning(path, "no end mark"))
