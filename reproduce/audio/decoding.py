"""From a sound file to samples: WAV, AIFF, FLAC, Ogg and MP3, by libsndfile. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from reproduce.audio.containers import read_container
from reproduce.audio.errors import AudioError
from reproduce.audio.headers import aiff_end, is_container, read_head, stretch, wav_data_end
from reproduce.audio.packs import is_packed, read_packed

# libsndfile does not open these; PyAV (ffmpeg) does. Files are also recognised by their first bytes.
_CONTAINER_SUFFIXES = frozenset({".mp4", ".m4a", ".m4v", ".mov", ".webm", ".mkv", ".mka", ".avi", ".aac"})
_AUDIO_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
_OGG_PAGE_BYTES = 65_307  # the largest page that Ogg allows
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a flac written to a pipe is 2**63 - 1


# --- reading -------------------------------------------------------------------------------------------------


def read_audio(path: str | Path, start: float | None = None, stop: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a file, or the stretch from `start` to `stop` seconds of it.

    wav, flac, ogg and mp3 of any bit depth go through libsndfile; mp4, m4a, webm and mkv (and a flac that was
    written to a pipe, so that it does not say its length) through PyAV; "FILE.h5::KEY" is a clip inside a pack.
    A stretch is sought, not cut out of the whole file; a `stop` past the end reads to the end. In webm and mkv,
    whose time stamps are whole milliseconds, a stretch may start up to 1 ms off.

    Returns:
        (samples, channels) float32, full scale = 1 (float files may exceed it), and the file's rate in Hz.

    Raises:
        AudioError: with `reason` from AUDIO_REASONS. A truncated file is an error even if `stop` would precede
            the cut, where the format lets us see it (wav, aiff, ogg).
    """
    if (start is not None and not start >= 0) or (stop is not None and not stop > (start or 0.0)):
        raise AudioError(path, "empty", f"segment from {start} to {stop} s")
    if is_packed(path):
        samples, rate = read_packed(path, start, stop)
    else:
        samples, rate = _read_file(Path(path), start, stop)
    if not len(samples):
        raise AudioError(path, "empty", "no samples")
    if not np.isfinite(samples).all():
        raise AudioError(path, "NaN samples", f"{int((~np.isfinite(samples)).sum())} of {samples.size} not finite")
    return samples, rate


def _read_file(path: Path, start: float | None, stop: float | None) -> tuple[np.ndarray, int]:
    head = read_head(path)
    if is_container(head) or path.suffix.lower() in _CONTAINER_SUFFIXES:
        return read_container(path, head, start, stop)
    return _read_sound(path, head, start, stop)


def _read_sound(path: Path, head: bytes, start: float | None, stop: float | None) -> tuple[np.ndarray, int]:
    """wav, flac, ogg, mp3 and whatever else libsndfile knows."""
    try:
        file = soundfile.SoundFile(path)
    except TypeError:  # soundfile wants to be told the format of .raw files
        raise AudioError(path, "not audio", "headerless samples") from None
    except soundfile.LibsndfileError as error:
        # The right first bytes, yet no usable header: what is left of a cut-off file, or a codec libsndfile lacks.
        reason = "unreadable" if head.startswith(_AUDIO_MAGIC) else "not audio"
        raise AudioError(path, reason, error.error_string) from None
    with file:
        if file.frames > _UNKNOWN_FRAMES:  # libsndfile can neither seek in such a file nor tell its end
            return read_container(path, head, start, stop)
        _check_not_cut(path, file.format)
        first, last = stretch(path, file.frames, file.samplerate, start, stop)
        try:
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(path, "truncated", error.error_string) from None
        if len(samples) < last - first and _promises_length(path, file):
            seconds = (first + len(samples)) / file.samplerate
            raise AudioError(path, "truncated", f"decodes to {seconds:.2f} s of {file.frames / file.samplerate:.2f} s")
        return samples, file.samplerate


def _check_not_cut(path: Path, kind: str) -> None:
    """libsndfile quietly shortens a cut wav, aiff or ogg, so compare what the header and the last page say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind in ("WAV", "WAVEX"):
            promised = wav_data_end(file.read(1 << 16))
            if promised is not None and promised > size:
                raise AudioError(path, "truncated", f"{size} bytes where the header promises {promised}")
        elif kind == "AIFF":
            promised = aiff_end(file.read(8))
            if promised is not None and promised > size + 1:  # some count a last pad byte that they do not write
                raise AudioError(path, "truncated", f"{size} bytes where the header promises {promised}")
        elif kind == "OGG":
            file.seek(max(0, size - _OGG_PAGE_BYTES))
            if not _ends_an_ogg_stream(file.read()):
                raise AudioError(path, "truncated", "no end-of-stream page")


def _ends_an_ogg_stream(tail: bytes) -> bool:
    at = tail.rfind(b"OggS")
    if at < 0 or at + 27 > len(tail) or not tail[at + 5] & 4:
        return False
    lacing = tail[at + 27 : at + 27 + tail[at + 26]]
    return len(lacing) == tail[at + 26] and at + 27 + len(lacing) + sum(lacing) <= len(tail)


def _promises_length(path: Path, file: soundfile.SoundFile) -> bool:
    """Whether `file.frames` is a promise: in an mp3 without a Xing header it is an estimate."""
    if file.format not in ("MP3", "MPEG"):
        return True
    with path.open("rb") as raw:
        head = raw.read(1 << 16)
    return b"Xing" in head or b"Info" in head
