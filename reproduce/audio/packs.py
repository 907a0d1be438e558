"""One clip out of an HDF5 pack. No torch here."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.errors import InputError

SEPARATOR = "::"
ASF_RATE = 24000
PANNS_RATE = 32000
_INT16_SCALE = np.float32(1 / 32767)  # inverse of PANNs' float32_to_int16
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
    file = open_hdf5(Path(name))
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


def open_hdf5(path: Path) -> Any:
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
