"""One clip out of an HDF5 pack. No torch here."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.blocks import BLOCK_SAMPLES, Block, Stretch, check_format, check_length
from reproduce.audio.errors import AudioError
from reproduce.audio.ffmpeg import NotAudioError, stream_ffmpeg
from reproduce.audio.heaps import heap_rows
from reproduce.errors import InputError

SEPARATOR = "::"
ASF_RATE = 24000
PANNS_RATE = 32000
_INT16_SCALE = np.float32(1 / 32767)  # inverse of PANNs' float32_to_int16
_OPEN_FILES = 64  # PANNs' AudioSet has 43 packs


def is_packed(path: str | Path) -> bool:
    """Whether a path is `FILE.h5::KEY`, rather than a file whose name holds two colons."""
    return SEPARATOR in str(path) and not os.path.lexists(path)


def read_packed(
    path_with_key: str | Path, start: float | None = None, stop: float | None = None
) -> tuple[np.ndarray, int]:
    """(samples, 1) float32 of a clip and its rate in Hz: the blocks of `stream_packed` joined."""
    blocks = list(stream_packed(path_with_key, Stretch(start, stop)))
    return np.concatenate([samples for samples, _ in blocks]), blocks[0].sample_rate


def stream_packed(path_with_key: str | Path, stretch: Stretch) -> Iterator[Block]:
    """Read a stretch of the clip `FILE.h5::KEY`, block by block, one channel each.

    Only the stretch is read from disk, save that PaSST's mp3 is decoded from its start. A stretch that stops past the
    end of the clip is read to the end.

    Raises:
        AudioError: with the reason.
        InputError: h5py is not installed.
    """
    text = str(path_with_key)
    name, _, key = text.rpartition(SEPARATOR)
    if not name or not key:
        raise AudioError(text, "missing", f"not of the form FILE.h5{SEPARATOR}KEY")
    file = open_hdf5(Path(name))
    with hdf5_damage(text):
        source, rate = _find(text, file, key)
        if isinstance(source, bytes):
            yield from _decode_mp3(text, source, stretch)
        else:
            yield from _slice(text, source, rate, stretch)


@contextmanager
def hdf5_damage(path: str | Path) -> Iterator[None]:
    """Turn what h5py raises for a damaged file or an unexpected layout into one AudioError.

    Raises:
        AudioError: unreadable.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise AudioError(path, "unreadable", f"damaged pack: {error}; copy it again") from None
    except MemoryError:
        raise AudioError(path, "unreadable", "damaged pack: its sizes exceed the memory; copy it again") from None


def own_names(file: Any) -> list[str]:
    """Names in an HDF5 pack that are no links, which may lead out of it."""
    import h5py

    return [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]


def own_dataset(path: str | Path, file: Any, name: str) -> Any:
    """The HDF5 dataset `name` of a pack, whose values are inside the pack itself; `HeapRows` of variable-length rows.

    Raises:
        AudioError: missing; or unreadable, where it is a link or is stored in another file.
    """
    import h5py

    parts = [part for part in name.split("/") if part]
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if link is None:
            raise AudioError(path, "missing", f"the pack has no dataset {name!r}")
        if not isinstance(link, h5py.HardLink):
            raise AudioError(path, "unreadable", f"{name!r} is a link: packs with links are not read")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise AudioError(path, "missing", f"{name!r} is not a dataset of the pack")
    if dataset.external or dataset.is_virtual:
        raise AudioError(path, "unreadable", f"{name!r} is stored in another file: copy its values into the pack")
    return heap_rows(Path(file.filename), name, dataset) if dataset.dtype.kind == "O" else dataset


def _find(text: str, file: Any, key: str) -> tuple[Any, int]:
    """What holds the clip, an array of numbers or the bytes of an mp3, and its sample rate (0 for mp3)."""
    kind = pack_kind(file)
    if kind == "asf":
        name, _, rate_text = key.partition("@")
        source = own_dataset(text, file, name)
        if source.ndim != 1 or source.dtype.kind not in "fi":
            raise AudioError(text, "unreadable", f"{name!r} is not a waveform: {source.dtype} {source.shape}")
        return source, int(rate_text) if rate_text else ASF_RATE
    column = own_dataset(text, file, "waveform" if kind == "panns" else "mp3")
    row = int(key) if key.isdecimal() and len(key) < 19 else -1
    if not 0 <= row < len(column):
        raise AudioError(text, "missing", f"the pack has rows 0 to {len(column) - 1}")
    if kind == "passt":
        value = column[row]
        return value if isinstance(value, bytes) else value.tobytes(), 0
    if column.ndim != 2 or column.dtype.kind not in "fi":
        raise AudioError(text, "unreadable", f"'waveform' holds no waveforms: {column.dtype} {column.shape}")
    return _Row(column, row), int(file.attrs.get("sample_rate", PANNS_RATE))


def _slice(text: str, source: Any, rate: int, stretch: Stretch) -> Iterator[Block]:
    check_format(text, rate, 1)
    last = stretch.last(rate)
    first, last = stretch.first(rate), len(source) if last is None else min(last, len(source))
    if not 0 <= first < last:
        raise AudioError(text, "empty", f"nothing from {stretch.start} to {stretch.stop} s of {len(source) / rate:g} s")
    if stretch.limited:
        check_length(text, last - first, 1, rate)
    for at in range(first, last, BLOCK_SAMPLES):
        samples = np.asarray(source[at : min(at + BLOCK_SAMPLES, last)])
        if samples.dtype == np.int16:
            samples = samples * _INT16_SCALE
        yield Block(samples.astype(np.float32, copy=False)[:, None], rate)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a two-dimensional HDF5 dataset, sliced on disk."""

    column: Any
    row: int

    def __len__(self) -> int:
        return int(self.column.shape[1])

    def __getitem__(self, span: slice) -> np.ndarray:
        return self.column[self.row, span]


def _decode_mp3(text: str, data: bytes, stretch: Stretch) -> Iterator[Block]:
    if not data:
        raise AudioError(text, "zero-byte", "no mp3 bytes in this row")
    try:
        for samples, rate in stream_ffmpeg(io.BytesIO(data), text, stretch, []):
            yield Block(samples.mean(axis=1, dtype=np.float32)[:, None], rate)
    except NotAudioError as error:
        raise AudioError(text, "unreadable", f"{error}; make the pack again") from None


def open_hdf5(path: Path) -> Any:
    """The open pack at `path`, one handle per process and version of the file.

    Raises:
        AudioError: missing or unreadable.
        InputError: h5py is not installed.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise AudioError(path, "missing", "no such pack") from None
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(path, "unreadable", "not a regular file")
    return _open_in_process(path, (status.st_ino, status.st_size, status.st_mtime_ns), os.getpid())


@lru_cache(maxsize=_OPEN_FILES)
def _open_in_process(path: Path, version: tuple[int, ...], process: int) -> Any:
    # Keyed by process: an HDF5 handle must not be shared with forked loader workers.
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: reading HDF5 packs needs h5py; run `pip install h5py`") from None
    with hdf5_damage(path):
        return h5py.File(path, "r")


def pack_kind(file: Any) -> str:
    """ "panns", "passt" or "asf"; "" for PANNs' index packs and other files with no audio in a known layout."""
    if "audio_name" in file:
        return "panns" if "waveform" in file else "passt" if "mp3" in file else ""
    return "asf"
