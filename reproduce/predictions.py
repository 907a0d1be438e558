"""Per-clip predictions as stored on disk, and their scores. NumPy only, so that a report can score again."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.datasets.base import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.files import write_arrays
from reproduce.metrics import accuracy, action_correct, mean_auc, mean_average_precision, top_k_correct
from reproduce.records import RunRecord

FOLDER = Path("predictions")
HEADLINES = {"top1": "top-1", "action_top1": "action", "map": "mAP"}  # metric -> what it is called


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


def score(
    logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], multilabel: bool
) -> dict[str, float | int]:
    """Metrics by name, accuracies, mAP and mAUC in per cent; a head other than "label" gives its name ("verb_top1").

    Single-label heads have top-1 and top-5; with a verb and a noun head there is "action" too (right only if both
    are). Multi-label clips have mAUC and d-prime. Classes that cannot be scored are counted, not taken for zeros.

    Args:
        logits, targets: head -> (n, classes); targets are multi-hot.
        multilabel: whether a clip may carry several labels.
    """
    scores: dict[str, float | int] = {"clips": len(next(iter(targets.values())))}
    for head, values in logits.items():
        prefix = "" if head == DEFAULT_HEAD else f"{head}_"
        # A softmax's logits are only defined up to an offset per clip, and mAP compares clips: it takes probabilities.
        mean_ap = mean_average_precision(targets[head], values if multilabel else softmax(values))
        scores[f"{prefix}map"] = mean_ap.value
        scores[f"{prefix}classes_without_positives"] = mean_ap.classes_without_positives
        if multilabel:
            auc = mean_auc(targets[head], values)
            scores[f"{prefix}mauc"], scores[f"{prefix}d_prime"] = auc.value, auc.d_prime
        else:
            classes = targets[head].argmax(axis=1)
            scores[f"{prefix}correct"] = int(top_k_correct(values, classes).sum())
            scores[f"{prefix}top1"] = accuracy(values, classes, 1)
            scores[f"{prefix}top5"] = accuracy(values, classes, 5)
    if {"verb", "noun"} <= set(logits):
        scores |= _score_actions(logits, targets)
    return scores


def headline(metrics: Mapping[str, float | int | None]) -> str:
    """Name of the metric that a run is known by: top-1, EPIC's action, or mAP where clips have several labels."""
    return next(name for name in HEADLINES if name in metrics)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, classes) to probabilities, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _score_actions(logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, float | int]:
    classes = {head: targets[head].argmax(axis=1) for head in ("verb", "noun")}
    right = action_correct(logits, classes)
    return {
        "action_correct": int(right.sum()),
        "action_top1": 100.0 * float(right.mean()),
        "action_top5": 100.0 * float(action_correct(logits, classes, 5).mean()),
    }
