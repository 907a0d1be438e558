"""A trained model on sounds: their classes, their embeddings, or its score on a data set's test clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from models import SpectrogramTransformer, create_model
from models.checkpoints import load_checkpoint
from models.pretrained import load_by_name
from models.weight_files import CheckpointError
from reproduce.audio.spec import AudioSpec
from reproduce.data.batches import evaluation_batches
from reproduce.data.waveform_store import WaveformStore, stream_waveforms
from reproduce.datasets import ClipIndex
from reproduce.datasets.index import Labels
from reproduce.datasets.readers.scan import MEDIA_RANK, media_files
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError
from reproduce.evaluation.demo import demo_weights
from reproduce.evaluation.predict import Predictions, drop_not_finite, merge, predict
from reproduce.files import write_arrays
from reproduce.machine import usable_cores
from reproduce.metrics.headline import score, softmax

PUBLISHED = "audioset"  # AST's own weights, by name
CLASSES_NAMED = 5  # in a message


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model and all it takes to use it.

    Args:
        model: in evaluation mode, on its device.
        name: the preset that built it.
        front_end: how sounds become its input.
        labels: head -> class names in the order of the logits; empty where the weights hold none.
        multilabel: sigmoid per class rather than softmax over classes.
        trained_on: splits (or folds) that it was trained on, where the weights hold them.
        scale: of its training, "paper" or "demo".
    """

    model: SpectrogramTransformer
    name: str
    front_end: AudioSpec
    labels: Mapping[str, tuple[str, ...]]
    multilabel: bool
    trained_on: tuple[str, ...] = ()
    scale: str = "paper"


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a trained model is applied.

    Args:
        device: of the model.
        crops: evenly spaced crops of a sound longer than the input, whose probabilities are averaged; 1: its start.
        batch_size: crops per forward pass.
    """

    device: str
    crops: int = 1
    batch_size: int = 16


def load_trained_model(source: str, device: str) -> TrainedModel:
    """Load a `.safetensors` file that a training run wrote, "demo", or "audioset": AST's published weights.

    Raises:
        InputError: the weights cannot be had or read.
    """
    try:
        if source == PUBLISHED and not Path(source).exists():
            model = create_model("ast_base")
            load_by_name(model, PUBLISHED)
            published = model.eval().to(device)
            return TrainedModel(model=published, name="ast_base", front_end=AudioSpec(), labels={}, multilabel=True)
        loaded = load_checkpoint(demo_weights(source) or source)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    try:
        experiment = loaded.metadata.get("experiment", {})
        front_end = AudioSpec.from_dict(loaded.front_end)
        if (front_end.mels, front_end.frames) != tuple(loaded.config.input_size):
            raise ValueError(f"the front end gives {front_end.mels} x {front_end.frames}, not the model's input")
        return TrainedModel(
            model=loaded.model.to(device),
            name=loaded.name,
            front_end=front_end,
            labels={head: tuple(names) for head, names in loaded.labels.items()},
            multilabel=loaded.multilabel,
            trained_on=tuple(experiment.get("train_splits", ())),
            scale=experiment.get("scale", "demo"),
        )
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{source}: damaged description ({error}): save or copy it again") from None


def find_audio_files(
    paths: Iterable[Path], skipped: Callable[[str, str], object] = lambda folder, reason: None
) -> list[Path]:
    """Sound files, and those below folders (linked ones too), sorted within each.

    Args:
        skipped: called as `skipped(folder, reason)` for a folder that cannot be read or was visited before.

    Raises:
        InputError: a path that is not there, or a folder without sounds.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = [path / name for name in media_files(path, skipped)]
            if not below:
                raise InputError(f"{path}: no sound file in this folder ({', '.join(sorted(MEDIA_RANK))})")
            files += below
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: not there; give sound files or folders of them")
    return files


def predict_files(
    trained: TrainedModel, sounds: list[Path], options: InferenceOptions
) -> tuple[list[Path], Predictions]:
    """The sounds that could be used, and their predictions, whose `problems` are of the others.

    Raises:
        InputError: no sound could be used.
    """
    store = stream_waveforms(_index_of(sounds, trained), trained.front_end)
    predictions = predict_store(trained, store, options)
    return [sounds[position] for position in predictions.positions], predictions


