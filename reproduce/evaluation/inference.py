"""A trained model on sounds: what is in them, their embeddings, or its score on a data set's test clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import SpectrogramTransformer, create_model
from models.checkpoints import CheckpointError, load_by_name, load_checkpoint
from reproduce.audio.spec import AudioSpec
from reproduce.data.batches import evaluation_batches
from reproduce.data.waveform_store import WaveformStore, stream_waveforms
from reproduce.datasets import ClipIndex
from reproduce.datasets.index import STRING, Labels
from reproduce.datasets.readers.scan import MEDIA_RANK
from reproduce.environment import usable_cores
from reproduce.errors import InputError
from reproduce.evaluation.predict import Predictions, merge, predict
from reproduce.files import write_arrays
from reproduce.metrics.headline import score, softmax

PUBLISHED = "audioset"  # AST's own weights, by name
BATCH = 16


@dataclass(frozen=True)
class TrainedModel:
    """A model and all it takes to use it.

    Args:
        model: in evaluation mode, on its device. name: the preset that built it.
        front_end: how sounds become its input.
        labels: head -> class names in the order of the logits; empty where the weights do not say.
        multilabel: sigmoid per class rather than softmax over classes.
        trained_on: splits (or folds) that it was trained on, where the weights say so. scale: of its training.
    """

    model: SpectrogramTransformer
    name: str
    front_end: AudioSpec
    labels: Mapping[str, tuple[str, ...]]
    multilabel: bool
    trained_on: tuple[str, ...] = ()
    scale: str = "paper"


def load_trained_model(source: str, device: str) -> TrainedModel:
    """From a `.safetensors` file that a training run left, or "audioset": AST's published weights.

    Raises:
        InputError: the weights cannot be had or read.
    """
    try:
        if source == PUBLISHED and not Path(source).exists():
            model = create_model("ast_base")
            load_by_name(model, PUBLISHED)
            return TrainedModel(model.eval().to(device), "ast_base", AudioSpec(), {}, multilabel=True)
        loaded = load_checkpoint(source)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    labels = {head: tuple(names) for head, names in loaded.labels.items()}
    spec = AudioSpec.from_dict(loaded.front_end)
    experiment = loaded.metadata.get("experiment", {})
    trained_on, scale = tuple(experiment.get("train_splits", ())), experiment.get("scale", "demo")
    return TrainedModel(loaded.model.to(device), loaded.name, spec, labels, loaded.multilabel, trained_on, scale)


def find_audio_files(paths: Iterable[Path]) -> list[Path]:
    """Sound files, and those below folders, sorted within each.

    Raises:
        InputError: a path that is not there, or a folder without sounds.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_RANK and p.is_file())
            if not below:
                raise InputError(f"{path}: no sound file in this folder ({', '.join(sorted(MEDIA_RANK))})")
            found += below
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"{path}: not there; give sound files or folders of them")
    return found


def predict_files(trained: TrainedModel, sounds: list[Path], crops: int, device: str) -> tuple[list[Path], Predictions]:
    """Predictions for every sound that could be used, and which they are; the others are in `problems`.

    Args:
        crops: of a sound longer than the input, evenly spaced; their probabilities are averaged.
    """
    store = stream_waveforms(_index_of(sounds, trained), trained.front_end)
    predictions = _predict(trained, store, crops, device)
    return [sounds[i] for i in predictions.positions], predictions


def probabilities(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """(n, classes) raw logits to probabilities, float64."""
    return 1 / (1 + np.exp(-logits.astype(np.float64))) if multilabel else softmax(logits)


def top_classes(trained: TrainedModel, predictions: Predictions, top: int) -> list[dict[str, list[tuple[str, float]]]]:
    """For every sound and head the `top` likeliest classes with their probabilities."""
    rows: list[dict[str, list[tuple[str, float]]]] = [{} for _ in predictions.positions]
    for head, logits in predictions.logits.items():
        chances = probabilities(logits, trained.multilabel)
        names = trained.labels.get(head) or tuple(f"class {i}" for i in range(chances.shape[1]))
        for row, chance in zip(rows, chances, strict=True):
            order = np.argsort(-chance, kind="stable")[:top]
            row[head] = [(names[i], float(chance[i])) for i in order]
    return rows


def save_embeddings(path: Path, sounds: list[Path], predictions: Predictions) -> None:
    """An npz with `files` (n,), `embeddings` (n, dim) and `logits_HEAD` (n, classes), whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    arrays: dict[str, Any] = {"files": np.array([str(s) for s in sounds]), "embeddings": predictions.embeddings}
    arrays |= {f"logits_{head}": values for head, values in predictions.logits.items()}
    write_arrays(path, arrays, "cannot be written", "choose another --out")


def evaluate(
    trained: TrainedModel, index: ClipIndex, crops: int, device: str
) -> tuple[dict[str, float | int], Predictions]:
    """Metrics of `index`' clips, see `predictions.score`.

    Raises:
        InputError: the model's classes are not the data set's, or no clip can be used.
    """
    for head, names in index.classes.items():
        own = trained.labels.get(head)
        if own is not None and own != tuple(names):
            raise InputError(
                f"{index.root}: the model's {len(own)} classes of head {head!r} are not the data set's {len(names)}: "
                "evaluate it on the data set (and --variant) that it was trained on"
            )
    predictions = _predict(trained, stream_waveforms(index, trained.front_end), crops, device)
    targets = {head: index.targets(head, predictions.positions) for head in index.classes}
    for head, logits in predictions.logits.items():
        if head not in targets or targets[head].shape != logits.shape:
            raise InputError(f"{index.root}: the model's heads do not fit the data set's: train one on it first")
    return score(predictions.logits, targets, index.multilabel), predictions


def _predict(trained: TrainedModel, store: WaveformStore, crops: int, device: str) -> Predictions:
    batches = evaluation_batches(store, max(1, BATCH // crops), device, crops, threads=usable_cores())
    return merge([predict(trained.model, batches, trained.multilabel)])


def _index_of(sounds: list[Path], trained: TrainedModel) -> ClipIndex:
    """Sounds without labels, named by their paths."""
    paths = np.array([str(path) for path in sounds], STRING)
    unknown = np.full(len(sounds), np.nan)
    return ClipIndex(
        dataset="sounds",
        classes=dict(trained.labels),
        multilabel=trained.multilabel,
        root=Path(),
        clip_ids=paths,
        paths=paths,
        splits=np.full(len(sounds), "all", STRING),
        start=unknown,
        stop=unknown,
        labels={head: Labels.from_rows([()] * len(sounds)) for head in trained.labels},
        listed={"all": len(sounds)},
    )
