"""The model of an experiment, with its initial weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from models import ModelError, SpectrogramClassifier, create_model, list_models
from models.foreign_sources import SizeError
from models.pretrained import load_by_name, load_pretrained
from models.weight_files import CheckpointError
from reproduce.audio.spec import AudioSpec
from reproduce.datasets import ClipIndex
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import SCRATCH


def build_model(
    experiment: Experiment, index: ClipIndex, weights: Path | None = None, grad_checkpointing: bool = False
) -> SpectrogramClassifier:
    """Build the experiment's model with one head per head of the data. Its `remarks` are for the user.

    Args:
        experiment: model, front end, seed and drop path rate.
        index: whose classes the heads have.
        weights: file of the published weights to start from, where they are not fetched by name.
        grad_checkpointing: recompute activations in the backward pass.

    Raises:
        InputError: the model or its weights cannot be had, or the weights are not this model's.
    """
    torch.manual_seed(experiment.seed)
    heads = {head: len(classes) for head, classes in index.classes.items()}
    config: dict[str, Any] = {"drop_path_rate": experiment.recipe.drop_path_rate, **experiment.model_config}
    try:
        model = create_model(
            experiment.model,
            num_classes=heads[DEFAULT_HEAD] if set(heads) == {DEFAULT_HEAD} else heads,
            input_size=(experiment.front_end.mels, experiment.front_end.frames),
            **config,
        )
        if weights is not None:
            load_pretrained(model, weights)
        elif experiment.weights != SCRATCH:
            load_by_name(model, experiment.weights)
    except (CheckpointError, ModelError) as error:
        raise InputError(str(error)) from None
    return model.set_grad_checkpointing(grad_checkpointing)


def _nearly(name: str) -> str:
    """The model that a wrong name is nearly, ours or timm's; "" for a right name, and for one far from all."""
    if ":" in name or name in list_models():
        return ""
    if close := difflib.get_close_matches(name, list_models(), n=1, cutoff=0.75):
        return close[0]
    try:
        import timm
    except ImportError:
        return ""
    return f"timm:{name}" if timm.is_model(name) else ""


def check_models(names: Iterable[str], front_end: AudioSpec, *, any_size: bool = False) -> None:
    """Build every model once for this input, before data are read.

    Args:
        names: of the models.
        front_end: whose log-mels they get.
        any_size: the size is not known yet: a network that does not take this one may take another.

    Raises:
        InputError: a model that cannot be had, or does not take such log-mels.
    """
    for name in names:
        if meant := _nearly(name):
            raise InputError(f"--models {name}: unknown model {name!r}; did you mean {meant}?")
        try:
            with torch.device("meta"):
                create_model(name, num_classes=2, input_size=(front_end.mels, front_end.frames))
        except ValueError as error:
            if not (any_size and isinstance(error, SizeError)):
                raise InputError(f"--models {error}") from None
