"""Compute all scores of a run by name, and choose its main metric. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.metrics.scores import accuracy, action_correct, mean_auc, mean_average_precision, top_k_correct

HEADLINES = {"top1": "top-1", "action_top1": "action", "map": "mAP"}  # metric -> name in messages


def score(
    logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], multilabel: bool
) -> dict[str, float | int]:
    """Compute the metrics by name; accuracies, mAP and mAUC in per cent. Heads but "label" are a prefix: "verb_top1".

    Single-label heads have top-1 and top-5. A verb and a noun head together also have "action", correct only if both
    are. Multi-label clips have mAUC and d-prime. The mean over classes excludes classes without positives and counts
    them.

    Args:
        logits: head -> (n, classes), raw.
        targets: head -> (n, classes), multi-hot.
        multilabel: whether a clip may have several labels.

    Raises:
        ValueError: the shapes do not fit, or a logit is not finite.
    """
    scores: dict[str, float | int] = {"clips": len(next(iter(targets.values())))}
    for head, values in logits.items():
        prefix = "" if head == DEFAULT_HEAD else f"{head}_"
        # Logits of a softmax have an arbitrary offset per clip, and mAP compares clips: it needs probabilities.
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
    """Return the name of a run's main metric: top-1, EPIC's action, or mAP for clips with several labels.

    Raises:
        StopIteration: `metrics` has none of HEADLINES.
    """
    return next(name for name in HEADLINES if name in metrics)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Convert logits (n, classes) to probabilities (n, classes), in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _score_actions(logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, float | int]:
    classes = {head: targets[head].argmax(axis=1) for head in ("verb", "noun")}
    correct = action_correct(logits, classes)
    return {
        "action_correct": int(correct.sum()),
        "action_top1": 100.0 * float(correct.mean()),
        "action_top5": 100.0 * float(action_correct(logits, classes, 5).mean()),
    }
