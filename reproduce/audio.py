"""From a file to a log-mel spectrogram: the only feature code of the project, in the order the data moves.

`read_audio` -> `to_mono` -> `resample` -> mean removed (together: `load_waveform`) -> `fit` -> `stack_waveforms`
-> `log_mel` -> `normalise`. The front end is AST's (YuanGongND/ast `src/dataloader.py`; RECIPES.md section 1):
`torchaudio.compliance.kaldi.fbank` with a Hann window, 128 mels, no dither, on waveforms that are *not* scaled by
2**15. torchaudio itself is not needed: `log_mel` repeats its arithmetic, on whole batches and on any device.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

from reproduce.audio_errors import AudioError
from reproduce.audio_spec import AudioSpec
from reproduce.datasets.packs import is_packed, read_packed

LOG_MEL_FLOOR_ENERGY = torch.finfo(torch.float32).eps  # kaldi floors mel energies at 1.19e-7, i.e. log-mel -15.942
# AST's quirk: frames past a clip's end are 0 in *log*-mel units, before normalisation. That is a loud constant
# (+0.467 after normalisation with AudioSet's statistics), not silence (-1.278) and not the mean (0).
PADDING_LOG_MEL = 0.0

# libsndfile does not open these; PyAV (ffmpeg) does. Files are also recognised by their first bytes.
_CONTAINER_SUFFIXES = frozenset({".mp4", ".m4a", ".m4v", ".mov", ".webm", ".mkv", ".mka", ".avi", ".aac"})
_AUDIO_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
_OGG_PAGE_BYTES = 65_307  # the largest page that Ogg allows
_WAV_STREAMED_BYTES = 0x7FFF_F000  # writers to a pipe put 0x7FFFFFFF or 0xFFFFFFFF for "length unknown"
_AIFF_STREAMED_BYTES = 0x7F00_0000  # likewise: sox and others put this or more, or 0
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a flac written to a pipe is 2**63 - 1
_CONTAINER_SLACK_S = 0.2  # codec delay and padding: how far a container's stated duration may exceed what decodes
_DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # that ffmpeg and mkvmerge give each Matroska track
_CONTAINER_PREROLL_S = 0.2  # codecs with overlapping windows need some packets before the first exact sample

_CUDA_CHUNK_CLIPS = 64  # bounds memory: about 0.4 GiB of frames and spectra at 1024 frames
_MEL_BANDS = 4  # mel filters are narrow: four blocks of the matrix skip most of its zeros


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
    head = _read_head(path)
    if _is_container(head) or path.suffix.lower() in _CONTAINER_SUFFIXES:
        return _read_container(path, head, start, stop)
    return _read_sound(path, head, start, stop)


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise AudioError(path, "missing") from None
    except OSError as error:
        raise AudioError(path, "unreadable", error.strerror or str(error)) from None
    if not head:
        raise AudioError(path, "zero-byte")
    return head


def _is_container(head: bytes) -> bool:
    """By its first bytes: mp4 and its kin, or Matroska."""
    return head[4:8] == b"ftyp" or _is_matroska(head)


def _is_matroska(head: bytes) -> bool:
    """mkv, mka or webm."""
    return head.startswith(b"\x1aE\xdf\xa3")


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
            return _read_container(path, head, start, stop)
        _check_not_cut(path, file.format)
        first, last = _segment(path, file.frames, file.samplerate, start, stop)
        try:
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(path, "truncated", error.error_string) from None
        if len(samples) < last - first and _promises_length(path, file):
            seconds = (first + len(samples)) / file.samplerate
            raise AudioError(path, "truncated", f"decodes to {seconds:.2f} s of {file.frames / file.samplerate:.2f} s")
        return samples, file.samplerate


def _segment(path: Path, frames: int, rate: int, start: float | None, stop: float | None) -> tuple[int, int]:
    """First and last (exclusive) sample of a stretch, cut at the file's end."""
    first = 0 if start is None else round(start * rate)
    last = frames if stop is None else min(round(stop * rate), frames)
    if first >= frames > 0:
        raise AudioError(path, "empty", f"segment starts at {start:g} s, beyond the end at {frames / rate:g} s")
    return first, last


