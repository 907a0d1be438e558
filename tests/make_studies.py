"""Runs on ESC-50's layout with stored predictions, for tests of tables and figures. Every number is invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from make_records import make_record

from reproduce.metrics.headline import score
from reproduce.paper import load_paper
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.tables import Table, TableInputs

CLASSES = ("dog", "rain", "clock", "saw")


def make_predictions(right: str, fold: str = "1", margin: float = 2.0) -> StoredPredictions:
    """Clip i is of class i modulo 4; a "1" in `right` is a clip whose own class leads by `margin`, a "0" one whose
    neighbour's does. Two consecutive clips share a recording."""
    own = np.arange(len(right)) % len(CLASSES)
    best = np.where(np.array(list(right)) == "1", own, (own + 1) % len(CLASSES))
    ids = np.array([f"{fold}-{i}" for i in range(len(right))])
    return StoredPredictions(
        ids,
        {"label": (margin * np.eye(len(CLASSES))[best]).astype(np.float32)},
        {"label": np.eye(len(CLASSES), dtype=np.uint8)[own]},
        np.zeros((len(right), 2), np.float32),
        np.array([f"{fold}-r{i // 2}" for i in range(len(right))]),
    )


def make_stored_run(
    folder: Path, model: str, stored: StoredPredictions, fold: str = "1", seed: int = 0, key: str = "", **changes: Any
) -> RunRecord:
    """A run that is scored from its predictions, which are stored under `folder`."""
    metrics = score(stored.logits, stored.targets, multilabel=False)
    record = make_record(model, fold, seed, **changes)
    key = key or f"{record.key}-{model}-{fold}-{seed}"
    name = save_predictions(folder, "".join(c for c in key if c.isalnum() or c in "-_"), stored)
    dataset = {**record.dataset, "unit": "recording", "test_kept": len(stored), "train_kept": 4 * len(stored)}
    return replace(record, key=key, metrics={**record.metrics, **metrics}, predictions=name, dataset=dataset)


def inputs_of(folder: Path, records: Sequence[RunRecord]) -> TableInputs:
    return TableInputs(load_paper(), Records.of(records), folder)


def column(table: Table, key: str) -> dict[str, float | None]:
    """Row label -> number of one column, of the rows that have a cell there."""
    return {row.label: row.cells[key].measured for row in table.rows if key in row.cells}
