"""Typed runs: one frozen class per kind of measurement. No torch here.

`records.reading.read_run` builds them from stored records, old and new. Tables, figures and the report read only these
classes, never a stored record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from reproduce.audio.spec import AudioSpec
from reproduce.datasets.index import DEFAULT_HEAD, Problem
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import run_key
from reproduce.experiments.families import LABELS, family, size
from reproduce.experiments.recipe import Recipe
from reproduce.records.record import RunRecord

CLOSED_FORM, FLOP_COUNTER = "closed form", "torch FlopCounterMode"  # where MACs come from


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and the settings of a measurement.

    Args:
        device: name of the processor or GPU.
        device_type: "cpu", "cuda" or another torch device type.
        precision: "float32", "bfloat16" or "float16"; "" for a measurement without torch.
        torch_threads: CPU threads of torch; 0 where unknown.
        attention: name of the attention implementation; "" where unknown, "none" of a model without any.
        processes: training processes.
        compiled: whether torch.compile compiled the trained model.
        onednn_float32: whether our models' large matrix products were oneDNN's in float32, see `models/linear.py` and
            `models/head_products.py`; in those of commits before 7b210c9 with weights only.
        commit: git commit of this code, with "+changes" if files differed from it; "" where unknown.
        libraries: library -> version.
        busy: whether other processes used the machine during the measurement.
        facts: every stored value by its stored name.
    """

    device: str
    device_type: str
    precision: str
    torch_threads: int
    attention: str
    processes: int
    compiled: bool
    onednn_float32: bool
    commit: str
    libraries: Mapping[str, str]
    busy: bool
    facts: Mapping[str, Any]

    @property
    def machine(self) -> str:
        """The device and, for a CPU, its threads: "AMD EPYC 9654, 2 threads"."""
        return f"{self.device}, {self._threads}" if self.device_type == "cpu" else self.device

    @property
    def _threads(self) -> str:
        return f"{self.torch_threads} thread{'s' if self.torch_threads != 1 else ''}"

    @property
    def settings(self) -> str:
        """What a speed depends on beside the model: device, threads, precision, products, attention, compilation.

        Speeds under unlike settings do not average and have no ratio.
        """
        attention = "" if self.attention in ("", "none") else f"attention {self.attention}"
        products = "our products by oneDNN" if self.onednn_float32 and self.precision == "float32" else ""
        compiled = "compiled" if self.compiled else ""
        return ", ".join(filter(None, (self.device, self._threads, self.precision, products, attention, compiled)))


@dataclass(frozen=True, kw_only=True)
class Run:
    """The fields of every measurement.

    Args:
        key: hash of what defines the measurement (16 hex digits).
        scale: "paper" or "demo"; only paper-scale runs fill cells of the paper.
        metrics: metric -> value, accuracies in per cent; NaN where the stored value was not a number.
        environment: see `Environment`.
        seed: seed of the run; 0 where the measurement has none.
        created: UTC time of writing, ISO 8601.
        wall_time_s: seconds of training and prediction; 0 for other kinds.
        weights_sha256: hash of the final weights; None where there are none.
        predictions: file of the run's arrays, relative to the records' folder; None where there is none.
        record: the stored record.
    """

    kind: ClassVar[str]

    key: str
    scale: str
    metrics: Mapping[str, float]
    environment: Environment
    seed: int
    created: str
    wall_time_s: float
    weights_sha256: str | None
    predictions: str | None
    record: RunRecord

    def metric(self, name: str) -> float:
        """Return the metric `name`, accuracies in per cent.

        Raises:
            InputError: the run has no such metric, or its value was not a number when it was recorded.
        """
        value = self.metrics.get(name)
        if value is None or not math.isfinite(value):
            what = "is missing" if value is None else "was not a number when it was recorded"
            raise InputError(f"record {self.key}: {name} {what}: measure it again, or delete its line")
        return value

    @property
    def day(self) -> str:
        """The date of `created`, as YYYY-MM-DD."""
        return self.created[:10]


