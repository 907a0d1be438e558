"""Typed views of records: one frozen class per kind of measurement. No torch here.

`records.reading.read_run` makes them from stored records, old and new; tables, figures and the report use these classes
alone and never look into a record by key.
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
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.families import LABELS, family, size
from reproduce.experiments.recipe import Recipe
from reproduce.records.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and the settings that a measurement was made under.

    Args:
        device: name of the processor or GPU.
        device_type: "cpu", "cuda" or another torch device type.
        precision: "float32", "bfloat16" or "float16"; "" where nothing was computed in torch.
        torch_threads: CPU threads of torch; 0 where unknown.
        attention: name of the attention implementation; "" where unknown.
        processes: training processes.
        commit: git commit of this code, with "+changes" where files differed from it; "" where unknown.
        libraries: library -> version.
        busy: whether other processes used the machine while it measured.
        facts: everything that was stored, by its stored name.
    """

    device: str
    device_type: str
    precision: str
    torch_threads: int
    attention: str
    processes: int
    commit: str
    libraries: Mapping[str, str]
    busy: bool
    facts: Mapping[str, Any]

    @property
    def machine(self) -> str:
        """The device and, for a CPU, its threads: "AMD EPYC, 2 threads"."""
        if self.device_type != "cpu":
            return self.device
        return f"{self.device}, {self.torch_threads} thread{'s' if self.torch_threads != 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every measurement has.

    Args:
        key: hash of what defines the measurement (16 hex digits).
        scale: "paper" or "demo"; paper cells take paper-scale runs alone.
        metrics: metric -> value, accuracies in per cent; NaN where the stored value was not a number.
        environment: see `Environment`.
        seed: of the run; 0 where the measurement has none.
        created: UTC time of writing, ISO 8601.
        wall_time_s: seconds of training and prediction; 0 for other kinds.
        weights_sha256: of the final weights, None where there are none.
        predictions: file of the run's arrays, relative to the records' folder, None where there is none.
        record: the stored record that this run was read from.
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
        """The metric `name`.

        Raises:
            KeyError: the run has no such metric.
            ValueError: its value was not a number when it was recorded.
        """
        value = self.metrics[name]
        if math.isnan(value):
            raise ValueError(f"record {self.key}: {name} was not a number when it was recorded")
        return value

    @property
    def day(self) -> str:
        """The date of `created`."""
        return self.created[:10]


@dataclass(frozen=True, kw_only=True)
class ModelRun(Run):
    """A measurement of one model.

    Args:
        model: registered name, "mast_tiny".
        model_config: overrides of the model's config, as JSON reads them.
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
        """What figures call the model's family: "AST", "MAST", or its name."""
        return LABELS.get(self.family, self.model)

    @property
    def config_key(self) -> str:
        """The canonical overrides as sorted JSON: equal for equal models, and hashable."""
        return json.dumps(canonical_config(self.model, self.model_config), sort_keys=True)

    @property
    def described_model(self) -> str:
        """The model with its overrides: "mast_tiny, pool_strides [[2, 2], [2, 2], [2, 2]]"."""
        overrides = canonical_config(self.model, self.model_config)
        return self.model + "".join(f", {name} {value}" for name, value in overrides.items())

    @property
    def pooling_changed(self) -> bool:
        """Whether the model's query pooling is not the paper's: such a run belongs to the ablations, not to Table 5."""
        return "pool_strides" in canonical_config(self.model, self.model_config)


@dataclass(frozen=True, kw_only=True)
class DataRun(ModelRun):
    """A measurement of one model on one corpus.

    Args:
        dataset: registered name of the corpus.
        variant: of the corpus, "" where it has one only.
        standin: description of the synthetic stand-in that was read instead of the corpus, None for real data.
        recipe_name: see `Experiment.recipe_name`.
        classes: head -> class names in the order of the logits.
        listed: clips that the corpus lists, over all splits.
        kept: clips of them that could be used.
        missing: clips of them that have no file.
        train_kept: training clips that were used.
        test_kept: test clips that were used.
        test_listed: test clips that the corpus lists.
        train_sha256: identity of the training clips.
        test_sha256: identity of the test clips.
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

    @property
    def classes_key(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The classes as a hashable value."""
        return tuple(sorted((head, tuple(names)) for head, names in self.classes.items()))

    @property
    def data_key(self) -> tuple[Any, ...]:
        """Identity of the clips and classes: equal for runs on the very same data."""
        return self.train_sha256, self.test_sha256, self.classes_key


@dataclass(frozen=True, kw_only=True)
class TrainedRun(DataRun):
    """A model that was trained and scored: on test clips, or as a `SearchRun` on validation clips.

    Args:
        train_splits: splits or folds that it was trained on.
        test_splits: splits or folds that it was scored on.
        front_end: log-mel parameters.
        recipe: training recipe.
        weights: what training started from: "scratch", a published name, or "file" and the file's hash.
        multilabel: whether a clip may have several labels (mAP is the score) or exactly one (top-1).
        unit: what the clips of a corpus are cut from and intervals resample: "clip", "recording", "video", "speaker".
        problems: what was wrong with clips or rows.
        history: one mapping per epoch: loss, lr, clips, clips_per_s, steps.
        last: scores of the last epoch's weights where other weights give the result, else None.
        averaged: scores of the averaged weights, None where none were averaged.
        best: scores of the best epoch on the scored clips, None where not reported.
    """

    kind: ClassVar[str] = "train"

    train_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    front_end: AudioSpec
    recipe: Recipe
    weights: str
    multilabel: bool
    unit: str
    problems: tuple[Problem, ...]
    history: tuple[Mapping[str, Any], ...]
    last: Mapping[str, Any] | None
    averaged: Mapping[str, Any] | None
    best: Mapping[str, Any] | None

    @property
    def fold(self) -> str:
        """The splits that were scored, as one text."""
        return ",".join(self.test_splits)

    @property
    def lr(self) -> float:
        """Peak learning rate."""
        return self.recipe.lr

    @property
    def epochs(self) -> int:
        """Epochs of training."""
        return self.recipe.epochs

    @property
    def is_cross_validation(self) -> bool:
        """Whether the scored splits are folds, which numbers name; words name a corpus' official splits."""
        return all(split.isdecimal() for split in self.test_splits)

    @property
    def headline(self) -> str:
        """Name of the metric that the run is judged by."""
        if self.multilabel:
            return "map"
        return "top1" if tuple(self.classes) == (DEFAULT_HEAD,) else "action_top1"


