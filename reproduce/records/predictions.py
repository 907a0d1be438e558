"""Per-clip predictions as stored on disk, and their scores. NumPy only, so that a report can score again."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import write_arrays
from reproduce.records.record import RunRecord

FOLDER = Path("predictions")


@dataclass(frozen=True)
class StoredPredictions:
    """One run's test clips.

    Args:
        clip_ids: (n,) strings.
        logits, targets: head -> (n, classes), raw logits and multi-hot targets.
        embeddings: (n, dim).
    """

    clip_ids: np.ndarray
    logits: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.clip_ids)

    def of_clips(self, clip_ids: np.ndarray) -> StoredPredictions:
        """These clips, in that order; KeyError for a clip that is not among them."""
        place = {str(clip_id): i for i, clip_id in enumerate(self.clip_ids)}
        rows = np.array([place[str(clip_id)] for clip_id in clip_ids], np.int64)
        return StoredPredictions(
            self.clip_ids[rows],
            {head: values[rows] for head, values in self.logits.items()},
            {head: values[rows] for head, values in self.targets.items()},
            self.embeddings[rows],
        )


def save_predictions(records_dir: Path, name: str, predictions: StoredPredictions) -> str:
    """Write `predictions/NAME.npz` whole or not at all; returns its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {"clip_ids": predictions.clip_ids.astype(np.str_), "embeddings": predictions.embeddings}
    arrays |= {f"logits_{head}": values for head, values in predictions.logits.items()}
    arrays |= {f"targets_{head}": values.astype(np.uint8) for head, values in predictions.targets.items()}
    write_arrays(records_dir / relative, arrays, "cannot store the predictions", "free space, or --records")
    return relative.as_posix()


def load_predictions(records_dir: Path, record: RunRecord) -> StoredPredictions | None:
    """What `record` stored, or None where the file is absent.

    Raises:
        InputError: the file is there but cannot be read.
    """
    if record.predictions is None or not (path := records_dir / record.predictions).is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            heads = [name.removeprefix("logits_") for name in stored.files if name.startswith("logits_")]
            return StoredPredictions(
                stored["clip_ids"],
                {head: stored[f"logits_{head}"] for head in heads},
                {head: stored[f"targets_{head}"] for head in heads},
                stored["embeddings"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged predictions ({error}): restore the file, or train with --run all") from None
