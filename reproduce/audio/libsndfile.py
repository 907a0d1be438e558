"""Sound decoded by libsndfile: WAV, AIFF, AU, FLAC, Ogg of one stream, and its rarer formats. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import soundfile

from reproduce.audio.blocks import BLOCK_SAMPLES, Block, Stretch, check_format, check_length
from reproduce.audio.errors import OF_DAMAGE, AudioError

_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a flac written to a pipe is 2**63 - 1
_VORBIS_BLOCK = 8192  # the largest: by so much may the position that the last page states exceed what decodes


def open_sndfile(file: FileIO) -> soundfile.SoundFile | None:
    """Open a file for `stream_sndfile`; None where libsndfile cannot read it, or not to its end."""
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    try:
        sound = soundfile.SoundFile(file.fileno(), closefd=False)
    except (soundfile.LibsndfileError, TypeError, ValueError):
        return None
    if sound.frames > _UNKNOWN_FRAMES or sound.subtype.startswith("MPEG"):
        sound.close()
        return None
    return sound


def stream_sndfile(sound: soundfile.SoundFile, path: Path, stretch: Stretch) -> Iterator[Block]:
    """Decode a stretch, block by block; no bytes beyond it are read, save to see whether a FLAC is whole.

    Raises:
        AudioError: truncated, unreadable, empty, unsupported format or too long.
    """
    rate, frames = sound.samplerate, sound.frames
    check_format(path, rate, sound.channels)
    first = stretch.first(rate)
    last = min(frames, frames if stretch.stop is None else stretch.last(rate) or 0)
    try:
        if sound.format == "FLAC" and (last < frames or last > BLOCK_SAMPLES):
            _read_last_sample(sound, path)
        if first >= frames > 0:
            raise stretch.beyond(path, frames / rate)
        if stretch.limited:
            check_length(path, last - first, sound.channels, rate)
        # In Ogg libsndfile finds a position to within a few thousand samples only, so it decodes what precedes.
        position = 0 if sound.format == "OGG" else first
        sound.seek(position)
        while position < last:
            asked = min(BLOCK_SAMPLES, last - position)
            samples = sound.read(asked, dtype="float32", always_2d=True)
            skipped = max(0, first - position)
            position += len(samples)
            if skipped < len(samples):
                yield Block(samples[skipped:], rate)
            if len(samples) < asked:
                if sound.format == "OGG" and frames - position <= _VORBIS_BLOCK:
                    return
                raise AudioError(
                    path, "unreadable", f"damaged after {position / rate:.2f} of {frames / rate:.2f} s", OF_DAMAGE
                )
    except soundfile.LibsndfileError as error:
        if sound.format == "FLAC":  # a decoder that has failed cannot seek any more: open the file anew
            os.lseek(sound.name, 0, os.SEEK_SET)
            with soundfile.SoundFile(sound.name, closefd=False) as again:
                _read_last_sample(again, path)
        raise AudioError(path, "unreadable", f"damaged: {error.error_string}", OF_DAMAGE) from None


def _read_last_sample(sound: soundfile.SoundFile, path: Path) -> None:
    """Raise AudioError where the header promises more than the file holds."""
    try:
        sound.seek(sound.frames - 1)
        count = len(sound.read(1, always_2d=True))
    except soundfile.LibsndfileError:
        count = 0
    if not count:
        seconds = sound.frames / sound.samplerate
        raise AudioError(path, "truncated", f"holds less than the {seconds:.2f} s that its header promises")
