"""A trained model in three lines of Python.

from reproduce import load_classifier
clf = load_classifier("runs/KEY.safetensors")
print(clf.predict("dog.wav").label)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, overload

import numpy as np

from reproduce.data.waveform_store import WaveformStore
from reproduce.environment import choose_device, choose_precision, with_weights_in
from reproduce.errors import InputError
from reproduce.evaluation.events import Choice, Detection, WindowDetections, merge_events
from reproduce.evaluation.given_sounds import GivenSounds, are_several, name_of, require_no_folder
from reproduce.evaluation.inference import (
    InferenceOptions,
    TrainedModel,
    index_of_sounds,
    measured,
    predict_store,
    probabilities,
)
from reproduce.evaluation.predict import Predictions
from reproduce.evaluation.sharing import SharedModel
from reproduce.evaluation.sources import open_model
from reproduce.evaluation.windows import WindowPredictions, Windows, predict_windows

PathOrArray: TypeAlias = "str | os.PathLike[str] | np.ndarray | Any"  # Any: torch tensors


@dataclass(frozen=True)
class Scores:
    """Probabilities of the classes of one head.

    Args:
        labels: (classes,) names.
        probabilities: (classes,) float64; they sum to 1 unless the model gives several labels.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The `count` most probable classes with their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]


