"""The stored form of a measurement. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class RunRecord:
    """One measurement with its conditions.

    Args:
        kind: "cost" (parameters and MACs), "train" (training and test scores), "search" (training and validation
            scores, to choose a hyper-parameter; it fills no cell of a result), "baseline" (test scores of a simple
            classifier), "clustering" (of a run's embeddings), "scaling" (latency and memory by clip length), "speed" (a
            benchmark), "inspection" (intermediate results for one sound), "robustness" (test scores of a trained run
            under noise, low-pass and shift) or "transfer" (on clips of other lengths).
        key: hash of what defines the measurement, without any path.
        experiment: the resolved config.
        scale: "paper" or "demo"; only paper-scale records fill cells of the paper.
        metrics: name -> number; accuracies in per cent.
        environment: device, versions, precision, commit.
        dataset: name, protocol, splits, listed and kept counts, hash of the clip ids, problems.
        seed: seed of the run; None where the measurement has none.
        weights_sha256: hash of the final weights; None where there are none.
        history: one dict per epoch.
        details: data that figures and breakdowns need beyond the metrics.
        predictions: file with per-clip logits, relative to the records' folder.
        wall_time_s: seconds of building the model, training and prediction, without storing the results.
        created: UTC time of writing, ISO 8601.
        schema: version of this form.
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
    """Return the UTC time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def whole_number(stored: Any) -> int:
    """Return a stored whole number, given as a number or as its digits.

    Raises:
        ValueError: it is no number, or needs more than the 64 bits of a DataFrame's column.
    """
    number = int(stored)
    if abs(number) >= 1 << 63:
        raise ValueError(f"a number of {len(str(number))} digits")
    return number
