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

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.packs import hdf5_damage, open_hdf5, own_dataset, own_names, pack_kind
from reproduce.datasets.index import Labels
from reproduce.datasets.readers.scan import split_suffix
from reproduce.datasets.readers.youtube_files import ID_DTYPE, parse_stem
from reproduce.errors import InputError

_TARGET_BLOCK = 1 << 14


# --- AudioSet packs as lists ---


@dataclass(frozen=True)
class Pack:
    """The n clips of one PANNs or PaSST pack.

    Args:
        path: the HDF5 file.
        kind: "panns" or "passt".
        videos: (n,) S11 YouTube ids.
        rows: (n,) int64, row of each clip in the pack.
    """

    path: Path
    kind: str
    videos: np.ndarray
    rows: np.ndarray

    def labels(self, classes: int) -> Labels:
        """Class indices of each clip, from the pack's targets.

        Raises:
            InputError: none, another number of classes, or a damaged pack.
        """
        with hdf5_damage(self.path):
            return self._labels(open_hdf5(self.path), classes)

    def _labels(self, file: Any, classes: int) -> Labels:
        if "target" not in file:
            raise InputError(f"{self.path}: no dataset 'target', the clips' labels; make the pack again")
        targets = own_dataset(self.path, file, "target")
        if targets.ndim and len(targets) <= self.rows[-1]:
            raise InputError(
                f"{self.path}: 'target' has {len(targets)} rows, 'audio_name' at least {self.rows[-1] + 1}; "
                "make the pack again"
            )
        lengths, values = [], []
        for block, target in _targets(self.path, targets, self.kind, classes):
            wanted = np.flatnonzero(np.isin(np.arange(block, block + len(target)), self.rows))
            clips, carried = np.nonzero(target[wanted])
            lengths.append(np.bincount(clips, minlength=len(wanted)))
            values.append(carried.astype(np.int32))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([*lengths, np.zeros(0, np.int64)]))]).astype(np.int64)
        return Labels(offsets, np.concatenate([*values, np.zeros(0, np.int32)]).astype(np.int32))


def open_pack(path: Path) -> Pack | None:
    """The pack at `path`, or None if it holds no AudioSet clip (PANNs' index packs, say).

    Names are `Y<id>.wav`, `Y<id>.mp3` or `NN/Y<id>.mp3`; rows without a name (never downloaded) are left out.

    Raises:
        InputError: a name without an id, or a damaged pack.
    """
    with hdf5_damage(path):
        return _open_pack(path, open_hdf5(path))


def _open_pack(path: Path, file: Any) -> Pack | None:
    kind = pack_kind(file)
    if kind not in ("panns", "passt"):
        return None
    videos, rows = bytearray(), []
    for row, name in enumerate(own_dataset(path, file, "audio_name")[:]):
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
    """Ids of the videos in a pack of auditory-slow-fast; () if it is another kind of HDF5 file.

    Raises:
        InputError: a damaged pack.
    """
    file = open_hdf5(path)
    with hdf5_damage(path):
        if pack_kind(file) != "asf":
            return ()
        return tuple(key for key in own_names(file) if getattr(file[key], "ndim", 0) == 1)