def _check_not_cut(path: Path, kind: str) -> None:
    """libsndfile quietly shortens a cut wav, aiff or ogg, so compare what the header and the last page say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind in ("WAV", "WAVEX"):
            promised = _wav_data_end(file.read(1 << 16))
            if promised is not None and promised > size:
                raise AudioError(path, "truncated", f"{size} bytes where the header promises {promised}")
        elif kind == "AIFF":
            promised = _aiff_end(file.read(8))
            if promised is not None and promised > size + 1:  # some count a last pad byte that they do not write
                raise AudioError(path, "truncated", f"{size} bytes where the header promises {promised}")
        elif kind == "OGG":
            file.seek(max(0, size - _OGG_PAGE_BYTES))
            if not _ends_an_ogg_stream(file.read()):
                raise AudioError(path, "truncated", "no end-of-stream page")


def _wav_data_end(head: bytes) -> int | None:
    """Byte at which a wav's samples should end, or None where its header does not say."""
    at = 12
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"data":
            return None if size >= _WAV_STREAMED_BYTES else at + 8 + size
        at += 8 + size + size % 2
    return None


def _aiff_end(head: bytes) -> int | None:
    """Byte at which an aiff's FORM chunk should end, or None where its header does not say."""
    (size,) = struct.unpack_from(">I", head, 4)
    return None if size >= _AIFF_STREAMED_BYTES else 8 + size


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


def _read_container(path: Path, head: bytes, start: float | None, stop: float | None) -> tuple[np.ndarray, int]:
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
            duration = _matroska_seconds(container, stream) if _is_matroska(head) else _stream_seconds(stream)
    except av.FFmpegError as error:
        reason = "truncated" if _is_container(head) else "not audio"
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


# --- waveforms -----------------------------------------------------------------------------------------------


def to_mono(samples: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,): the mean over channels. kaldi.fbank would silently take channel 0."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """(samples,) float32 at `to_rate` Hz, band-limited (soxr HQ), so nothing above the new Nyquist folds back."""
    if from_rate == to_rate:
        return samples
    return soxr.resample(samples, from_rate, to_rate, quality="HQ").astype(np.float32, copy=False)


def load_waveform(
    path: str | Path, spec: AudioSpec, start: float | None = None, stop: float | None = None
) -> np.ndarray:
    """A clip as AST takes it: (samples,) float32, mono, at `spec.sample_rate`, its mean removed.

    It keeps its own length (training cuts random stretches out of it: `crop`) and is not scaled by 2**15.

    Raises:
        AudioError, InputError: as `read_audio`.
    """
    return remove_mean(load_mono(path, spec.sample_rate, start, stop))


def load_mono(path: str | Path, sample_rate: int, start: float | None = None, stop: float | None = None) -> np.ndarray:
    """`load_waveform` before its mean is removed, which is what shards store: 16-bit recordings stay exact."""
    samples, rate = read_audio(path, start, stop)
    waveform = resample(to_mono(samples), rate, sample_rate)
    if not len(waveform):
        raise AudioError(path, "empty", f"{len(samples)} samples at {rate} Hz leave none at {sample_rate} Hz")
    return waveform


def remove_mean(waveform: np.ndarray) -> np.ndarray:
    """(samples,) float32 around zero, as AST's loader leaves it."""
    return waveform - waveform.mean(dtype=np.float64).astype(np.float32)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether a waveform never swings by one 16-bit step. Silent clips are valid input; callers report them."""
    return bool(np.ptp(waveform) < 2.0**-15)


def crop(waveform: np.ndarray, samples: int, offset: int = 0) -> np.ndarray:
    """At most `samples` samples of (n,) from `offset` on; `offset` must leave at least one."""
    if not 0 <= offset < len(waveform):
        raise ValueError(f"offset {offset} lies outside a waveform of {len(waveform)} samples")
    return waveform[offset : offset + samples]


def fit(waveform: np.ndarray, spec: AudioSpec, offset: int = 0) -> np.ndarray:
    """(n,) cut from `offset` to at most `spec.samples`; where `spec.pad` is "repeat", tiled to exactly that."""
    waveform = crop(waveform, spec.samples, offset)
    if spec.pad == "repeat" and len(waveform) < spec.samples:
        return np.resize(waveform, spec.samples)  # np.resize repeats its input
    return waveform


def stack_waveforms(waveforms: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms of any lengths -> (batch, longest) float32 with zeros behind the short ones, and (batch,) int64."""
    lengths = torch.tensor([len(w) for w in waveforms], dtype=torch.int64)
    batch = torch.zeros(len(waveforms), int(lengths.max()), dtype=torch.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


def decode_many(
    clips: Iterable[tuple[str | Path, float | None, float | None]], spec: AudioSpec, workers: int
) -> Iterator[tuple[int, np.ndarray | AudioError]]:
    """Decode (path, start, stop) clips on `workers` threads, in order; a bad clip yields its error and never stops it.

    libsndfile and soxr release the GIL. At most `2 * workers` decoded clips are held.
    """

    def load(clip: tuple[str | Path, float | None, float | None]) -> np.ndarray | AudioError:
        try:
            return load_waveform(clip[0], spec, clip[1], clip[2])
        except AudioError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[int, Future[np.ndarray | AudioError]]] = deque()
        for i, clip in enumerate(clips):
            pending.append((i, pool.submit(load, clip)))
            if len(pending) == 2 * workers:
                j, future = pending.popleft()
                yield j, future.result()
        while pending:
            j, future = pending.popleft()
            yield j, future.result()


