"""Load published weights, or ours, into a model, and report what became of every key.

`load_pretrained(model, path)` takes the formats that the models state: DeiT, AST (official and Hugging Face), MViTv2
(FAIR and timm) and ours. Nothing is dropped in silence, and a failed load leaves the model as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from models.classifier import SpectrogramClassifier
from models.foreign import ForeignModel
from models.registry import PRESETS, families
from models.self_description import read_description
from models.storage import restored
from models.weight_files import CheckpointError, first_line, listed, read_state_dict, strip_data_parallel
from models.weight_formats import Action, Grid, PublishedWeights, WeightFormat, WeightSource

HEAD_PREFIXES = ("head.", "head_norm.")
OURS = WeightFormat(marker="")  # of a model that states no format of this name
LOADABLE_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class KeyReport:
    """What became of one tensor. Every key of the model and every key of the source is in exactly one of these.

    Args:
        key: our name; None for a source tensor that was dropped by rule.
        source_keys: its names in the source, three where query, key and value make one qkv, none where initialised.
        action: "initialised" keeps the value that the model was built with.
        shape_from: shape in the source, None where there is none.
        shape_to: shape in the model, None where there is none.
    """

    key: str | None
    source_keys: tuple[str, ...]
    action: Action
    shape_from: tuple[int, ...] | None
    shape_to: tuple[int, ...] | None


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Args:
        entries: one per key of the model, and one per source tensor that was dropped.
        source: the path, or "state dict".
        format: the detected format.
        sha256: of the file, None for a state dict in memory.
    """

    entries: tuple[KeyReport, ...]
    source: str
    format: str
    sha256: str | None

    def having(self, action: Action) -> list[KeyReport]:
        """Entries with this action."""
        return [entry for entry in self.entries if entry.action == action]

    @property
    def matched(self) -> int:
        """Number of tensors that are the source's, unchanged."""
        return len(self.having("matched"))

    @property
    def adapted(self) -> int:
        """Tensors of the model whose values are not the source's: resized, summed or initialised."""
        return sum(entry.key is not None and entry.action != "matched" for entry in self.entries)

    def summary(self) -> str:
        """One line with the counts, naming what was initialised or dropped."""
        parts = []
        for action in get_args(Action):
            entries = self.having(action)
            if not entries:
                continue
            part = f"{len(entries)} {action}"
            if action in ("initialised", "dropped by rule"):
                part += f" ({listed(entry.key or entry.source_keys[0] for entry in entries)})"
            parts.append(part)
        return f"{self.source} [{self.format}]: {', '.join(parts)}"


# --- Formats


def detect_format(
    state_dict: Mapping[str, Tensor], source: str = "state dict", first: type[SpectrogramClassifier] | None = None
) -> tuple[type[SpectrogramClassifier], str]:
    """Find the model that the keys belong to and the name of their format, such as "deit" or "mvitv2-timm".

    Formats may share names (a ViT has DeiT's without the distillation token): those of the model `first` come first.

    Raises:
        CheckpointError: no format fits; the message shows a few keys.
    """
    for family in dict.fromkeys([*([first] if first else []), *families()]):
        for name, format_ in family.pretrained_formats.items():
            excluded = format_.absent is not None and any(re.fullmatch(format_.absent, key) for key in state_dict)
            if not excluded and any(re.fullmatch(format_.marker, key) for key in state_dict):
                return family, name
    raise CheckpointError(
        f"{source}: unknown format with keys {listed(state_dict)}: give DeiT, AST or MViTv2 weights, or ours"
    )


@dataclass(frozen=True)
class _Renamed:
    tensor: Tensor
    source_keys: tuple[str, ...]


def _rename_all(
    state_dict: Mapping[str, Tensor], format_: WeightFormat, model: SpectrogramClassifier, source: str
) -> tuple[dict[str, _Renamed], list[str]]:
    """Tensors under our names, and the source keys dropped by rule."""
    renamed: dict[str, _Renamed] = {}
    dropped: list[str] = []
    for key, tensor in state_dict.items():
        if format_.dropped and re.fullmatch(format_.dropped, key):
            dropped.append(key)
            continue
        ours = model.rename_key(key)
        for pattern, replacement in format_.rules:
            ours = re.sub(pattern, replacement, ours)
        if ours in renamed:
            other = renamed[ours].source_keys[0]
            raise CheckpointError(f"{source}: {other!r} and {key!r} both become {ours!r}: remove one of them")
        renamed[ours] = _Renamed(tensor, (key,))
    return _join_qkv(renamed, source), dropped


