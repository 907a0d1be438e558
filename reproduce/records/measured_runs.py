"""Typed runs of what is measured beside accuracy: costs, time, memory, intermediate results. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reproduce.audio.spec import AudioSpec
from reproduce.records.runs import ModelRun, Run

MIXED = "mixed"  # the "precision" of a contest of candidates in several; each record's environment has its own


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """The output of one block of a model, for one clip.

    Args:
        block: "patch embedding" or "block N".
        tokens: patch tokens.
        freq: rows of the token grid.
        time: columns of the token grid.
        width: embedding width.
        prefix_tokens: class and distillation tokens, in addition to `tokens`.
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
        num_classes: classes of the head, or of every head by name.
        shapes: output of each block.
        items: MACs by block and kind, attention products included.
        libraries: counting library and attention implementation -> MACs; empty where no library counted.
        code: hash of the config and of the models' sources, see `efficiency.cost_identity`; "" in older records.
    """

    kind: ClassVar[str] = "cost"

    input_size: tuple[int, int]
    num_classes: int | Mapping[str, int]
    shapes: tuple[BlockShape, ...]
    items: tuple[CostItem, ...]
    libraries: Mapping[str, float]
    code: str


@dataclass(frozen=True, kw_only=True)
class ScalingRun(ModelRun):
    """Latency, memory and MACs of a model at one clip length.

    Args:
        seconds: clip length in seconds.
        input_size: (mels, frames).
        batch: clips per call.
        reference: model that `time_ratio` is relative to.
        failure: reason for a missing measurement ("out of memory"), else None.
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
        candidate: name of the timed candidate.
        candidates: all candidates of the benchmark; the first is the baseline of ratios.
        conditions: conditions that the candidates share: mode, preset, batch, precision, input_size, ...
        failure: reason for a missing measurement ("out of memory"), else None.
    """

    kind: ClassVar[str] = "speed"

    bench: str
    candidate: str
    candidates: tuple[str, ...]
    conditions: Mapping[str, Any]
    failure: str | None

    @property
    def conditions_key(self) -> str:
        """Benchmark, candidates and conditions as sorted JSON: equal for candidates that were timed together."""
        return json.dumps([self.bench, self.candidates, self.conditions], sort_keys=True)

    @property
    def mode(self) -> str:
        """ "inference" or "training"; "" where the benchmark has no such condition."""
        return str(self.conditions.get("mode", ""))

    @property
    def precision(self) -> str:
        """Precision of this candidate; float32 in old records, which do not state it."""
        stated = str(self.conditions.get("precision", ""))
        return self.environment.precision if stated == MIXED else stated or "float32"

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
        trained_on: splits of the training clips.
    """

    kind: ClassVar[str] = "inspection"

    sound: str
    front_end: AudioSpec
    trained_on: tuple[str, ...]
