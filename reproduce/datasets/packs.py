"""Audio packed in HDF5: the layouts of PANNs, PaSST and auditory-slow-fast.

A packed clip's path is `FILE.h5::KEY`:
- PANNs (qiuqiangkong/audioset_tagging_cnn): KEY is the row; waveform (N, samples) int16 or float32, target (N, 527)
  bool, audio_name (N,), attribute sample_rate (32 kHz);
- PaSST (kkoutini/PaSST): KEY is the row; mp3 (N,) of bytes, target (N, 66) packed bits, audio_name (N,);
- auditory-slow-fast (ekazakos/auditory-slow-fast): KEY is the video id, naming a dataset (samples,) float32 of the
  whole video. The file does not state its rate: 24 kHz is what its script makes, another is added as `KEY@16000`.

h5py is imported only where a pack is opened (`pip install h5py`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio_errors import AudioError
from reproduce.datasets.base import Labels
from reproduce.datasets.scan import split_suffix
from reproduce.datasets.youtube_files import ID_DTYPE, parse_stem
from reproduce.errors import InputError

SEPARATOR = "::"
ASF_RATE = 24000
PANNS_RATE = 32000
_INT16_SCALE = np.float32(1 / 32767)  # inverse of PANNs' float32_to_int16
_TARGET_BLOCK = 1 << 14
_OPEN_FILES = 64  # PANNs' AudioSet has 43 packs


def is_packed(path: str | Path) -> bool:
    return SEPARATOR in str(path)


def read_packed(
    path_with_key: str | Path, start: float | None = None, stop: float | None = None
) -> tuple[np.ndarray, int]:
    """Samples of `FILE.h5::KEY`, from `start` to `stop` seconds of it; a `stop` past the end reads to the end.

    Only the stretch is read from disk (PaSST's mp3 is decoded whole). Returns (samples, 1) float32 and the rate in
    Hz, as `reproduce.audio.read_audio` does for files.

    Raises AudioError, with the reason; InputError if h5py is not installed.
    """
    text = str(path_with_key)
    name, _, key = text.rpartition(SEPARATOR)
    if not name or not key:
        raise AudioError(text, "missing", f"not of the form FILE.h5{SEPARATOR}KEY")
    file = _open(Path(name))
    try:
        return _read(text, file, key, start, stop)
    except OSError as error:  # what h5py raises for a damaged block
        raise AudioError(text, "unreadable", f"{error}; copy the pack again") from None


def _read(text: str, file: Any, key: str, start: float | None, stop: float | None) -> tuple[np.ndarray, int]:
    kind = pack_kind(file)
    if kind == "asf":
        name, _, rate_text = key.partition("@")
        if name not in file:
            raise AudioError(text, "missing", f"the pack has no dataset {name!r}")
        source, rate = file[name], int(rate_text) if rate_text else ASF_RATE
    else:
        column = file["waveform" if kind == "panns" else "mp3"]
        row = int(key) if key.isdecimal() else -1
        if not 0 <= row < len(column):
            raise AudioError(text, "missing", f"the pack has rows 0 to {len(column) - 1}")
        if kind == "passt":
            source, rate = _decode_mp3(text, column[row].tobytes())
        else:
            source, rate = _Row(column, row), int(file.attrs.get("sample_rate", PANNS_RATE))
    first = 0 if start is None else round(start * rate)
    last = len(source) if stop is None else min(round(stop * rate), len(source))
    if not 0 <= first < last:
        raise AudioError(text, "empty", f"nothing from {start} to {stop} s of {len(source) / rate:g} s")
    samples = np.asarray(source[first:last])
    if samples.dtype == np.int16:
        samples = samples * _INT16_SCALE
    return samples.astype(np.float32, copy=False)[:, None], rate


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a two-dimensional HDF5 dataset, sliced on disk."""

    column: Any
    row: int

    def __len__(self) -> int:
        return int(self.column.shape[1])

    def __getitem__(self, span: slice) -> np.ndarray:
        return self.column[self.row, span]


def _decode_mp3(text: str, data: bytes) -> tuple[np.ndarray, int]:
    import soundfile

    if not data:
        raise AudioError(text, "zero-byte", "no mp3 bytes in this row")
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(text, "unreadable", f"{error.error_string}; make the pack again") from None
    return samples.mean(axis=1, dtype=np.float32), rate


def _open(path: Path) -> Any:
    return _open_in_process(path, os.getpid())


@lru_cache(maxsize=_OPEN_FILES)
def _open_in_process(path: Path, process: int) -> Any:
    # Keyed by process: an HDF5 handle must not be shared with forked loader workers.
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: reading HDF5 packs needs h5py; run `pip install h5py`") from None
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise AudioError(str(path), "missing", "no such pack") from None
    except OSError as error:
        raise AudioError(str(path), "unreadable", f"no HDF5 file ({error}); copy it again") from None


def pack_kind(file: Any) -> str:
    """ "panns", "passt" or "asf"; "" for PANNs' index packs and other files with no audio in a known layout."""
    if "audio_name" in file:
        return "panns" if "waveform" in file else "passt" if "mp3" in file else ""
    return "asf"


# --- AudioSet packs as lists ---


@dataclass(frozen=True)
class Pack:
    """The clips of one PANNs or PaSST pack. videos: (n,) S11; rows: (n,) int64, where they lie in the pack."""

    path: Path
    kind: str
    videos: np.ndarray
    rows: np.ndarray

    def labels(self, classes: int) -> Labels:
        """Class indices of each clip, from the pack's targets; InputError for none, or another number of classes."""
        file = _open(self.path)
        if "target" not in file:
            raise InputError(f"{self.path}: no dataset 'target', the clips' labels; make the pack again")
        lengths, values = [], []
        for block, target in _targets(self.path, file["target"], self.kind, classes):
            wanted = np.flatnonzero(np.isin(np.arange(block, block + len(target)), self.rows))
            clips, found = np.nonzero(target[wanted])
            lengths.append(np.bincount(clips, minlength=len(wanted)))
            values.append(found.astype(np.int32))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([*lengths, np.zeros(0, np.int64)]))]).astype(np.int64)
        return Labels(offsets, np.concatenate([*values, np.zeros(0, np.int32)]).astype(np.int32))