def _join_qkv(renamed: dict[str, _Renamed], source: str) -> dict[str, _Renamed]:
    """Stack separate query, key and value into our qkv, in this order."""
    joined: dict[str, _Renamed] = {}
    for key, value in renamed.items():
        part = re.fullmatch(r"(blocks\.\d+\.attn)\.(query|key|value)\.(weight|bias)", key)
        if not part:
            joined[key] = value
            continue
        names = [f"{part[1]}.{name}.{part[3]}" for name in ("query", "key", "value")]
        missing = [name for name in names if name not in renamed]
        if missing:
            raise CheckpointError(f"{source}: nothing for {listed(missing)}: get the whole file")
        parts = [renamed[name] for name in names]
        shapes = {tuple(p.tensor.shape) for p in parts}
        if len(shapes) > 1:
            keys = listed(p.source_keys[0] for p in parts)
            raise CheckpointError(f"{source}: {keys} differ in shape {sorted(shapes)}: get the file again")
        if key == names[0]:
            joined[f"{part[1]}.qkv.{part[3]}"] = _Renamed(
                torch.cat([p.tensor for p in parts]), tuple(p.source_keys[0] for p in parts)
            )
    return joined


# --- Loading into a model


def load_pretrained(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], *, source_grid: Grid | None = None
) -> LoadReport:
    """Load published weights, or ours, into a model built by `create_model`.

    Three-channel patch kernels are summed to one channel, position tables are resized to the model's input size, and
    the classifier is kept where heads and classes are the source's; otherwise the model keeps the whole one that it
    was built with, LayerNorm included, as in AST's code. DeiT's two classifiers are dropped. All else must fit.

    Args:
        model: a model of ours; untouched if this raises.
        source: a file, see `read_state_dict`, or a state dict.
        source_grid: patches (frequency, time) of an AST position embedding, where they are not known: DeiT's grid is
            square, published AST's 12 x 101, and our own checkpoints and transformers' config.json contain theirs.

    Raises:
        CheckpointError: unreadable file, unknown format, weights of the other model, or a missing, surplus,
            mis-shaped or non-finite tensor, which is named.
    """
    if not isinstance(model, SpectrogramClassifier):
        kind = type(model).__name__
        raise CheckpointError(f"{source_name(source)}: cannot load into a {kind}: build the model with create_model")
    if isinstance(source, Mapping):
        state_dict, sha256, description = strip_data_parallel(source), None, None
    else:
        state_dict, sha256 = read_state_dict(source)
        description = read_description(Path(source))
        if description is not None:
            state_dict = restored(state_dict, str(source))
        if source_grid is None and description is None:
            source_grid = model.grid_of_file(Path(source))
    family: type[SpectrogramClassifier]
    if isinstance(model, ForeignModel):
        family, format_name = ForeignModel, "ours" if description is not None else "its own"
        if description is not None and description.model_name != model.config.name:
            raise CheckpointError(
                f"{source_name(source)}: weights of {description.model_name}, not of {model.config.name}: give others"
            )
    elif description is None:
        family, format_name = detect_format(state_dict, source_name(source), type(model))
    else:
        family, format_name = description.family, "ours"
        source_grid = source_grid or family.grid_of_config(description.parse_config())
    if type(model) is not family:
        fits = family.__name__
        presets = listed(name for name, preset in PRESETS.items() if preset.family is family)
        raise CheckpointError(
            f"{source_name(source)}: {format_name} weights fit {fits}, not {type(model).__name__}: "
            f"build one of {presets}, or give other weights"
        )
    weights = WeightSource(name=source_name(source), format=format_name, grid=source_grid)
    return load_weights(model, state_dict, weights, sha256)


def source_name(source: str | Path | Mapping[str, Tensor]) -> str:
    """How messages name a source of weights."""
    return "state dict" if isinstance(source, Mapping) else str(source)


def load_weights(
    model: SpectrogramClassifier, state_dict: Mapping[str, Tensor], source: WeightSource, sha256: str | None
) -> LoadReport:
    """Load a state dict of a known format; see `load_pretrained`. A model on the meta device takes the tensors over."""
    format_ = type(model).pretrained_formats.get(source.format, OURS)
    renamed, dropped = _rename_all(state_dict, format_, model, source.name)
    targets = model.state_dict()
    initialised = _settle_head(renamed, dropped, targets, _required_head(source, state_dict, model), source.name)
    _check_keys(renamed, targets, initialised, source.name)

    on_meta = next(model.parameters()).is_meta
    entries, values = [], {key: targets[key] for key in initialised}
    for key, target in targets.items():
        if key in values:
            entries.append(KeyReport(key, (), "initialised", None, tuple(target.shape)))
            continue
        original = renamed[key]
        value, action = model.adapt(key, original.tensor, target, source)
        _check_tensor(original, value, target, source.name)
        value = value.to(target.dtype)
        values[key] = value.clone(memory_format=torch.contiguous_format) if on_meta else value  # not the file's memory
        shape = tuple(original.tensor.shape)
        entries.append(KeyReport(key, original.source_keys, action, shape, tuple(target.shape)))
    entries += [KeyReport(None, (key,), "dropped by rule", tuple(state_dict[key].shape), None) for key in dropped]
    model.load_state_dict(values, strict=True, assign=on_meta)
    return LoadReport(tuple(entries), source.name, source.format, sha256)


def _required_head(
    source: WeightSource, state_dict: Mapping[str, Tensor], model: SpectrogramClassifier
) -> tuple[str, ...]:
    """Layers of the classifier, under our names, that a complete file of this format has."""
    format_ = type(model).pretrained_formats.get(source.format, OURS)
    if source.format == "ours":  # heads may have other names than the model's
        has_head = any(key.startswith("head.fc.") for key in model.state_dict())
        heads = ("head.fc",) if has_head and not any(key.startswith("head.fc.") for key in state_dict) else ()
        return (*(("head_norm",) if "head_norm.weight" in model.state_dict() else ()), *heads)
    return format_.head if any(re.fullmatch(format_.head_marker, key) for key in state_dict) else ()


