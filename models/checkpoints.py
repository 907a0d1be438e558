"""Our own checkpoints: one .safetensors file with the weights, the model's config, the front end and the labels."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.classifier import SpectrogramClassifier
from models.foreign import ForeignModel
from models.names import is_foreign, is_function, split_name
from models.pretrained import LoadReport, load_weights
from models.registry import PRESETS
from models.self_description import FORMAT_VERSION, METADATA_KEY, read_description
from models.storage import restored, stored
from models.weight_files import DAMAGE, CheckpointError, first_line, listed, read_state_dict
from models.weight_formats import WeightSource


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model and everything needed to use it, as it was given to `save_checkpoint`.

    Args:
        model: in evaluation mode, on the CPU.
        name: the name that built it, see `create_model`.
        config: the model's config.
        front_end: how waveforms became its input, normalisation included.
        labels: class names of every head, in the order of the logits.
        multilabel: sigmoid per class (True) or softmax over classes.
        metadata: what else was saved.
        report: what the load did.
    """

    model: SpectrogramClassifier
    name: str
    config: Any
    front_end: dict[str, Any]
    labels: dict[str, list[str]]
    multilabel: bool
    metadata: dict[str, Any]
    report: LoadReport


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    model_name: str,
    *,
    front_end: Mapping[str, Any],
    labels: Mapping[str, list[str]],
    multilabel: bool,
    extra: Mapping[str, Any] | None = None,
    storage: str = "float32",
) -> None:
    """Write weights and description to one .safetensors file, completely or not at all.

    Args:
        path: must end in .safetensors; an existing file is replaced.
        model: built by `create_model`.
        model_name: the name that built it, so that `create_model(model_name, **config)` rebuilds it.
        front_end: parameters of the spectrogram, normalisation included; plain JSON values. "mels" and "frames", if
            it has them, are the model's input size.
        labels: class names for every head; a model with one unnamed head takes one entry of any name.
        multilabel: whether a clip can have several labels.
        extra: more plain JSON values to keep, such as the record's key.
        storage: of the numbers, see `storage.stored`; a file to share may take a half or a quarter of the space.

    Raises:
        CheckpointError: a description that does not fit the model or is not JSON, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: our checkpoints are safetensors: end the name in .safetensors")
    if not isinstance(model, SpectrogramClassifier):
        raise CheckpointError(f"{path}: cannot save a {type(model).__name__}: give a model built by create_model")
    _check_name(path, model, model_name)
    _check_labels(path, model.config.num_classes, labels)
    description = {
        "format_version": FORMAT_VERSION,
        "model_name": model_name,
        "config": asdict(model.config),
        "front_end": dict(front_end),
        "labels": {head: list(names) for head, names in labels.items()},
        "multilabel": multilabel,
        "extra": dict(extra or {}),
    }
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not JSON ({first_line(error)}): describe with plain finite values") from error
    _check_front_end(path, model.config.input_size, front_end)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    if len({tensor.data_ptr() for tensor in tensors.values()}) < len(tensors):  # safetensors refuses shared memory
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    write_safetensors(path, stored(tensors, storage), {METADATA_KEY: text})


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file completely or not at all: to a temporary name, flushed to disk, then renamed."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({first_line(error)}): free space, or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # after the rename there is none
            temporary.unlink()


def _check_name(path: Path, model: SpectrogramClassifier, name: str) -> None:
    if isinstance(model, ForeignModel):
        if model.config.name != name:
            raise CheckpointError(
                f"{path}: {name!r} did not build this model, but {model.config.name!r}: give this name"
            )
        return
    if name not in PRESETS:
        raise CheckpointError(f"{path}: unknown model {name!r}: give the name passed to create_model")
    if PRESETS[name].family is not type(model):
        raise CheckpointError(f"{path}: {name!r} builds no {type(model).__name__}: give the preset that built it")


def _check_labels(path: Path, num_classes: int | Mapping[str, int], labels: Mapping[str, list[str]]) -> None:
    if isinstance(num_classes, int):
        if len(labels) != 1:
            raise CheckpointError(f"{path}: the model has one head, labels name {len(labels)}: give one entry")
        num_classes = {next(iter(labels)): num_classes}
    if set(labels) != set(num_classes):
        raise CheckpointError(f"{path}: labels of {listed(labels)} for heads {listed(num_classes)}: name every head")
    for head, names in labels.items():
        if len(names) != num_classes[head]:
            raise CheckpointError(
                f"{path}: head {head!r} has {num_classes[head]} classes and {len(names)} labels: "
                "give one label per class"
            )


def _check_front_end(path: Path, input_size: tuple[int, int], front_end: Mapping[str, Any]) -> None:
    mels, frames = input_size
    made = front_end.get("mels", mels), front_end.get("frames", frames)
    if made != (mels, frames):
        raise CheckpointError(
            f"{path}: the front end makes {made[0]} mels x {made[1]} frames, the model takes {mels} x {frames}: "
            "give a front end of the model's input size"
        )


def load_checkpoint(
    path: str | Path, *, input_size: tuple[int, int] | None = None, function: str | None = None
) -> LoadedCheckpoint:
    """Rebuild the model that `save_checkpoint` wrote, with its front end and labels.

    Args:
        path: a file of ours; published weights go through `load_pretrained`.
        input_size: another (mels, frames); positions are then resized as for pretrained weights.
        function: "package.module:function" that may be imported and called to build the model: a file alone never runs
            code.

    Raises:
        CheckpointError: not one of our files, a damaged one, or one that does not fit its description.
    """
    path = Path(path)
    state_dict, sha256 = read_state_dict(path)
    description = read_description(path)
    if description is None:
        raise CheckpointError(f"{path}: does not describe its model: load it as pretrained weights (--weights {path})")
    _check_function(path, description.model_name, function)
    family, saved = description.family, description.parse_config()
    config = saved if input_size is None else description.parse_config(input_size=input_size)
    _check_labels(path, config.num_classes, description.labels)
    state_dict = restored(state_dict, str(path))
    source = WeightSource(name=str(path), format="ours", grid=family.grid_of_config(saved))
    try:
        with torch.device("meta"):  # random weights would be replaced at once
            model = family(config)
        if not is_foreign(description.model_name) and any(
            buffer.is_meta for buffer in model.buffers()
        ):  # no file contains them
            model = family(config)
        report = load_weights(model, state_dict, source, sha256)
    except CheckpointError:
        raise
    except DAMAGE as error:
        raise CheckpointError(
            f"{path}: cannot build {description.model_name!r} ({first_line(error)}): check input_size and version"
        ) from error
    allowed = {"matched"} if input_size is None else {"matched", "resized"}
    misfits = [entry for entry in report.entries if entry.action not in allowed]
    if misfits:
        keys = listed(entry.key or entry.source_keys[0] for entry in misfits)
        raise CheckpointError(f"{path}: {keys} do not fit the file's description: it was altered, save it again")
    return LoadedCheckpoint(
        model=model.eval(),
        name=description.model_name,
        config=model.config,
        front_end=description.front_end,
        labels=description.labels,
        multilabel=description.multilabel,
        metadata=description.extra,
        report=report,
    )


def _check_function(path: Path, name: str, function: str | None) -> None:
    """Raise CheckpointError if the file names code that the caller has not named."""
    if not is_function(name):
        return
    wanted = ":".join(split_name(name))
    if function is None or ":".join(split_name(function)) != wanted:
        raise CheckpointError(f"{path}: its model is built by {wanted}: name this code to run it (--function {wanted})")


def weights_sha256(model: nn.Module) -> str:
    """Hash of the weights alone (names, dtypes, shapes and bytes, in order of name), whatever the file or device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
