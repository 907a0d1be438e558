"""One measurement and everything it was measured under. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class RunRecord:
    """One measurement and everything it was measured under.

    Args:
        kind: "cost" (parameters and MACs), "train" (a model trained and tested), "search" (the same, scored on a
            validation fold to choose a hyper-parameter; it never fills a cell of a result), "clustering" (of a run's
            embeddings), "scaling" (latency and memory against clip length), "speed" (a benchmark) or
            "inspection" (what a trained model makes of one sound).
        key: hash of what defines the measurement; no path is in it.
        experiment: the resolved config.
        scale: "paper" or "demo". Paper cells take paper-scale records alone.
        metrics: name -> number; accuracies in per cent.
        environment: device, versions, precision, commit.
        dataset: name, protocol, splits, listed and kept counts, hash of the clip ids, problems.
        seed, weights_sha256: of the run, and of the final weights.
        history: one dict an epoch.
        details: what a figure or a breakdown needs beyond the metrics.
        predictions: file with per-clip logits, relative to the records' folder.
        wall_time_s: training and prediction, from building the model on; storing is not in it.
        created: UTC time of writing.
    """

    kind: str
    key: str
    experiment: Mapping[str, Any]
    scale: str
    metrics: Mapping[str, float | int | None]
    environment: Mapping[str, Any]
    dataset: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    weights_sha256: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    predictions: str | None = None
    wall_time_s: float = 0.0
    created: str = ""
    schema: int = SCHEMA


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
