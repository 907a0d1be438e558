"""A panel of Figure 2 as stored: UMAP's coordinates of one run's clips. NumPy only, so that a report can draw it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import write_arrays
from reproduce.records.record import RunRecord

FOLDER = Path("embeddings")


@dataclass(frozen=True)
class Projection:
    """Clips in the plane.

    Args:
        clip_ids: (n,) strings. points: (n, 2), without a unit. names: (n,) class of each clip.
    """

    clip_ids: np.ndarray
    points: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def save_projection(records_dir: Path, name: str, projection: Projection) -> str:
    """Write `embeddings/NAME.npz` whole or not at all; returns its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {
        "clip_ids": projection.clip_ids.astype(np.str_),
        "points": projection.points,
        "names": projection.names.astype(np.str_),
    }
    write_arrays(records_dir / relative, arrays, "cannot store the coordinates", "free space, or --records")
    return relative.as_posix()


def load_projection(records_dir: Path, record: RunRecord) -> Projection | None:
    """The coordinates that a panel's record names, or None where the file is absent.

    Raises:
        InputError: the file is there but cannot be read.
    """
    path = records_dir / record.details["coordinates"]
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Projection(stored["clip_ids"], stored["points"], stored["names"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged coordinates ({error}): delete the file and run `figure2` again") from None
