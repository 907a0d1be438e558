"""The clips of a clustering as stored: class, cluster and silhouette of each, so that its scores can be resampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.records.runs import ClusteringRun

FOLDER = Path("clusterings")
REMEDY = "restore the file, or delete it: `claims` then takes no interval over clips"
NAMES = ("clip_ids", "labels", "clusters", "silhouettes")


@dataclass(frozen=True)
class ClusteredClips:
    """The clips of one clustering, sorted by id.

    Args:
        clip_ids: (n,) strings.
        labels: (n,) class indices.
        clusters: (n,) cluster indices.
        silhouettes: (n,) silhouette of each clip in its cluster.
    """

    clip_ids: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    silhouettes: np.ndarray


def save_clustered_clips(records_dir: Path, name: str, clips: ClusteredClips) -> str:
    """Write `clusterings/NAME.npz` whole or not at all; returns its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {field: getattr(clips, field) for field in NAMES} | {"clip_ids": clips.clip_ids.astype(np.str_)}
    write_arrays(records_dir / relative, arrays, "cannot store the clusters", "free space, or --records")
    return relative.as_posix()


def load_clustered_clips(records_dir: Path, run: ClusteringRun) -> ClusteredClips | None:
    """The clips that a clustering's record names, or None where it names none or the file is absent.

    Raises:
        InputError: the file exists but cannot be read, or its arrays do not belong together.
    """
    if run.clips_file is None:
        return None
    path = records_dir / run.clips_file
    stored = read_arrays(path, "damaged clusters", REMEDY)
    if stored is None:
        return None
    if any(len(stored.get(name, ())) != len(stored.get("clip_ids", "?")) for name in NAMES):
        raise InputError(f"{path}: damaged clusters (it needs {', '.join(NAMES)} of as many clips): {REMEDY}")
    return ClusteredClips(*(stored[name] for name in NAMES))
