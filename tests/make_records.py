"""One-line records for tests. Every number in them is invented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.audio.spec import AudioSpec
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import Recipe
from reproduce.metrics.headline import score
from reproduce.records.clusterings import clustering_experiment
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.reading import read_run
from reproduce.records.record import RunRecord
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records

FOLDS = ("1", "2", "3", "4", "5")
ENVIRONMENT = {
    "device": "invented CPU",
    "torch_threads": 2,
    "precision": "float32",
    "attention": "sdpa",
    "commit": "0123456789ab",
}


def make_record(
    model: str = "ast_debug",
    fold: str = "1",
    seed: int = 0,
    correct: int = 5,
    clips: int = 10,
    top5: float = 80.0,
    experiment: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    **changes: Any,
) -> RunRecord:
    """One model tested on one fold of ESC-50's layout at demo scale. `experiment` and `dataset` override fields."""
    plan = Experiment(
        model=model,
        dataset="esc50",
        train_splits=tuple(f for f in FOLDS if f != fold),
        test_splits=(fold,),
        front_end=AudioSpec(mels=32, frames=64, frame_shift_ms=80.0),
        recipe=Recipe(epochs=1, batch_size=16, lr=1e-3, warmup_steps=4),
        scale="demo",
        seed=seed,
    )
    record = RunRecord(
        kind="train",
        key=plan.key("train", "test"),
        experiment={**plan.to_dict(), **(experiment or {})},
        scale="demo",
        metrics={
            "clips": clips,
            "correct": correct,
            "top1": 100.0 * correct / clips,
            "top5": top5,
            "map": 40.0,
            "parameters": 2_000_000,
            "macs_module_only": 3_000_000_000,
            "macs_full": 4_000_000_000,
            "train_clips_per_s": 10.0,
            "predict_clips_per_s": 20.0,
        },
        dataset={
            "name": "esc50",
            "protocol": "",
            "classes": {"label": ["dog", "rain", "clock", "saw"]},
            "test_listed": clips,
            "test_kept": clips,
            "problems": [],
            **(dataset or {}),
        },
        seed=seed,
        environment=ENVIRONMENT,
        created="2026-01-01T00:00:00+00:00",
    )
    return replace(record, **changes)


def make_paper_record(
    model: str = "mast_base",
    variant: str = "balanced",
    mean_ap: float = 30.0,
    created: str = "2026-01-01",
    on_dataset: str = "audioset",
    **on: Any,
) -> RunRecord:
    """A paper-scale run on AudioSet by the recipe that fills Table 5; `on` overrides fields of its experiment."""
    recipe = {"recipe_name": model.partition("_")[0]}
    record = make_record(
        model,
        experiment={"dataset": on_dataset, "protocol": variant, "scale": "paper", "model_config": {}, **recipe, **on},
        dataset={"name": on_dataset, "protocol": variant},
    )
    return replace(record, scale="paper", metrics={"map": mean_ap}, created=created, key=f"{model} {variant} {on}")


HEADS = {
    "kinetics_sounds": {"label": 6},
    "vggsound": {"label": 6},
    "epic_kitchens": {"verb": 3, "noun": 3},
    "audioset": {"label": 2},
}
STANDIN = {"standin": True, "title": "invented"}