def open_pack(path: Path) -> Pack | None:
    """The pack at `path`, or None if it holds no AudioSet clip (PANNs' index packs, say).

    Names are `Y<id>.wav`, `Y<id>.mp3` or `NN/Y<id>.mp3`; rows without a name (never downloaded) are left out.
    """
    file = _open(path)
    kind = pack_kind(file)
    if kind not in ("panns", "passt"):
        return None
    videos, rows = bytearray(), []
    for row, name in enumerate(file["audio_name"][:]):
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if not text:
            continue
        clip = parse_stem(split_suffix(text.rpartition("/")[2])[0])
        if clip is None:
            raise InputError(f"{path} row {row}: audio_name {text!r} holds no YouTube id; make the pack again")
        videos += clip[0].encode()
        rows.append(row)
    if not rows:
        return None
    return Pack(path, kind, np.frombuffer(bytes(videos), ID_DTYPE), np.array(rows, np.int64))


def _targets(path: Path, target: Any, kind: str, classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, (rows, classes) bool) block by block."""
    width = classes if kind == "panns" else (classes + 7) // 8
    if target.ndim != 2 or target.shape[1] != width:
        raise InputError(
            f"{path}: target is {target.shape} where {classes} classes need (rows, {width}); "
            f"use the class table that the pack was made with"
        )
    for block in range(0, len(target), _TARGET_BLOCK):
        rows = target[block : block + _TARGET_BLOCK]
        yield block, rows if kind == "panns" else np.unpackbits(rows, axis=1, count=classes)


def video_keys(path: Path) -> tuple[str, ...]:
    """Ids of the videos in a pack of auditory-slow-fast; () if it is another kind of HDF5 file."""
    file = _open(path)
    if pack_kind(file) != "asf":
        return ()
    return tuple(key for key in file if getattr(file[key], "ndim", 0) == 1)
