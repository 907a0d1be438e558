"""The state of a run: what a checkpoint holds, as plain values that are checked before they are used."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reproduce.datasets import Problem
from reproduce.training.epoch_meter import EpochMeter


@dataclass
class WeightAverage:
    """Running mean of end-of-epoch weights in float32 and main memory, as torch's AveragedModel keeps it.

    Args:
        mean: name -> tensor.
        epochs: over which it is taken.
    """

    mean: dict[str, Tensor] = field(default_factory=dict)
    epochs: int = 0

    def add(self, model: nn.Module) -> None:
        """Include the weights that `model` has now."""
        self.epochs += 1
        for name, value in model.state_dict().items():
            value = value.detach().float().cpu()
            mean = self.mean.get(name)
            self.mean[name] = value.clone() if mean is None else mean + (value - mean) / self.epochs


@contextmanager
def weights(model: nn.Module, state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Give `model` the weights `state` inside the block, and its own again afterwards; None leaves it alone."""
    if state is None:
        yield
        return
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    try:
        yield
    finally:
        model.load_state_dict(before)


@dataclass
class TrainingState:
    """Progress of a run. With weights, optimiser and float16 scale it is what a checkpoint holds.

    Args:
        epoch: epochs finished.
        meter: of the epoch under way.
        history: one dict per finished epoch.
        average: of the weights.
        best: epoch and metrics with the highest headline score on the test clips.
        seconds: spent so far, interruptions left out.
        problems: clips that could not be used in training, by id.
    """

    epoch: int = 0
    meter: EpochMeter = field(default_factory=EpochMeter)
    history: list[dict[str, Any]] = field(default_factory=list)
    average: WeightAverage = field(default_factory=WeightAverage)
    best: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    problems: dict[str, Problem] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings, which torch loads without unpickling anything else."""
        return {
            "epoch": self.epoch,
            "sums": self.meter.to_dict(),
            "history": json.dumps(self.history),
            "best": json.dumps(self.best),
            "problems": json.dumps([asdict(problem) for problem in self.problems.values()]),
            "average": self.average.mean,
            "averaged": self.average.epochs,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingState:
        """The state that `to_dict` gave; other entries are ignored.

        Raises:
            KeyError, TypeError, ValueError: the content is of something else.
        """
        problems = [Problem(**problem) for problem in json.loads(content["problems"])]
        state = cls(
            epoch=int(content["epoch"]),
            meter=EpochMeter(**content["sums"]),
            history=json.loads(content["history"]),
            average=WeightAverage(dict(content["average"]), int(content["averaged"])),
            best=json.loads(content["best"]),
            seconds=float(content["seconds"]),
            problems={problem.clip_id: problem for problem in problems},
        )
        if [epoch["epoch"] for epoch in state.history] != list(range(1, state.epoch + 1)):
            raise ValueError("the history is not that of the finished epochs")
        return state


def check_content(content: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Check that a checkpoint is of this model and this optimiser; changes neither.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, IndexError: it is not.
    """
    state = TrainingState.from_dict(content)
    if not 0 <= state.seconds < math.inf:
        raise ValueError("the time spent is no time")
    ours = model.state_dict()
    for values in (content["model"], state.average.mean or ours):
        if {name: value.shape for name, value in values.items()} != {name: v.shape for name, v in ours.items()}:
            raise ValueError("the weights are of another model")
        _check_dense(values.values())
    saved = content["optimizer"]
    counts = [[len(group["params"]) for group in groups] for groups in (saved["param_groups"], optimizer.param_groups)]
    if counts[0] != counts[1]:
        raise ValueError("the optimiser is of another model")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    is_sgd = "momentum" in optimizer.param_groups[0]  # Accelerate hides its class
    names = {"momentum_buffer"} if is_sgd else {"step", "exp_avg", "exp_avg_sq"}
    for index, moments in saved["state"].items():
        if set(moments) != names:
            raise ValueError("the optimiser's state lacks a part, or is of another optimiser")
        if any(value.ndim and value.shape != parameters[index].shape for value in moments.values()):
            raise ValueError("the optimiser's state is of another model")
        _check_dense(moments.values())


def _check_dense(values: Iterable[Tensor]) -> None:
    """Raise ValueError for a tensor that could not be copied into a model's or an optimiser's own."""
    if any(value.layout != torch.strided or value.is_complex() for value in values):
        raise ValueError("a tensor is sparse or complex")
