"""How fast a model trains here: a few steps on random input, for an estimate before the first epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from reproduce.datasets import ClipIndex
from reproduce.environment import synchronise
from reproduce.evaluation.predict import as_heads
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import SCRATCH
from reproduce.training.execution import Execution
from reproduce.training.model_building import build_model
from reproduce.training.optimizers import make_optimizer

MOST_CLIPS = 8  # per timed step; larger batches are about as fast per clip on a CPU
STEPS, ENOUGH_S = 3, 5.0


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds that one clip takes.

    Args:
        training: forward and backward pass, and its share of the update.
        prediction: forward pass alone.
    """

    training: float
    prediction: float


def time_steps(experiment: Experiment, index: ClipIndex, execution: Execution) -> StepTime:
    """Time the experiment's model on random log-mels, decoding and augmentation not included.

    Args:
        experiment: model, input and recipe; published weights are not loaded.
        index: whose classes the heads have.
        execution: device and precision.
    """
    device, autocast = execution.accelerator.device, execution.accelerator.autocast
    state = torch.random.get_rng_state()
    model = build_model(replace(experiment, weights=SCRATCH), index, None, execution.grad_checkpointing).to(device)
    optimizer = make_optimizer(model, experiment.recipe)
    clips = min(MOST_CLIPS, experiment.recipe.batch_size)
    inputs = torch.randn(clips, 1, experiment.front_end.mels, experiment.front_end.frames, device=device)

    def train() -> None:
        with autocast():
            loss = torch.stack([logits.float().square().mean() for logits in as_heads(model(inputs)).values()]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def predict() -> None:
        with torch.inference_mode(), autocast():
            model(inputs)

    model.train()
    training = _fastest(train, device)
    model.eval()
    prediction = _fastest(predict, device)
    torch.random.set_rng_state(state)
    return StepTime(training=training / clips, prediction=prediction / clips)


def _fastest(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest of a few calls; the first one warms up, and counts only where it was slow."""
    seconds = []
    start = time.perf_counter()
    for _ in range(1 + STEPS):
        before = time.perf_counter()
        step()
        synchronise(device)
        seconds.append(time.perf_counter() - before)
        if time.perf_counter() - start > ENOUGH_S:
            break
    return min(seconds)
