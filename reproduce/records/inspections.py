"""What a trained model makes of one sound, as stored on disk: the figure's data, never a score. NumPy only."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import write_arrays
from reproduce.records.record import RunRecord, of_kind

KIND = "inspection"
FOLDER = Path("inspections")


@dataclass(frozen=True)
class Profile:
    """How a block's relative positions favour a key by its distance from the query, along one axis.

    Args:
        offsets: (n,) key less query, in mel bins or seconds, ascending.
        bias: (n,) mean of q.R over the sound's queries and all heads: what is added to the score before softmax.
    """

    offsets: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Inspection:
    """One sound as the model gets it, and where its attention leans.

    Args:
        waveform: (samples,) float32 at `sample_rate`. log_mel: (mels, frames), normalised, frame after frame of
            `frame_shift_s`.
        freq, time: a profile a block, in order; empty for AST, whose positions are not relative.
    """

    waveform: np.ndarray
    sample_rate: int
    log_mel: np.ndarray
    frame_shift_s: float
    freq: Sequence[Profile] = ()
    time: Sequence[Profile] = ()


def save_inspection(records_dir: Path, name: str, inspection: Inspection) -> str:
    """Write `inspections/NAME.npz` whole or not at all; returns its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {
        # As 16-bit samples: it is only looked at.
        "waveform": np.clip(np.round(inspection.waveform * 32767), -32768, 32767).astype(np.int16),
        "sample_rate": np.array(inspection.sample_rate),
        "log_mel": inspection.log_mel.astype(np.float16),
        "frame_shift_s": np.array(inspection.frame_shift_s),
    }
    for axis, profiles in (("freq", inspection.freq), ("time", inspection.time)):
        for number, profile in enumerate(profiles):
            arrays[f"{axis}{number}"] = np.stack((profile.offsets, profile.bias)).astype(np.float32)
    write_arrays(records_dir / relative, arrays, "cannot be written", "choose another --records folder")
    return relative.as_posix()


def load_inspection(records_dir: Path, record: RunRecord) -> Inspection | None:
    """The arrays behind a record; None where their file is absent.

    Raises:
        InputError: the file is no such archive.
    """
    path = records_dir / str(record.predictions)
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            profiles = {
                axis: tuple(
                    Profile(*arrays[f"{axis}{number}"])
                    for number in range(sum(name.startswith(axis) for name in arrays.files))
                )
                for axis in ("freq", "time")
            }
            return Inspection(
                arrays["waveform"].astype(np.float32) / 32767,
                int(arrays["sample_rate"]),
                arrays["log_mel"].astype(np.float32),
                float(arrays["frame_shift_s"]),
                **profiles,
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it and run `inspect` again") from None


def newest_inspection(records: Sequence[RunRecord], family: str) -> RunRecord | None:
    """The newest of a model of `family`, "ast" or "mast"."""
    found = [r for r in of_kind(records, KIND) if r.experiment["model"].startswith(family)]
    return max(found, key=lambda record: record.created, default=None)