@dataclass(frozen=True)
class Prediction:
    """What a model says about a sound, or about a window of it.

    Args:
        heads: name of a head -> its scores; most models have one, "label".
        start: of the window, seconds into the sound; None for the whole sound.
        end: of the window, seconds into the sound; None for the whole sound.
    """

    heads: Mapping[str, Scores]
    start: float | None = None
    end: float | None = None

    @property
    def scores(self) -> Scores:
        """Those of the (first) head."""
        return next(iter(self.heads.values()))

    @property
    def label(self) -> str:
        """The most probable class of the (first) head."""
        return self.top(1)[0][0]

    @property
    def score(self) -> float:
        """The probability of `label`."""
        return self.top(1)[0][1]

    @property
    def probabilities(self) -> np.ndarray:
        """(classes,) float64 of the (first) head, in the order of `Classifier.labels`."""
        return self.scores.probabilities

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The `count` most probable classes of the (first) head with their probabilities."""
        return self.scores.top(count)


class Classifier(SharedModel):
    """A trained model with its front end and class names; `load_classifier` makes it.

    A sound is a path, or samples with their rate: an array or tensor (samples,), (samples, channels) or
    (channels, samples), of floats with full scale 1 or of integers. Methods take one sound, or a list of them.

    Args:
        trained: see `load_trained_model`.
        device: torch device of the model.
        batch_size: sounds or windows per forward pass.
        precision: of matrix products, "float32", "bfloat16" or "float16"; results are float32 in any.
    """

    def __init__(
        self, trained: TrainedModel, device: str = "cpu", *, batch_size: int = 16, precision: str = "float32"
    ) -> None:
        self.trained, self.device, self.batch_size, self.precision = trained, device, batch_size, precision
        self._applied = replace(trained, model=with_weights_in(precision, trained.model))

    def __repr__(self) -> str:
        return f"Classifier({self.trained.name}, {self.classes} classes, {self.seconds:.2f} s, {self.device})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the (first) head, in the order of the probabilities; empty where the weights hold none."""
        return next(iter(self.trained.labels.values()), ())

    @property
    def classes(self) -> int:
        """Classes of all heads."""
        counts = self.trained.model.config.num_classes
        return counts if isinstance(counts, int) else sum(counts.values())

    @property
    def sample_rate(self) -> int:
        """Hz that every sound is resampled to."""
        return self.trained.front_end.sample_rate

    @property
    def seconds(self) -> float:
        """Length of the model's input."""
        return self.trained.front_end.seconds

    @overload
    def predict(
        self, sounds: list[PathOrArray], sample_rate: float | None = None, *, crops: int = 1
    ) -> list[Prediction]: ...

    @overload
    def predict(self, sounds: PathOrArray, sample_rate: float | None = None, *, crops: int = 1) -> Prediction: ...

    def predict(self, sounds: Any, sample_rate: float | None = None, *, crops: int = 1) -> Any:
        """Classify a sound, or each of a list of sounds.

        Args:
            sounds: see the class.
            sample_rate: of arrays, Hz; files state their own.
            crops: evenly spaced crops of a sound longer than the input, whose probabilities are averaged; 1 takes its
                start, with a warning.

        Raises:
            InputError: a sound that cannot be used, which it names.
        """
        several, predicted = self._run(sounds, sample_rate, crops)
        results = [
            Prediction(self._scores({head: values[row] for head, values in predicted.logits.items()}))
            for row in range(len(predicted))
        ]
        return results if several else results[0]

    def embed(self, sounds: PathOrArray, sample_rate: float | None = None, *, crops: int = 1) -> np.ndarray:
        """The pooled embedding of a sound, (dim,) float32, or of a list of n sounds, (n, dim).

        The arguments and errors are those of `predict`.
        """
        several, predicted = self._run(sounds, sample_rate, crops)
        return predicted.embeddings if several else predicted.embeddings[0]

    def predict_windows(
        self,
        sound: PathOrArray,
        sample_rate: float | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
    ) -> Iterator[Prediction]:
        """Classify a sound of any length window by window; a file is streamed.

        Args:
            sound: one sound.
            sample_rate: of an array, Hz.
            window: seconds per window; None for the model's input.
            hop: seconds from the start of a window to the next; None for `window`. The last window ends with the sound.

        Raises:
            InputError: a sound that cannot be used, not to its end either, or windows that do not fit the model.
        """
        for batch in self._windows(sound, sample_rate, window, hop):
            for row in range(len(batch)):
                scores = self._scores({head: values[row] for head, values in batch.logits.items()})
                yield Prediction(scores, float(batch.starts[row]), float(batch.ends[row]))

    def embed_windows(
        self,
        sound: PathOrArray,
        sample_rate: float | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of the windows of a sound, (n, dim) float32, and their starts and ends in seconds, (n, 2).

        The arguments and errors are those of `predict_windows`.
        """
        batches = list(self._windows(sound, sample_rate, window, hop))
        times = [np.stack([batch.starts, batch.ends], axis=1) for batch in batches]
        return np.concatenate([batch.embeddings for batch in batches]), np.concatenate(times)

    def find_events(
        self,
        sound: PathOrArray,
        sample_rate: float | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        threshold: float = 0.5,
    ) -> Iterator[Detection]:
        """Merge consecutive windows of one label whose score is at least `threshold`; see `merge_events`.

        The other arguments and the errors are those of `predict_windows`.
        """
        choice = Choice(threshold=threshold)

        def detect() -> Iterator[WindowDetections]:
            for said in self.predict_windows(sound, sample_rate, window=window, hop=hop):
                start, end = said.start or 0.0, said.end or 0.0
                chances = {head: scores.probabilities for head, scores in said.heads.items()}
                names = {head: scores.labels for head, scores in said.heads.items()}
                yield WindowDetections(start=start, end=end, found=choice.of(start, end, chances, names))

        return merge_events(detect())

    # --- what they share

    def _scores(self, logits: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        """(classes,) logits of every head to scores."""
        return {
            head: Scores(
                self.trained.class_names(head, len(values)), probabilities(values[None], self.trained.multilabel)[0]
            )
            for head, values in logits.items()
        }

    def _options(self, crops: int = 1) -> InferenceOptions:
        return InferenceOptions(device=self.device, crops=crops, batch_size=self.batch_size, precision=self.precision)

    def _run(self, sounds: Any, sample_rate: float | None, crops: int) -> tuple[bool, Predictions]:
        """Whether `sounds` are several, and their predictions, a row for each."""
        if crops < 1:
            raise InputError(f"crops={crops}: pass at least 1")
        several = are_several(sounds)
        listed = list(sounds) if several else [sounds]
        if not listed:
            raise InputError("no sound: pass at least one")
        require_no_folder(listed)
        spec = self.trained.front_end
        named = index_of_sounds([name_of(sound, i) for i, sound in enumerate(listed)], self.trained)
        waveforms = GivenSounds(tuple(listed), sample_rate, spec)
        store, cut = measured(WaveformStore(named, spec, waveforms, ()))
        predicted = predict_store(self._applied, store, self._options(crops))
        if predicted.problems:
            raise InputError(predicted.problems[0].message)
        if cut and crops == 1:
            warnings.warn(
                f"{len(cut)} of {len(listed)} sounds are longer than the model's input, and only "
                f"their first {self.seconds:.2f} s count: call predict_windows, or pass crops",
                stacklevel=3,
            )
        return several, predicted

    def _windows(
        self, sound: Any, sample_rate: float | None, window: float | None, hop: float | None
    ) -> Iterator[WindowPredictions]:
        if are_several(sound):
            raise InputError("windows are of one sound: call this for every sound")
        require_no_folder([sound])
        spec = self.trained.front_end
        windows = Windows.fitted(spec, window, hop)
        index = index_of_sounds([name_of(sound, 0)], self.trained)
        given = GivenSounds((sound,), sample_rate, spec)
        for batch in predict_windows(self._applied, index, windows, self._options(), blocks_of=given.blocks):
            if damage := next((problem.message for problem in batch.problems if problem.fatal), None):
                raise InputError(damage)
            yield batch


def load_classifier(
    source: str | os.PathLike[str],
    device: str = "auto",
    *,
    batch_size: int = 16,
    precision: str = "fp32",
    function: str | None = None,
) -> Classifier:
    """Load a trained model for `predict` and `embed`.

    Args:
        source: weights of a training run ("runs/KEY.safetensors"), a folder that `save_pretrained` wrote, a repository
            on the Hugging Face hub ("user/model"), "ast:audioset" (AST's published weights with AudioSet's 527 class
            names), or "demo".
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda:1", ...
        batch_size: sounds or windows per forward pass.
        precision: of matrix products: "fp32", "bf16", "fp16", or "auto".
        function: "package.module:function" that builds the model of the weights, where it is your own.

    Raises:
        InputError: the weights cannot be had or read.
    """
    chosen = choose_device(device)
    trained = open_model(os.fspath(source), chosen, function)
    return Classifier(trained, chosen, batch_size=batch_size, precision=choose_precision(precision, chosen))