@dataclass(frozen=True, kw_only=True)
class SearchRun(TrainedRun):
    """A trained model that was scored on validation clips to choose a hyper-parameter; it fills no cell of a result."""

    kind: ClassVar[str] = "search"


@dataclass(frozen=True, kw_only=True)
class ClusteringRun(DataRun):
    """How the embeddings of a trained run cluster, or where Figure 2 shows them.

    Args:
        of: key of the trained run.
        of_predictions: file name of the predictions that were clustered, None where the run stored none.
        protocol: reading of Table 6, "P1" to "P4", or "figure2".
        coordinates: file of Figure 2's coordinates, relative to the records' folder; None for the readings.
        identity: what defines the measurement before its features are read; see `records.clusterings`.
    """

    kind: ClassVar[str] = "clustering"

    of: str
    of_predictions: str | None
    protocol: str
    coordinates: Path | None
    identity: str


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """What leaves one block of a model, for one clip.

    Args:
        block: "patch embedding" or "block N".
        tokens: patch tokens.
        freq: rows of the token grid.
        time: columns of the token grid.
        width: embedding width.
        prefix_tokens: class and distillation tokens beside the patches.
    """

    block: str
    tokens: int
    freq: int
    time: int
    width: int
    prefix_tokens: int


@dataclass(frozen=True, kw_only=True)
class CostItem:
    """Multiply-accumulates of one kind of operation in one block.

    Args:
        block: "patch embedding", "block N" or "head".
        kind: kind of operation.
        macs: multiply-accumulates for one clip.
    """

    block: str
    kind: str
    macs: float


@dataclass(frozen=True, kw_only=True)
class CostRun(ModelRun):
    """Parameters and MACs of a model for one clip.

    Args:
        input_size: (mels, frames).
        num_classes: of the head, or of every head by name.
        shapes: what leaves each block.
        items: MACs by block and kind, full rule.
        libraries: counting library and attention path -> MACs; empty where the libraries were not asked.
    """

    kind: ClassVar[str] = "cost"

    input_size: tuple[int, int]
    num_classes: int | Mapping[str, int]
    shapes: tuple[BlockShape, ...]
    items: tuple[CostItem, ...]
    libraries: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ScalingRun(ModelRun):
    """Latency, memory and MACs of a model at one clip length, batch 1.

    Args:
        seconds: clip length.
        input_size: (mels, frames).
        batch: clips per call.
        reference: model that `time_ratio` is relative to.
        failure: why nothing was measured ("out of memory"), None where it was.
    """

    kind: ClassVar[str] = "scaling"

    seconds: float
    input_size: tuple[int, int]
    batch: int
    reference: str
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class SpeedRun(Run):
    """One candidate of an interleaved benchmark.

    Args:
        bench: name of the benchmark.
        candidate: what was timed.
        candidates: everything timed in turns with it; the first is the baseline of ratios.
        conditions: what the candidates have in common: mode, preset, batch, precision, input_size, ...
        failure: why nothing was measured ("out of memory"), None where it was.
    """

    kind: ClassVar[str] = "speed"

    bench: str
    candidate: str
    candidates: tuple[str, ...]
    conditions: Mapping[str, Any]
    failure: str | None

    @property
    def conditions_key(self) -> str:
        """Benchmark, candidates and conditions as sorted JSON: equal for candidates that were timed in turns."""
        return json.dumps([self.bench, self.candidates, self.conditions], sort_keys=True)

    @property
    def mode(self) -> str:
        """ "inference" or "training"; "" where the benchmark has no such condition."""
        return str(self.conditions.get("mode", ""))

    @property
    def precision(self) -> str:
        """Precision of the candidates; "" where the benchmark has no such condition."""
        return str(self.conditions.get("precision", ""))

    @property
    def batch(self) -> int:
        """Clips per call; 0 where the benchmark has no such condition."""
        return int(self.conditions.get("batch", 0))


@dataclass(frozen=True, kw_only=True)
class InspectionRun(ModelRun):
    """Intermediate results of a trained model for one sound.

    Args:
        sound: file name.
        front_end: log-mel parameters.
        trained_on: splits that the model was trained on.
    """

    kind: ClassVar[str] = "inspection"

    sound: str
    front_end: AudioSpec
    trained_on: tuple[str, ...]


def canonical_config(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's overrides as JSON reads them, without those that repeat the model's default pooling."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(config)))
    if family(model) == "mast" and plain.get("pool_strides") == json.loads(json.dumps(POOLING_ABLATIONS["mast"])):
        del plain["pool_strides"]
    return plain