@dataclass(frozen=True, kw_only=True)
class ModelRun(Run):
    """A measurement of one model.

    Args:
        model: registered name, "mast_tiny".
        model_config: overrides of the model's config, as JSON values.
    """

    model: str
    model_config: Mapping[str, Any]

    @property
    def family(self) -> str:
        """ "ast", "mast", or the name itself of a model of neither family."""
        return family(self.model)

    @property
    def size(self) -> str:
        """ "base", "small", "tiny" or "debug"; "" for a model of neither family."""
        return size(self.model)

    @property
    def label(self) -> str:
        """Name of the model's family in figures: "AST", "MAST", or the model's name."""
        return LABELS.get(self.family, self.model)

    @property
    def config_key(self) -> str:
        """The canonical overrides as sorted JSON: a hashable value, equal for equal models."""
        return json.dumps(canonical_config(self.model, self.model_config), sort_keys=True)

    @property
    def described_model(self) -> str:
        """The model with its overrides: "mast_tiny, pool_strides [[2, 2], [2, 2], [2, 2]]"."""
        overrides = canonical_config(self.model, self.model_config)
        return self.model + "".join(f", {name} {value}" for name, value in overrides.items())

    @property
    def macs_by(self) -> str:
        """Where the MACs come from: "closed form", or the library that counted those of a model that is not ours."""
        return str(self.record.details.get("macs_by", CLOSED_FORM))

    @property
    def pooling_changed(self) -> bool:
        """Whether the model's query pooling differs from the paper's: such a run is an ablation."""
        return "pool_strides" in canonical_config(self.model, self.model_config)


