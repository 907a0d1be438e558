"""A trained model on sounds: their classes, their embeddings, or its score on a data set's test clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from models import ModelError, SpectrogramClassifier, create_model
from models.checkpoints import load_checkpoint
from models.pretrained import DownloadError, load_by_name
from models.self_description import read_description
from models.weight_files import CheckpointError
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import SHORT_SECONDS
from reproduce.data.batches import EvaluationBatch, evaluation_batches
from reproduce.data.waveform_store import Waveforms, WaveformStore, stream_waveforms
from reproduce.datasets import ClipIndex
from reproduce.datasets.audioset_classes import audioset_classes
from reproduce.datasets.index import DEFAULT_HEAD, Labels
from reproduce.datasets.readers.scan import MEDIA_RANK, media_files
from reproduce.datasets.strings import Strings
from reproduce.environment import computing_in
from reproduce.errors import InputError
from reproduce.evaluation.demo import demo_weights
from reproduce.evaluation.predict import Predictions, drop_not_finite, merge, predict
from reproduce.machine import usable_cores
from reproduce.metrics.headline import score, softmax

PUBLISHED = "audioset"  # AST's own weights, by name
CLASSES_NAMED = 5  # in a message
OnClips = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model and all it takes to use it.

    Args:
        model: in evaluation mode, on its device.
        name: the name that built it: "mast_tiny", "timm:resnet18".
        front_end: how sounds become its input.
        labels: head -> class names in the order of the logits; empty where the weights hold none.
        multilabel: sigmoid per class rather than softmax over classes.
        trained_on: splits (or folds) that it was trained on, where the weights hold them.
        dataset: of these splits; "" where there are none.
        scale: of its training, "paper" or "demo".
        metadata: what else the weights' description holds: the experiment, or what sharing added.
        key: of the run that wrote the weights, by the file's name; "" for others.
    """

    model: SpectrogramClassifier
    name: str
    front_end: AudioSpec
    labels: Mapping[str, tuple[str, ...]]
    multilabel: bool
    trained_on: tuple[str, ...] = ()
    dataset: str = ""
    scale: str = "paper"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    def class_names(self, head: str, classes: int) -> tuple[str, ...]:
        """The names of a head's classes; "class 0", "class 1", ... where the weights hold none."""
        return self.labels.get(head) or tuple(f"class {i}" for i in range(classes))


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a trained model is applied.

    Args:
        device: of the model.
        crops: evenly spaced crops of a sound longer than the input, whose probabilities are averaged; 1: its start.
        batch_size: crops per forward pass.
        precision: of matrix products, see `computing_in`; logits and embeddings are float32 in any.
    """

    device: str
    crops: int = 1
    batch_size: int = 16
    precision: str = "float32"

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass in this precision."""
        return computing_in(self.precision, self.device)


def load_trained_model(
    source: str, device: str, function: str | None = None, frames: int | None = None
) -> TrainedModel:
    """Load a `.safetensors` file that a training run wrote, "demo", or "audioset": AST's published weights.

    Args:
        source: the file, or the name.
        device: of the model.
        function: "package.module:function" that may be run to build the model of the file.
        frames: another length of a file's input, to which positions are resized; None for its own.

    Raises:
        InputError: the weights cannot be had or read.
    """
    try:
        if source == PUBLISHED and not Path(source).exists():
            model = create_model("ast_base")
            load_by_name(model, PUBLISHED)
            published = model.eval().to(device)
            labels = {DEFAULT_HEAD: audioset_classes()}
            return TrainedModel(model=published, name="ast_base", front_end=AudioSpec(), labels=labels, multilabel=True)
        size = _with_frames(source, frames)
        loaded = load_checkpoint(demo_weights(source) or source, function=function, input_size=size)
    except DownloadError as error:
        raise InputError(f"{error.what}: {hub_remedy(error)}") from None
    except (CheckpointError, ModelError) as error:
        raise InputError(str(error)) from None
    try:
        experiment = loaded.metadata.get("experiment", {})
        front_end = AudioSpec.from_dict(loaded.front_end)
        if frames is not None:
            front_end = replace(front_end, frames=frames)
        if (front_end.mels, front_end.frames) != tuple(loaded.config.input_size):
            raise ValueError(f"the front end gives {front_end.mels} x {front_end.frames}, not the model's input")
        return TrainedModel(
            model=loaded.model.to(device),
            name=loaded.name,
            front_end=front_end,
            labels={head: tuple(names) for head, names in loaded.labels.items()},
            multilabel=loaded.multilabel,
            trained_on=tuple(experiment.get("train_splits", ())),
            dataset=str(experiment.get("dataset", "")),
            scale=experiment.get("scale", "demo"),
            metadata=loaded.metadata,
            key=Path(source).stem,
        )
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{source}: damaged description ({error}): save or copy it again") from None


def hub_remedy(error: DownloadError) -> str:
    """What to do about a model that cannot be downloaded."""
    return f"fetch it elsewhere (hf download {error.repo_id} --local-dir DIR) and pass --model DIR"


