"""Write and read the per-clip predictions of a run. NumPy only, so that a report can score them again."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.records.runs import Run

FOLDER = Path("predictions")
SECOND_LAST = "second_last"
KEPT_FILES, KEPT_BYTES = 1024, 2**22  # files in memory, and the largest of them on disk: a report reads each five times
REMEDY = "restore the file, or train again with --run all"


@dataclass(frozen=True)
class StoredPredictions:
    """The scored clips of one run.

    Args:
        clip_ids: (n,) strings.
        logits: head -> (n, classes), raw.
        targets: head -> (n, classes), 0 or 1.
        embeddings: (n, dim).
        groups: (n,) recording, video or speaker of each clip; None where no two clips share one.
        digests: (n,) bytes, hash of each clip's file, see `clip_digests`; None where it was not recorded.
        second_last: (n, dim), pooled output of the second-last block, where Table 6 may cluster it; else None.
    """

    clip_ids: np.ndarray
    logits: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    embeddings: np.ndarray
    groups: np.ndarray | None = None
    digests: np.ndarray | None = None
    second_last: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def of_clips(self, clip_ids: np.ndarray) -> StoredPredictions:
        """Return the predictions of `clip_ids`, (m,) strings, in that order.

        Raises:
            KeyError: a clip without predictions.
        """
        row_of = {str(clip_id): i for i, clip_id in enumerate(self.clip_ids)}
        rows = np.array([row_of[str(clip_id)] for clip_id in clip_ids], np.int64)
        return StoredPredictions(
            self.clip_ids[rows],
            {head: values[rows] for head, values in self.logits.items()},
            {head: values[rows] for head, values in self.targets.items()},
            self.embeddings[rows],
            None if self.groups is None else self.groups[rows],
            None if self.digests is None else self.digests[rows],
            None if self.second_last is None else self.second_last[rows],
        )


def save_predictions(records_dir: Path, name: str, predictions: StoredPredictions) -> str:
    """Write `predictions/NAME.npz` completely or not at all; return its path relative to the records' folder.

    Raises:
        InputError: the file cannot be written.
    """
    relative = FOLDER / f"{name}.npz"
    arrays = {"clip_ids": predictions.clip_ids.astype(np.str_), "embeddings": predictions.embeddings}
    arrays |= {f"logits_{head}": values for head, values in predictions.logits.items()}
    arrays |= {f"targets_{head}": values.astype(np.uint8) for head, values in predictions.targets.items()}
    if predictions.groups is not None:
        arrays["groups"] = predictions.groups.astype(np.str_)
    if predictions.digests is not None:
        arrays["digests"] = predictions.digests
    if predictions.second_last is not None:
        arrays[SECOND_LAST] = predictions.second_last
    write_arrays(records_dir / relative, arrays, "cannot store the predictions", "free space, or --records")
    return relative.as_posix()


def load_predictions(records_dir: Path, run: Run) -> StoredPredictions | None:
    """Load the predictions of `run`, read-only; None if it stored none or the file is absent.

    Small files stay in memory until they change on disk.

    Raises:
        InputError: the file exists but cannot be read, or its arrays do not belong together.
    """
    if run.predictions is None:
        return None
    path = records_dir / run.predictions
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: no file can have this name
        return _read(path)
    if status.st_size > KEPT_BYTES:
        return _read(path)
    return _kept(path, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=KEPT_FILES)
def _kept(path: Path, version: tuple[int, int, int]) -> StoredPredictions | None:
    """The predictions of one version of a file: a write makes another inode or time."""
    return _read(path)


def _read(path: Path) -> StoredPredictions | None:
    stored = read_arrays(path, "damaged predictions", REMEDY)
    if stored is None:
        return None
    for values in stored.values():
        values.flags.writeable = False
    heads = [name.removeprefix("logits_") for name in stored if name.startswith("logits_")]
    try:
        predictions = StoredPredictions(
            stored["clip_ids"],
            {head: stored[f"logits_{head}"] for head in heads},
            {head: stored[f"targets_{head}"] for head in heads},
            stored["embeddings"],
            stored.get("groups"),
            stored.get("digests"),
            stored.get(SECOND_LAST),
        )
        damage = _damage(predictions)
    except (KeyError, TypeError) as error:
        damage = f"no array {error}"
    if damage:
        raise InputError(f"{path}: damaged predictions ({damage}): {REMEDY}")
    return predictions


def has_second_last(records_dir: Path, run: Run) -> bool:
    """Whether the run stored the output of its second-last block; no array is read. False for an unreadable file."""
    path = records_dir / (run.predictions or "")
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{SECOND_LAST}.npy" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _damage(predictions: StoredPredictions) -> str | None:
    """Describe what is wrong with the arrays; None if nothing is."""
    ids, heads = predictions.clip_ids, predictions.logits
    if ids.dtype.kind != "U" or ids.ndim != 1 or len(np.unique(ids)) != len(ids):
        return "its clip ids are not distinct texts"
    if not heads:
        return "it has no logits"
    for head, logits in heads.items():
        targets = predictions.targets[head]
        if logits.ndim != 2 or logits.shape != targets.shape or len(logits) != len(ids):
            return f"head {head}: logits {logits.shape} and targets {targets.shape} for {len(ids)} clips"
        if logits.dtype.kind != "f" or not np.isfinite(logits).all():
            return f"head {head}: its logits are not all finite numbers"
        if targets.dtype.kind not in "ub" or (targets > 1).any():
            return f"head {head}: its targets are not all 0 or 1"
    rows = {
        "embeddings": predictions.embeddings,
        "groups": predictions.groups,
        "digests": predictions.digests,
        SECOND_LAST: predictions.second_last,
    }
    for name, values in rows.items():
        if values is not None and len(values) != len(ids):
            return f"{len(values)} {name} for {len(ids)} clips"
    return None