def _settle_head(
    renamed: dict[str, _Renamed],
    dropped: list[str],
    targets: Mapping[str, Tensor],
    required: tuple[str, ...],
    source: str,
) -> list[str]:
    """Decide whether the source's classifier is kept. If not, move its keys to `dropped` and return ours."""
    ours = [key for key in targets if key.startswith(HEAD_PREFIXES)]
    theirs = [key for key in renamed if key.startswith(HEAD_PREFIXES)]
    layers = {key.rpartition(".")[0] for key in theirs} | set(required)
    missing = sorted({f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")} - set(theirs))
    if missing:
        raise CheckpointError(f"{source}: nothing for {listed(missing)}: get the whole file")
    for layer in layers:
        weight, bias = renamed[f"{layer}.weight"], renamed[f"{layer}.bias"]
        if bias.tensor.ndim != 1 or bias.tensor.shape != weight.tensor.shape[:1]:
            shapes = f"{tuple(weight.tensor.shape)} and {tuple(bias.tensor.shape)}"
            keys = listed(weight.source_keys + bias.source_keys)
            raise CheckpointError(f"{source}: {keys} have shapes {shapes}: get the file again")
    if set(ours) == set(theirs) and all(renamed[key].tensor.shape[0] == targets[key].shape[0] for key in ours):
        return []
    for key in theirs:
        dropped += renamed.pop(key).source_keys
    return ours


def _check_keys(
    renamed: Mapping[str, _Renamed], targets: Mapping[str, Tensor], initialised: list[str], source: str
) -> None:
    surplus = [original.source_keys[0] for key, original in renamed.items() if key not in targets]
    missing = [key for key in targets if key not in renamed and key not in initialised]
    faults = [f"surplus {listed(surplus)}"] if surplus else []
    faults += [f"nothing for {listed(missing)}"] if missing else []
    if faults:
        raise CheckpointError(f"{source}: {'; '.join(faults)}: build the weights' depth, or get the whole file")


def _check_tensor(original: _Renamed, value: Tensor, target: Tensor, source: str) -> None:
    name = listed(original.source_keys)
    if value.shape != target.shape:
        shapes = f"{tuple(original.tensor.shape)}, the model needs {tuple(target.shape)}"
        raise CheckpointError(f"{source}: {name} is {shapes}: build the model with the sizes of the weights")
    if value.layout != torch.strided:
        raise CheckpointError(f"{source}: {name} is {value.layout}, not a dense tensor: save it again as one")
    if value.dtype not in LOADABLE_DTYPES and value.dtype != target.dtype:  # batch normalisation counts in int64
        raise CheckpointError(f"{source}: {name} is {value.dtype}, not floating point: give unquantised weights")
    if not value.isfinite().all():
        raise CheckpointError(f"{source}: {name} contains NaN or infinity: get the file again")


# --- Published weights by name


def load_by_name(model: nn.Module, name: str) -> LoadReport:
    """Load published weights, such as "imagenet" or AST's "audioset", downloaded once into the hub's cache.

    Raises:
        CheckpointError: no such weights for this model or its width, or no way to download them; and as
            `load_pretrained`.
    """
    if not isinstance(model, SpectrogramClassifier):
        raise CheckpointError(f"{name}: cannot load into a {type(model).__name__}: build the model with create_model")
    if isinstance(model, ForeignModel):
        state_dict, source = model.published_state(name)
        return load_weights(model, state_dict, source, None)
    family = type(model)
    weights = family.published.get(name)
    if weights is None:
        known = f"use {listed(family.published)}, or a path" if family.published else "give a path"
        raise CheckpointError(f"{name}: no such published weights for {family.__name__}: {known}")
    base = family.config_class(**PRESETS[weights.preset].fields)
    for field in weights.fields:
        value, needed = getattr(model.config, field), getattr(base, field)
        if value != needed:
            raise CheckpointError(
                f"{name}: the weights have {field} {needed}, the model {value}: use {weights.preset} or no weights"
            )
    return load_pretrained(model, download(weights))


class DownloadError(CheckpointError):
    """Weights that cannot be downloaded.

    Args:
        weights: on the hub.
        cause: one line.
    """

    def __init__(self, weights: PublishedWeights, cause: str) -> None:
        self.what = f"{weights.repo_id}: cannot download {weights.filename} ({cause})"
        self.repo_id = weights.repo_id
        super().__init__(f"{self.what}: fetch {weights.url} elsewhere and pass its path (--weights PATH)")


def download(weights: PublishedWeights) -> Path:
    """Path of the file in the hub's cache, downloaded if it is not there yet.

    Raises:
        DownloadError: it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(weights.repo_id, weights.filename))
    except OSError as error:  # the hub's errors derive from it
        raise DownloadError(weights, first_line(error)) from error
