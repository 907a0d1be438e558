"""Runs on VGGSound with stored embeddings, for the tests of clustering. All numbers are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from make_records import make_record

from reproduce.metrics.headline import score
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.record import RunRecord
from reproduce.records.store import append_record


def blobs(classes: int, per_class: int, apart: float = 20.0, dim: int = 12, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Embeddings (n, dim) and labels (n,), classes in turn: normal clouds at distance `apart` from the origin."""
    labels = np.arange(classes * per_class) % classes
    noise = np.random.default_rng(seed).normal(size=(len(labels), dim))
    return (noise + apart * np.eye(dim)[labels % dim]).astype(np.float32), labels


def add_run(
    folder: Path,
    model: str,
    embeddings: np.ndarray,
    labels: np.ndarray,
    scale: str = "demo",
    names: Sequence[str] | None = None,
    stamp: str = "20260101T000000",
    seed: int = 0,
    recipe_name: str | None = None,
    dataset: Mapping[str, Any] | None = None,
    second_last: np.ndarray | None = None,
    fold: str = "",
) -> RunRecord:
    """Store a run in which every clip is classified right: on VGGSound at the paper's scale, else on its stand-in.

    With `fold`, the run is one on ESC-50 that was tested on this fold of "1" to "5".
    """
    clips, classes = len(labels), int(labels.max()) + 1
    targets = np.eye(classes, dtype=np.uint8)[labels]
    clip_ids = np.array([f"clip{i:04d}_000030" for i in range(clips)])
    logits = targets.astype(np.float32)
    stored = StoredPredictions(clip_ids, {"label": logits}, {"label": targets}, embeddings, second_last=second_last)
    record = make_record(
        model,
        seed=seed,
        experiment={
            "dataset": "esc50" if fold else "vggsound",
            "scale": scale,
            "recipe_name": recipe_name or ("" if fold else {"paper": "mast", "demo": "demo"}[scale]),
            **({"test_splits": [fold], "train_splits": [f for f in "12345" if f != fold]} if fold else {}),
        },
        dataset={
            "name": "esc50" if fold else "vggsound",
            "standin": None if scale == "paper" else {"standin": True},
            "classes": {"label": list(names or [f"class {i:02d}" for i in range(classes)])},
            "train_sha256": "train",
            "test_sha256": f"{clips} clips",
            "test_listed": clips,
            "test_kept": clips,
            **(dataset or {}),
        },
    )
    key = f"{model} {scale} {seed} {recipe_name or fold}"
    record = replace(
        record,
        scale=scale,
        key=key,
        metrics={**record.metrics, **score(stored.logits, stored.targets, multilabel=False)},
        predictions=save_predictions(folder, f"{key}-{stamp}".replace(" ", "-"), stored),
        created=stamp,
    )
    append_record(folder, record)
    return record