# --- spectrograms --------------------------------------------------------------------------------------------


def mel_filters(spec: AudioSpec) -> torch.Tensor:
    """Triangular filters on the HTK mel scale, (mels, fft // 2 + 1) float32, as kaldi's get_mel_banks.

    Computed in float32 and in torchaudio's order of operations: a filter that touches a single FFT bin would
    otherwise differ visibly. At 128 mels and a 512-point FFT filter 3 lies between two bins and is empty.
    """

    def mel_of(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    low = mel_of(spec.low_hz)
    step = (mel_of(spec.top_hz) - low) / (spec.mels + 1)
    index = torch.arange(spec.mels).unsqueeze(1)
    left, centre, right = low + index * step, low + (index + 1.0) * step, low + (index + 2.0) * step
    hz = spec.sample_rate / spec.fft * torch.arange(spec.fft / 2)
    mel = (1127.0 * (1.0 + hz / 700.0).log()).unsqueeze(0)
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    return torch.nn.functional.pad(filters, (0, 1))  # kaldi gives the Nyquist bin no weight


@dataclass(frozen=True)
class _Constants:
    window: torch.Tensor  # (window,)
    bands: tuple[tuple[slice, slice, torch.Tensor], ...]  # mels of a band, its FFT bins, and (mels, bins) weights


@lru_cache(maxsize=32)
def _constants(spec: AudioSpec, device: torch.device, dtype: torch.dtype) -> _Constants:
    window = torch.hann_window(spec.window, periodic=False)
    bands, start = [], 0
    for rows in mel_filters(spec).chunk(_MEL_BANDS):
        mels = slice(start, start + len(rows))
        start = mels.stop
        used = torch.nonzero(rows.sum(dim=0)).flatten()
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        bands.append((mels, bins, rows[:, bins].to(device, dtype, copy=True).contiguous()))
    return _Constants(window.to(device, dtype), tuple(bands))


@torch.no_grad()
def log_mel(waveforms: torch.Tensor, lengths: torch.Tensor | None, spec: AudioSpec) -> torch.Tensor:
    """AST's log-mel spectrogram, un-normalised, on the device and in the precision of `waveforms`.

    Equals `torchaudio.compliance.kaldi.fbank(w, htk_compat=True, use_energy=False, window_type="hanning",
    num_mel_bins=128, dither=0, frame_shift=10)` clip by clip. On the CPU every operation rounds as theirs does:
    in clips without high frequencies float32 rounding moves cells near the floor by up to 4e-3, so cheaper
    algebra (pre-emphasis of the whole waveform, folded DC removal) would not agree to 1e-4.

    Args:
        waveforms: (batch, samples) float, means removed, zeros behind the short ones.
        lengths: (batch,) samples of each clip, or None when all fill the width.

    Returns:
        (batch, 1, mels, frames). Only whole windows count (10 s give 998 frames); frames past a clip's own are
        PADDING_LOG_MEL, and a clip shorter than one window, where kaldi.fbank stops with an assertion, is all
        padding. Longer clips keep their first `frames`. The batch does not change a clip's values on the CPU.
    """
    batch, samples = waveforms.shape
    owned = [samples] * batch if lengths is None else [int(n) for n in lengths.tolist()]
    if len(owned) != batch or any(not 0 <= n <= samples for n in owned):
        raise ValueError(f"lengths must be {batch} numbers from 0 to {samples}, not {owned}")
    frames = [spec.frames_of(n) for n in owned]
    out = waveforms.new_full((batch, 1, spec.mels, spec.frames), PADDING_LOG_MEL)
    # One clip at a time stays in a CPU's cache (measured faster than a batch) and leaves no padded frame to compute.
    step = 1 if waveforms.device.type == "cpu" else _CUDA_CHUNK_CLIPS
    scratch = _Scratch.of(min(step, batch), max(frames, default=0), waveforms, spec)
    with _full_precision(waveforms.device):
        for i in range(0, batch, step):
            longest = max(frames[i : i + step])
            if longest:
                used = spec.window + (longest - 1) * spec.hop
                _log_mel_of_full_rows(waveforms[i : i + step, :used], spec, scratch, out[i : i + step, 0, :, :longest])
    if step > 1:
        own = torch.tensor(frames, device=out.device).view(batch, 1, 1, 1)
        out.masked_fill_(torch.arange(spec.frames, device=out.device) >= own, PADDING_LOG_MEL)
    return out


@dataclass(frozen=True)
class _Scratch:
    """What lies between a waveform and its log-mel, kept from clip to clip: fresh memory costs time."""

    means: torch.Tensor  # (clips, frames, 1)
    padded: torch.Tensor  # (clips, frames, fft): windowed frames with zeros behind them
    weighted: torch.Tensor  # (clips, frames, window - 1): predecessors times the pre-emphasis
    power: torch.Tensor  # (clips, frames, fft // 2 + 1)

    @classmethod
    def of(cls, clips: int, frames: int, like: torch.Tensor, spec: AudioSpec) -> _Scratch:
        bins = spec.fft // 2 + 1
        return cls(
            like.new_empty(clips, frames, 1),
            like.new_zeros(clips, frames, spec.fft),
            like.new_empty(clips, frames, spec.window - 1),
            like.new_empty(clips, frames, bins),
        )

    def part(self, clips: int, frames: int) -> _Scratch:
        parts = (self.means, self.padded, self.weighted, self.power)
        return _Scratch(*(x[:clips, :frames] for x in parts))


def _log_mel_of_full_rows(waveforms: torch.Tensor, spec: AudioSpec, scratch: _Scratch, out: torch.Tensor) -> None:
    """(clips, samples) into `out` (clips, mels, frames), all frames taken to be the clip's own."""
    constants = _constants(spec, waveforms.device, waveforms.dtype)
    scratch = scratch.part(len(out), out.shape[-1])
    frames = waveforms.unfold(-1, spec.window, spec.hop)  # (clips, frames, window), a view
    windowed = scratch.padded[..., : spec.window]
    torch.sub(frames, torch.mean(frames, -1, keepdim=True, out=scratch.means), out=windowed)
    if spec.preemphasis:
        # The first sample has no predecessor; kaldi takes itself, and the Hann window then multiplies it by 0.
        windowed[..., 1:] -= torch.mul(windowed[..., :-1], spec.preemphasis, out=scratch.weighted)
    windowed *= constants.window
    squares = torch.view_as_real(torch.fft.rfft(scratch.padded)).square_()
    power = torch.add(squares[..., 0], squares[..., 1], out=scratch.power)
    for mels, bins, weights in constants.bands:
        torch.bmm(weights.expand(len(out), -1, -1), power[..., bins].mT, out=out[:, mels])
    out.clamp_(min=LOG_MEL_FLOOR_ENERGY).log_()


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32: with 10 mantissa bits a log-mel is off by up to 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def normalise(log_mels: torch.Tensor, spec: AudioSpec) -> torch.Tensor:
    """(x - mean) / (2 * std): AST scales to a standard deviation of 0.5, not 1."""
    return (log_mels - spec.mean) / (2 * spec.std)
