"""Which clips a model got right under each of several conditions, as stored beside its record. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.records.condition_runs import ConditionsRun

FOLDER = Path("conditions")
REMEDY = "restore the file, or measure again with --run all"


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The test clips of one run.

    Args:
        clip_ids: (n,) strings.
        units: (n,) the recording, video or speaker of each clip, or the clip itself.
        correct: (conditions, n) bool, in the order of the record's conditions.
    """

    clip_ids: np.ndarray
    units: np.ndarray
    correct: np.ndarray


def save_outcomes(records_dir: Path, name: str, outcomes: Outcomes) -> str:
    """Write `conditions/NAME.npz` completely or not at all; return its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {
        "clip_ids": outcomes.clip_ids.astype(np.str_),
        "units": outcomes.units.astype(np.str_),
        "correct": np.packbits(outcomes.correct, axis=1),
    }
    write_arrays(records_dir / relative, arrays, "cannot store the outcomes", "free space, or --records")
    return relative.as_posix()


def load_outcomes(records_dir: Path, run: ConditionsRun) -> Outcomes | None:
    """The outcomes of a run; None if their file is absent.

    Raises:
        InputError: the file cannot be read, or does not belong to the record.
    """
    path = records_dir / run.outcomes
    stored = read_arrays(path, "damaged outcomes", REMEDY)
    if stored is None:
        return None
    try:
        ids, units = stored["clip_ids"], stored["units"]
        correct = np.unpackbits(stored["correct"], axis=1, count=len(ids)).astype(bool)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged outcomes ({error}): {REMEDY}") from None
    if len(units) != len(ids) or len(correct) != len(run.conditions) or not len(ids):
        raise InputError(f"{path}: damaged outcomes ({len(correct)} conditions, {len(ids)} clips): {REMEDY}")
    return Outcomes(clip_ids=ids, units=units, correct=correct)