@dataclass(frozen=True, kw_only=True)
class DataRun(ModelRun):
    """A measurement of one model on one corpus.

    Args:
        dataset: registered name of the corpus.
        variant: variant of the corpus; "" for a corpus with only one.
        standin: description of the synthetic stand-in that replaced the corpus; None for real data.
        recipe_name: see `Experiment.recipe_name`.
        classes: head -> class names in the order of the logits.
        listed: clips that the corpus lists, over all splits.
        kept: listed clips that are usable.
        missing: listed clips without a file.
        train_kept: usable training clips.
        test_kept: usable test clips.
        test_listed: test clips that the corpus lists.
        train_sha256: identity of the training clips.
        test_sha256: identity of the test clips.
        content: hashes of the sound of the training and of the test clips, () where they were not recorded.
        corpus: the user's name of his own clips; "" for other data sets, and in older records.
    """

    dataset: str
    variant: str
    standin: Mapping[str, Any] | None
    recipe_name: str
    classes: Mapping[str, tuple[str, ...]]
    listed: int
    kept: int
    missing: int
    train_kept: int
    test_kept: int
    test_listed: int
    train_sha256: str
    test_sha256: str
    content: tuple[str, ...]
    corpus: str

    @property
    def classes_key(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The classes as a hashable value."""
        return tuple(sorted((head, tuple(names)) for head, names in self.classes.items()))

    @property
    def corpus_key(self) -> tuple[Any, ...]:
        """The corpus by name and classes: ESC-10 and ESC-50 differ."""
        return self.dataset, self.corpus, self.variant, self.classes_key

    @property
    def data_key(self) -> tuple[Any, ...]:
        """Identity of the clips and classes by their names: equal for runs on the same clips."""
        return self.train_sha256, self.test_sha256, self.classes_key


@dataclass(frozen=True, kw_only=True)
class ScoredRun(DataRun):
    """A measurement with predictions of test clips: of a trained model or of a baseline.

    Args:
        train_splits: splits or folds of the training clips.
        test_splits: splits or folds of the scored clips.
        front_end: log-mel parameters.
        multilabel: whether a clip may have several labels (mAP is the score) or exactly one (top-1).
        unit: what intervals resample: "clip", or the "recording", "video" or "speaker" that clips are cut from.
        problems: problems of clips or annotation rows.
    """

    train_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    front_end: AudioSpec
    multilabel: bool
    unit: str
    problems: tuple[Problem, ...]

    @property
    def names_key(self) -> str:
        """Key of version 1, which does not cover the sound: equal for runs on other sound under the same names."""
        return run_key(self.record.experiment, self.train_sha256, self.test_sha256) if self.content else self.key

    @property
    def fold(self) -> str:
        """The scored splits, separated by commas."""
        return ",".join(self.test_splits)

    @property
    def is_cross_validation(self) -> bool:
        """Whether the scored splits are folds. Numbers name folds, words name official splits."""
        return all(split.isdecimal() for split in self.test_splits)

    @property
    def headline(self) -> str:
        """Name of the run's main metric."""
        if self.multilabel:
            return "map"
        return "top1" if tuple(self.classes) == (DEFAULT_HEAD,) else "action_top1"


LOGMEL_LR = "logmel_lr"  # model of a baseline: logistic regression on log-mel statistics


@dataclass(frozen=True, kw_only=True)
class BaselineRun(ScoredRun):
    """A simple classifier with its scores on test clips: what a model must beat. `model` names it.

    Args:
        majority: head -> most frequent class of the training clips.
    """

    kind: ClassVar[str] = "baseline"

    majority: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TrainedRun(ScoredRun):
    """A trained model with its scores on test clips or, for a `SearchRun`, on validation clips.

    Args:
        recipe: training recipe.
        weights: initial weights: "scratch", a published name, or "file" and the file's hash.
        history: one mapping per epoch: loss, lr, clips, clips_per_s, steps.
        last: scores of the last epoch's weights if other weights give the result, else None.
        averaged: scores of the averaged weights; None without averaging.
        best: scores of the epoch that is best on the scored clips; None where not reported.
        normalise: see `Experiment.normalise`.
        val_splits: splits that were scored after every epoch; their scores are in the history, "validation_top1".
    """

    kind: ClassVar[str] = "train"

    recipe: Recipe
    weights: str
    history: tuple[Mapping[str, Any], ...]
    last: Mapping[str, Any] | None
    averaged: Mapping[str, Any] | None
    best: Mapping[str, Any] | None
    normalise: str = ""
    val_splits: tuple[str, ...] = ()

    @property
    def lr(self) -> float:
        """Peak learning rate."""
        return self.recipe.lr

    @property
    def epochs(self) -> int:
        """Epochs of training."""
        return self.recipe.epochs

    @property
    def train_fraction(self) -> float:
        """Part of the training clips that it was trained on."""
        return float(self.record.experiment.get("train_fraction", 1.0))


@dataclass(frozen=True, kw_only=True)
class SearchRun(TrainedRun):
    """A trained model with scores on validation clips, to choose a hyper-parameter; it fills no cell of a result."""

    kind: ClassVar[str] = "search"


@dataclass(frozen=True, kw_only=True)
class ClusteringRun(DataRun):
    """A clustering of the embeddings of a trained run, or their coordinates in Figure 2.

    Args:
        of: key of the trained run.
        of_predictions: file name of the clustered predictions; None where the run stored none.
        protocol: protocol of Table 6, "P1" to "P4", or "figure2".
        coordinates: file of Figure 2's coordinates, relative to the records' folder; None for P1 to P4.
        clips_file: file of the clips' clusters, relative to the records' folder; None without clusters, and in records
            from before they were stored.
        identity: definition of the measurement before its features are read; see `clustering_identity`.
    """

    kind: ClassVar[str] = "clustering"

    of: str
    of_predictions: str | None
    protocol: str
    coordinates: Path | None
    clips_file: Path | None
    identity: str


def canonical_config(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's overrides as JSON values, without those that repeat the model's default pooling."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(config)))
    if family(model) == "mast" and plain.get("pool_strides") == json.loads(json.dumps(POOLING_ABLATIONS["mast"])):
        del plain["pool_strides"]
    return plain