def make_run(
    folder: Path,
    model: str,
    dataset: str,
    predictions: StoredPredictions,
    recipe_name: str = "mast",
    seed: int = 0,
    listed: int | None = None,
    standin: bool = False,
    model_config: Mapping[str, Any] | None = None,
    variant: str = "",
    details: Mapping[str, Any] | None = None,
    **changes: Any,
) -> RunRecord:
    """A run on one of the paper's data sets with its predictions stored under `folder` and scored from them.

    Its scale is "demo" for the recipe "demo", otherwise "paper"; `changes` override fields of the record.
    """
    scale = "demo" if recipe_name == "demo" else "paper"
    clips, strides = len(predictions), "".join(map(str, (model_config or {}).get("pool_strides", "")))
    name = "-".join(filter(None, (dataset, variant, model, recipe_name, strides, str(seed), standin * "standin")))
    name = "".join(letter for letter in name if letter.isalnum() or letter in "-_")
    record = make_record(
        model,
        seed=seed,
        experiment={
            "dataset": dataset,
            "protocol": variant,
            "scale": scale,
            "recipe_name": recipe_name,
            "model_config": dict(model_config or {}),
            "train_splits": ["train"],
            "test_splits": ["test"],
        },
        dataset={
            "name": dataset,
            "protocol": variant,
            "standin": STANDIN if standin else None,
            "classes": {head: [f"{head} {i}" for i in range(n)] for head, n in HEADS[dataset].items()},
            "test_listed": clips if listed is None else listed,
            "test_kept": clips,
            "test_sha256": "of " + " ".join(predictions.clip_ids),
        },
    )
    costs = {key: record.metrics[key] for key in ("parameters", "macs_module_only", "macs_full")}
    metrics = {**score(predictions.logits, predictions.targets, multilabel=dataset == "audioset"), **costs}
    record = replace(
        record,
        key=name,
        scale=scale,
        metrics=metrics,
        details=dict(details or {}),
        predictions=save_predictions(folder, name, predictions),
    )
    return replace(record, **changes)


def make_clustering(trained: RunRecord, scores: Mapping[str, float], seed: int = 0) -> RunRecord:
    """A clustering of a run by the protocol that Table 6 is taken for."""
    run = read_run(trained)
    assert isinstance(run, TrainedRun)
    return replace(
        trained,
        kind="clustering",
        key=f"clustering {trained.key} {seed}",
        experiment={**clustering_experiment(run, "P1", seed), "clusters": 309},
        metrics=scores,
        seed=seed,
    )


def ranked(clips: str, **ranks: str) -> StoredPredictions:
    """Predictions in which each clip's own class (its place modulo the classes) has the rank that the digit says.

    Args:
        clips: ids, divided by spaces.
        ranks: head -> a digit a clip: 0 is right, 1 is second best. Six classes for "label", three for others.
    """
    ids = clips.split()
    logits, targets = {}, {}
    for head, digits in ranks.items():
        classes = 6 if head == "label" else 3
        own = np.arange(len(ids)) % classes
        targets[head] = np.eye(classes)[own]
        logits[head] = np.stack([_logits(classes, int(c), int(r)) for c, r in zip(own, digits, strict=True)])
    return StoredPredictions(np.array(ids), logits, targets, np.zeros((len(ids), 2), np.float32))


def _logits(classes: int, own: int, rank: int) -> np.ndarray:
    order = [c for c in range(classes) if c != own]
    order.insert(rank, own)
    logits = np.empty(classes, np.float32)
    logits[order] = np.arange(classes, 0, -1)
    return logits


def multilabel(*orders: str, positives: Sequence[str]) -> StoredPredictions:
    """Predictions of one-letter clips: a class each in the order of `orders`, best first; `positives` of each class."""
    ids = sorted(orders[0])
    logits = np.array([[-order.index(clip) for order in orders] for clip in ids], np.float32)
    targets = np.array([[clip in own for own in positives] for clip in ids], np.float32)
    return StoredPredictions(np.array(ids), {"label": logits}, {"label": targets}, np.zeros((len(ids), 2), np.float32))


def make_cost_record(
    model: str = "ast_base",
    model_config: Mapping[str, Any] | None = None,
    macs: float = 100e9,
    parameters: int = 80_000_000,
    **changes: Any,
) -> RunRecord:
    """A cost record with invented MACs and a last block of 7 tokens."""
    record = RunRecord(
        kind="cost",
        key=f"cost {model} {model_config}",
        experiment={
            "model": model,
            "model_config": dict(model_config or {}),
            "input_size": [128, 1024],
            "num_classes": 527,
        },
        scale="paper",
        metrics={
            "parameters": parameters,
            "parameters_paper": parameters + 1_000_000,
            "macs_module_only": macs,
            "macs_ptflops_0_7": macs + 1e9,
            "macs_full": 2 * macs,
        },
        details={"items": [], "shapes": [["block 0", 7, 1, 7, 16, 0]], "libraries": {}},
        environment=ENVIRONMENT,
        created="2026-01-01T00:00:00+00:00",
    )
    return replace(record, **changes)


def load_stored(folder: Path) -> list[RunRecord]:
    """The stored records behind the runs under `folder`."""
    return [run.record for run in load_records(folder)]