def predict_store(trained: TrainedModel, store: WaveformStore, options: InferenceOptions) -> Predictions:
    """Predictions of the clips of `store` that can be used; their logits and embeddings are finite.

    Raises:
        InputError: no clip could be used.
    """
    batch_size = max(1, options.batch_size // options.crops)
    batches = evaluation_batches(store, batch_size, options.device, options.crops, threads=usable_cores())
    predictions = merge([predict(trained.model, batches, trained.multilabel)])
    return merge([drop_not_finite(predictions, store.index.clip_ids)])


def probabilities(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """(n, classes) raw logits to probabilities, float64."""
    return expit(logits.astype(np.float64)) if multilabel else softmax(logits)


def top_classes(trained: TrainedModel, predictions: Predictions, top: int) -> list[dict[str, list[tuple[str, float]]]]:
    """Per sound: head -> the `top` likeliest classes with their probabilities."""
    rows: list[dict[str, list[tuple[str, float]]]] = [{} for _ in predictions.positions]
    for head, logits in predictions.logits.items():
        chances = probabilities(logits, trained.multilabel)
        names = trained.labels.get(head) or tuple(f"class {i}" for i in range(chances.shape[1]))
        for row, chance in zip(rows, chances, strict=True):
            order = np.argsort(-chance, kind="stable")[:top]
            row[head] = [(names[i], float(chance[i])) for i in order]
    return rows


def save_embeddings(path: Path, sounds: Sequence[Path], predictions: Predictions) -> None:
    """Write an npz with `files` (n,), `embeddings` (n, dim) and `logits_HEAD` (n, classes), completely or not at all.

    Raises:
        InputError: it cannot be written.
    """
    arrays: dict[str, Any] = {"files": np.array([str(s) for s in sounds]), "embeddings": predictions.embeddings}
    arrays |= {f"logits_{head}": values for head, values in predictions.logits.items()}
    write_arrays(path, arrays, "cannot be written", "choose another --out")


def evaluate(
    trained: TrainedModel, index: ClipIndex, options: InferenceOptions
) -> tuple[dict[str, float | int | None], Predictions]:
    """Metrics of `index`' clips by the model's classes (see `metrics.headline.score`), and the predictions behind them.

    The list may lack classes of the model. The model decides how it is scored: one with several labels per clip by
    sigmoids and mAP. A metric that is not defined for these clips is None.

    Raises:
        InputError: the list has classes or heads that the model lacks, or clips with several labels for a model that
            gives one; or no clip can be used.
    """
    columns = {head: _columns(trained, head, names, index.root) for head, names in index.classes.items()}
    predictions = predict_store(trained, stream_waveforms(index, trained.front_end), options)
    targets = {}
    for head, logits in predictions.logits.items():
        unnamed = head not in trained.labels  # then the list must have all classes, in the model's order
        if head not in columns or (unnamed and len(columns[head]) != logits.shape[1]):
            raise InputError(f"{index.root}: the model's heads do not fit the data set's: train one on it first")
        known = index.targets(head, predictions.positions)
        targets[head] = np.zeros(logits.shape, known.dtype)
        targets[head][:, columns[head]] = known
        if not trained.multilabel and (known.sum(axis=1) != 1).any():
            raise InputError(
                f"{index.root}: clips with several labels, or none, but the model gives one label per clip: "
                "evaluate one that was trained on such clips"
            )
    metrics = score(predictions.logits, targets, trained.multilabel)
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}, predictions


def _columns(trained: TrainedModel, head: str, names: Sequence[str], root: Path) -> list[int]:
    """The position of each of a list's classes among the model's.

    Raises:
        InputError: a class that the model lacks.
    """
    labels = trained.labels.get(head)
    if labels is None:
        return list(range(len(names)))
    position = {name: i for i, name in enumerate(labels)}
    if unknown := [name for name in names if name not in position]:
        more = f" and {len(unknown) - CLASSES_NAMED} more" if len(unknown) > CLASSES_NAMED else ""
        raise InputError(
            f"{root}: the model has no class {', '.join(map(repr, unknown[:CLASSES_NAMED]))}{more} of head {head!r}: "
            "evaluate it on the data set (and --variant) that it was trained on"
        )
    return [position[name] for name in names]


def _index_of(sounds: list[Path], trained: TrainedModel) -> ClipIndex:
    """Sounds without labels, named by their paths."""
    paths = Strings.of(map(str, sounds))
    unknown = np.full(len(sounds), np.nan)
    return ClipIndex(
        dataset="sounds",
        classes=dict(trained.labels),
        multilabel=trained.multilabel,
        root=Path(),
        clip_ids=paths,
        paths=paths,
        splits=Strings.repeat("all", len(sounds)),
        start=unknown,
        stop=unknown,
        labels={head: Labels.from_rows([()] * len(sounds)) for head in trained.labels},
        listed={"all": len(sounds)},
    )
