"""All scores of a run by name, and the one that it is judged by. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.metrics.scores import accuracy, action_correct, mean_auc, mean_average_precision, top_k_correct

HEADLINES = {"top1": "top-1", "action_top1": "action", "map": "mAP"}  # metric -> name in messages


def score(
    logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], multilabel: bool
) -> dict[str, float | int]:
    """Metrics by name; accuracies, mAP and mAUC in per cent. A head other than "label" prefixes them: "verb_top1".

    Single-label heads have top-1 and top-5; a verb and a noun head together have "action" too, correct only if both
    are. Multi-label clips have mAUC and d-prime. Classes that cannot be scored are counted, not scored as zero.

    Args:
        logits: head -> (n, classes), raw.
        targets: head -> (n, classes), multi-hot.
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
    """Name of the metric that a run is judged by: top-1, EPIC's action, or mAP where clips have several labels."""
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
