"""Write and read the intermediate results of a trained model for one sound: data of a figure, no score. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.records.measured_runs import InspectionRun
from reproduce.records.records import Records, latest

KIND = "inspection"
FOLDER = Path("inspections")
REMEDY = "delete the file and run `inspect` again"


@dataclass(frozen=True)
class Profile:
    """Mean attention bias from the relative positions of one block, by distance along one axis.

    Args:
        offsets: (n,) key position minus query position, in mel bins or seconds, ascending.
        bias: (n,) mean of q.R over the sound's queries and all heads; attention adds it to the score before softmax.
    """

    offsets: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Inspection:
    """One sound as the model receives it, and the attention bias of its relative positions.

    Args:
        waveform: (samples,) float32 within [-1, 1].
        sample_rate: in Hz.
        log_mel: (mels, frames), normalised.
        frame_shift_s: seconds between frames.
        freq: one profile per block, in order, along frequency; empty for AST, whose positions are absolute.
        time: one profile per block, in order, along time; empty for AST.
    """

    waveform: np.ndarray
    sample_rate: int
    log_mel: np.ndarray
    frame_shift_s: float
    freq: Sequence[Profile] = ()
    time: Sequence[Profile] = ()


def save_inspection(records_dir: Path, name: str, inspection: Inspection) -> str:
    """Write `inspections/NAME.npz` completely or not at all; return its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {
        # 16 bits are enough for a plot.
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
    """Load the arrays of an inspection; None if their file is absent.

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
    """Return the newest inspection of a model of `family` ("ast" or "mast"), None if there is none."""
    return latest(run for run in records.of_kind(InspectionRun) if run.family == family)
