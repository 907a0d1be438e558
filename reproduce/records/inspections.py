"""What a trained model makes of one sound, as stored on disk: the figure's data, never a score. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.records.records import Records, latest
from reproduce.records.runs import InspectionRun

KIND = "inspection"
FOLDER = Path("inspections")
REMEDY = "delete the file and run `inspect` again"


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


def load_inspection(records_dir: Path, run: InspectionRun) -> Inspection | None:
    """The arrays of an inspection; None where their file is absent.

    Raises:
        InputError: the file cannot be read, or lacks an array.
    """
    path = records_dir / str(run.predictions)
    arrays = read_arrays(path, "damaged inspection", REMEDY)
    if arrays is None:
        return None
    counts = {axis: sum(name.startswith(axis) for name in arrays) for axis in ("freq", "time")}
    try:
        profiles = {
            axis: tuple(Profile(*arrays[f"{axis}{number}"]) for number in range(count))
            for axis, count in counts.items()
        }
        return Inspection(
            arrays["waveform"].astype(np.float32) / 32767,
            int(arrays["sample_rate"]),
            arrays["log_mel"].astype(np.float32),
            float(arrays["frame_shift_s"]),
            **profiles,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged inspection ({error}): {REMEDY}") from None


def newest_inspection(records: Records, family: str) -> InspectionRun | None:
    """The newest inspection of a model of `family`, "ast" or "mast"."""
    return latest(run for run in records.of_kind(InspectionRun) if run.family == family)
