"""A model that should learn does, and one that cannot does not: real recordings, the training path of every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reproduce.audio_spec import ESC50_MEAN, ESC50_STD, AudioSpec
from reproduce.datasets import read_dataset
from reproduce.datasets.base import Labels
from reproduce.engine import make_accelerator
from reproduce.experiments import Experiment, Recipe
from reproduce.loading import WaveformStore, load_waveforms
from reproduce.predictions import score
from reproduce.runner import build_model
from reproduce.trainer import Execution, Trainer

SPEC = AudioSpec(mels=64, frames=64, frame_length_ms=80.0, frame_shift_ms=80.0, mean=ESC50_MEAN, std=ESC50_STD)
TINY = ("ast_tiny", "mast_tiny")


@pytest.fixture(scope="module")
def clips(esc10: Path) -> WaveformStore:
    """All 400 recordings, decoded once."""
    return load_waveforms(read_dataset("esc50", esc10), SPEC)


def trained_top1(
    model_name: str, train: WaveformStore, test: WaveformStore, recipe: Recipe, folder: Path
) -> Mapping[str, float | int]:
    experiment = Experiment(model_name, "esc50", ("1",), ("2",), SPEC, recipe, "demo")
    execution = Execution(make_accelerator("cpu"))
    trainer = Trainer(experiment, build_model(experiment, train.index), train, test, folder, execution)
    trainer.train()
    predictions = trainer.predict_test()
    targets = {head: test.index.targets(head, predictions.positions) for head in test.index.classes}
    return score(predictions.logits, targets, multilabel=False)


def at(store: WaveformStore, positions: np.ndarray) -> WaveformStore:
    return replace(store, index=store.index.take(positions), waveforms=store.waveforms.take(positions))


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_model_learns_32_real_clips_by_heart(name: str, clips: WaveformStore, tmp_path: Path) -> None:
    few = at(clips, np.random.default_rng(0).permutation(len(clips))[:32])
    recipe = Recipe(epochs=40, batch_size=8, lr=1e-3, warmup_steps=20, weight_decay=0.0)
    assert trained_top1(name, few, few, recipe, tmp_path)["top1"] == 100.0


@pytest.mark.parametrize("name", TINY)
def test_shuffled_labels_leave_a_model_at_chance(name: str, clips: WaveformStore, tmp_path: Path) -> None:
    """The same training on true labels is far above the 10 % of chance, so what is lost is the labels' doing."""
    train, test = clips.where_split("2", "3", "4"), clips.where_split("1")
    recipe = Recipe(epochs=6, batch_size=8, lr=5e-4, warmup_steps=20)
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = replace(train, index=replace(train.index, labels={"label": taken(train, order)}))
    told = {
        labels: trained_top1(name, store, test, recipe, tmp_path / labels)["correct"]
        for labels, store in (("true", train), ("shuffled", shuffled))
    }
    # Of 80 clips, chance is 8 with a deviation of 2.7.
    assert told["shuffled"] <= 16
    assert told["true"] >= 24


def taken(store: WaveformStore, order: np.ndarray) -> Labels:
    return store.index.labels["label"].take(order)
