"""One-line records for tests. Every number in them is invented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reproduce.audio_spec import AudioSpec
from reproduce.experiments import Experiment, Recipe
from reproduce.records import RunRecord

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
    model: str = "mast_base", protocol: str = "balanced", mean_ap: float = 30.0, created: str = "2026-01-01", **on: Any
) -> RunRecord:
    """A paper-scale run on AudioSet; `on` overrides fields of its experiment."""
    record = make_record(
        model,
        experiment={"dataset": "audioset", "protocol": protocol, "scale": "paper", "model_config": {}, **on},
        dataset={"name": "audioset", "protocol": protocol},
    )
    return replace(record, scale="paper", metrics={"map": mean_ap}, created=created, key=f"{model} {protocol} {on}")


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