def _with_frames(source: str, frames: int | None) -> tuple[int, int] | None:
    """The input size of a file's model with another number of frames; None for its own."""
    if frames is None:
        return None
    description = read_description(Path(source))
    if description is None:
        raise CheckpointError(f"{source}: does not describe its model: give the weights of a training run")
    mels, _ = description.parse_config().input_size
    return int(mels), frames


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
                kinds = ", ".join(sorted(MEDIA_RANK))
                raise InputError(f"{path}: no sound file in this folder: give files or a folder of {kinds}")
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
    predictions = predict_index(trained, index_of_sounds(sounds, trained), options)
    return [sounds[position] for position in predictions.positions], predictions


def predict_index(
    trained: TrainedModel, index: ClipIndex, options: InferenceOptions, on_clips: OnClips = lambda clips: None
) -> Predictions:
    """Predictions of the clips of `index`, read from their files; `cut` counts those longer than the model's input.

    Args:
        trained: the model.
        index: the clips.
        options: how the model is applied.
        on_clips: called after every batch with the number of its clips, for a progress bar.

    Raises:
        InputError: no clip could be used.
    """
    spec = trained.front_end  # a second more than the input shows that a clip is cut
    head = spec.samples + spec.sample_rate if options.crops == 1 else None
    store, cut = measured(stream_waveforms(index, spec, head))
    return replace(predict_store(trained, store, options, on_clips), cut=len(cut))


def measured(store: WaveformStore) -> tuple[WaveformStore, list[int]]:
    """`store`, and a list that receives the position of every clip longer than the input as it is read."""
    cut: list[int] = []
    return replace(store, waveforms=_MeasuredWaveforms(store.waveforms, store.spec, cut)), cut


@dataclass(frozen=True)
class _MeasuredWaveforms:
    """Waveforms that note which ones are longer than the model's input."""

    waveforms: Waveforms
    spec: AudioSpec
    cut: list[int]

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, position: int, /) -> np.ndarray:
        waveform = self.waveforms[position]
        if len(waveform) > self.spec.samples + SHORT_SECONDS * self.spec.sample_rate:
            self.cut.append(position)
        return waveform

    def take(self, positions: np.ndarray) -> Waveforms:
        return replace(self, waveforms=self.waveforms.take(positions))

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        return self.waveforms.memory_bytes(spec, whole)


def predict_store(
    trained: TrainedModel, store: WaveformStore, options: InferenceOptions, on_clips: OnClips = lambda clips: None
) -> Predictions:
    """Predictions of the clips of `store` that can be used; their logits and embeddings are finite.

    Raises:
        InputError: no clip could be used.
    """
    batch_size = max(1, options.batch_size // options.crops)
    batches = evaluation_batches(store, batch_size, options.device, options.crops, threads=usable_cores())
    batches = _reporting(batches, on_clips)
    predictions = merge([predict(trained.model, batches, trained.multilabel, options.autocast)])
    return merge([drop_not_finite(predictions, store.index.clip_ids)])


def _reporting(batches: Iterable[EvaluationBatch], on_clips: OnClips) -> Iterator[EvaluationBatch]:
    for batch in batches:
        yield batch
        on_clips(len(batch.positions) + sum(problem.fatal for problem in batch.problems))


def probabilities(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """(n, classes) raw logits to probabilities, float64."""
    return expit(logits.astype(np.float64)) if multilabel else softmax(logits)


def top_classes(trained: TrainedModel, predictions: Predictions, top: int) -> list[dict[str, list[tuple[str, float]]]]:
    """Per sound: head -> the `top` likeliest classes with their probabilities."""
    rows: list[dict[str, list[tuple[str, float]]]] = [{} for _ in predictions.positions]
    for head, logits in predictions.logits.items():
        chances = probabilities(logits, trained.multilabel)
        names = trained.class_names(head, chances.shape[1])
        for row, chance in zip(rows, chances, strict=True):
            order = np.argsort(-chance, kind="stable")[:top]
            row[head] = [(names[i], float(chance[i])) for i in order]
    return rows


def evaluate(
    trained: TrainedModel, index: ClipIndex, options: InferenceOptions, on_clips: OnClips = lambda clips: None
) -> tuple[dict[str, float | int | None], Predictions]:
    """Metrics of `index`' clips by the model's classes (see `metrics.headline.score`), and the predictions behind them.

    The list may lack classes of the model. The model decides how it is scored: one with several labels per clip by
    sigmoids and mAP. A metric that is not defined for these clips is None.

    Raises:
        InputError: the list has classes or heads that the model lacks, or clips with several labels for a model that
            gives one; or no clip can be used.
    """
    columns = {head: _columns(trained, head, names, index.root) for head, names in index.classes.items()}
    predictions = predict_index(trained, index, options, on_clips)
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


def index_of_sounds(sounds: list[Path], trained: TrainedModel) -> ClipIndex:
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
