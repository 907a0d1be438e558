"""A model that should learn does: real recordings, the training path of every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_runs import make_execution, make_experiment

from reproduce.audio.spec import ESC50_MEAN, ESC50_STD, AudioSpec
from reproduce.data.waveform_store import WaveformStore, load_waveforms
from reproduce.datasets import read_dataset
from reproduce.datasets.index import Labels
from reproduce.evaluation.predict import score_predictions
from reproduce.experiments.recipe import Recipe
from reproduce.training.model_building import build_model
from reproduce.training.trainer import Trainer, TrainingRun

SPEC = AudioSpec(mels=64, frames=32, frame_length_ms=160.0, frame_shift_ms=160.0, mean=ESC50_MEAN, std=ESC50_STD)


@pytest.fixture(scope="module")
def clips(esc10: Path) -> WaveformStore:
    """All 400 recordings, decoded once."""
    return load_waveforms(read_dataset("esc50", esc10), SPEC)


def trained_top1(
    model_name: str, train: WaveformStore, test: WaveformStore, recipe: Recipe, folder: Path
) -> Mapping[str, float | int]:
    experiment = replace(make_experiment(model_name, recipe), front_end=SPEC)
    model = build_model(experiment, train.index)
    run = TrainingRun(experiment=experiment, model=model, train=train, test=test, folder=folder)
    trainer = Trainer(run, make_execution())
    trainer.train()
    return score_predictions(trainer.predict_test(), test.index)


def at(store: WaveformStore, positions: np.ndarray) -> WaveformStore:
    return replace(store, index=store.index.take(positions), waveforms=store.waveforms.take(positions))


@pytest.mark.parametrize(("name", "lr"), [("ast_tiny", 3e-4), ("mast_tiny", 1e-3)])
def test_a_tiny_model_memorises_8_real_clips(name: str, lr: float, clips: WaveformStore, tmp_path: Path) -> None:
    few = at(clips, np.random.default_rng(0).permutation(len(clips))[:8])
    recipe = Recipe(epochs=80, batch_size=8, lr=lr, warmup_steps=10, weight_decay=0.0)
    assert trained_top1(name, few, few, recipe, tmp_path)["top1"] == 100.0


def with_shuffled_labels(store: WaveformStore) -> WaveformStore:
    """Permute the labels so that the clips of each class carry every label about equally often.

    A random permutation leaves some label more often with one class than with others, which can be learnt.
    """
    labels = store.index.targets("label").argmax(axis=1)
    by_class = np.random.default_rng(0).permutation(len(store))
    by_class = by_class[np.argsort(labels[by_class], kind="stable")]
    permuted = np.empty_like(labels)
    permuted[by_class] = labels[by_class].reshape(len(store.index.classes["label"]), -1).T.ravel()
    return replace(store, index=replace(store.index, labels={"label": Labels.from_rows([[c] for c in permuted])}))


def trained_on_two_folds(name: str, clips: WaveformStore, folder: Path, shuffled: bool = False) -> float:
    """Top-1 on two other folds."""
    train, test = clips.where_split("2", "3"), clips.where_split("1", "4")
    recipe = Recipe(epochs=6, batch_size=8, lr=2.5e-4, warmup_steps=20)
    return float(trained_top1(name, with_shuffled_labels(train) if shuffled else train, test, recipe, folder)["top1"])


@pytest.mark.parametrize("name", ["ast_tiny", "mast_tiny"])
def test_a_model_recognises_clips_of_other_folds(name: str, clips: WaveformStore, tmp_path: Path) -> None:
    # Chance is 10 %. The weights that torch 2.9 draws reach 34 %.
    assert trained_on_two_folds(name, clips, tmp_path) > 30.0


def test_shuffled_labels_are_not_learnt(clips: WaveformStore, tmp_path: Path) -> None:
    # Clips of a class are confused together, so that the spread is over classes, not clips.
    assert trained_on_two_folds("ast_tiny", clips, tmp_path, shuffled=True) < 20.0
