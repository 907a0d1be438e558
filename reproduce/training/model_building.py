"""The model of an experiment, with its initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models import SpectrogramTransformer, create_model
from models.pretrained import load_by_name, load_pretrained
from models.weight_files import CheckpointError
from reproduce.datasets import ClipIndex
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import SCRATCH


def build_model(
    experiment: Experiment, index: ClipIndex, weights: Path | None = None, grad_checkpointing: bool = False
) -> SpectrogramTransformer:
    """Build the experiment's model with one head per head of the data.

    Args:
        experiment: model, front end, seed and drop path rate.
        index: whose classes the heads have.
        weights: file of the published weights to start from, where they are not fetched by name.
        grad_checkpointing: recompute activations in the backward pass.

    Raises:
        InputError: the weights cannot be had, or are not this model's.
    """
    torch.manual_seed(experiment.seed)
    heads = {head: len(classes) for head, classes in index.classes.items()}
    config: dict[str, Any] = {"drop_path_rate": experiment.recipe.drop_path_rate, **experiment.model_config}
    model = create_model(
        experiment.model,
        num_classes=heads[DEFAULT_HEAD] if set(heads) == {DEFAULT_HEAD} else heads,
        input_size=(experiment.front_end.mels, experiment.front_end.frames),
        **config,
    )
    try:
        if weights is not None:
            load_pretrained(model, weights)
        elif experiment.weights != SCRATCH:
            load_by_name(model, experiment.weights)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    return model.set_grad_checkpointing(grad_checkpointing)
