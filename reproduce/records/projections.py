"""Write and read a panel of Figure 2: the UMAP coordinates of one run's clips. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.records.runs import ClusteringRun

FOLDER = Path("embeddings")
REMEDY = "delete the file and run `figure2` again"


@dataclass(frozen=True)
class Projection:
    """Clips in the plane.

    Args:
        clip_ids: (n,) strings.
        points: (n, 2) UMAP coordinates, without a unit.
        names: (n,) class name of each clip.
    """

    clip_ids: np.ndarray
    points: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def save_projection(records_dir: Path, name: str, projection: Projection) -> str:
    """Write `embeddings/NAME.npz` completely or not at all; return its path relative to the records' folder.

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


def load_projection(records_dir: Path, run: ClusteringRun) -> Projection | None:
    """Load the coordinates of a projection; None if the run names no file or the file is absent.

    Raises:
        InputError: the file exists but cannot be read, or its arrays do not belong together.
    """
    if run.coordinates is None:
        return None
    path = records_dir / run.coordinates
    stored = read_arrays(path, "damaged coordinates", REMEDY)
    if stored is None:
        return None
    try:
        projection = Projection(stored["clip_ids"], stored["points"], stored["names"])
    except KeyError as error:
        raise InputError(f"{path}: damaged coordinates (no array {error}): {REMEDY}") from None
    clips = len(projection.clip_ids)
    if projection.points.shape != (clips, 2) or len(projection.names) != clips:
        raise InputError(f"{path}: damaged coordinates ({projection.points.shape} for {clips} clips): {REMEDY}")
    return projection
