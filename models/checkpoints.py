"""Published weights under our names, and our own checkpoints, which describe themselves.

`load_pretrained(model, path)` takes DeiT, AST (official and Hugging Face) and MViTv2 (FAIR and timm) weights, or ours,
and reports what became of every key. Nothing is dropped in silence, and a failed load leaves the model as it was.
`save_checkpoint` and `load_checkpoint` keep the model's config, front end and labels beside its weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ast_model import AST, ASTConfig
from models.mast_model import MAST, MASTConfig
from models.registry import create_model, list_models

Action = Literal["matched", "resized", "summed channels", "initialised", "dropped by rule"]
Grid = tuple[int, int]
Model = AST | MAST

FORMAT_VERSION = 1
METADATA_KEY = "self_description"
TORCH_SUFFIXES = (".pth", ".pt", ".pyth", ".bin")
WRAPPERS = ("model", "model_state", "state_dict")  # DeiT's, FAIR's and timm's name for the weights in a training file
PREFIX_TOKENS = 2  # class and distillation token, which lead AST's and DeiT's position embedding
AUDIOSET_GRID = (12, 101)  # patches of the published AST weights, 128 mels x 1024 frames
HEAD_PREFIXES = ("head.", "head_norm.")


class CheckpointError(ValueError):
    """Weights that cannot be used. The message is one line that names the file, the key and the remedy."""


@dataclass(frozen=True)
class KeyReport:
    """What became of one tensor. Every key of the model and every key of the source is in exactly one of these.

    Args:
        key: our name; None for a source tensor that was dropped by rule.
        source_keys: its names in the source, three where query, key and value make one qkv, none where initialised.
        action: "initialised" keeps the value the model was built with.
        shape_from, shape_to: shapes before and after, None where there is none.
    """

    key: str | None
    source_keys: tuple[str, ...]
    action: Action
    shape_from: tuple[int, ...] | None
    shape_to: tuple[int, ...] | None


@dataclass(frozen=True)
class LoadReport:
    """What a load did: source (path), detected format, sha256 of the file (None for a state dict in memory)."""

    entries: tuple[KeyReport, ...]
    source: str
    format: str
    sha256: str | None

    def having(self, action: Action) -> list[KeyReport]:
        return [entry for entry in self.entries if entry.action == action]

    @property
    def counts(self) -> dict[Action, int]:
        return dict(Counter(entry.action for entry in self.entries))

    @property
    def matched(self) -> int:
        return len(self.having("matched"))

    @property
    def adapted(self) -> int:
        """Tensors of the model whose values are not the source's own: resized, summed or initialised."""
        return sum(entry.key is not None and entry.action != "matched" for entry in self.entries)

    def summary(self) -> str:
        """One line with the counts, naming what was initialised or dropped."""
        parts = []
        for action in get_args(Action):
            found = self.having(action)
            if not found:
                continue
            part = f"{len(found)} {action}"
            if action in ("initialised", "dropped by rule"):
                part += f" ({_listed(entry.key or entry.source_keys[0] for entry in found)})"
            parts.append(part)
        return f"{self.source} [{self.format}]: {', '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"counts": self.counts, "adapted": self.adapted}


# --- Reading files ---------------------------------------------------------------------------------------------------


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], str]:
    """Read weights on the CPU without running any code that the file may hold.

    Accepts .safetensors and torch files (.pth, .pt, .pyth, .bin), bare or wrapped as in `WRAPPERS`, and strips
    DataParallel's "module." prefix.

    Returns:
        The state dict and the sha256 of the file.

    Raises:
        CheckpointError: missing, empty, truncated or foreign file, optimiser state, or pickled code.
    """
    path = Path(path)
    _check_file(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if {"state", "param_groups"} <= set(content):
        raise CheckpointError(f"{path}: is the state of an optimiser, not of a model: give the model's own file")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    strangers = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strangers or not content:
        held = f"{_listed(strangers)} is no tensor" if strangers else "it is empty"
        raise CheckpointError(f"{path}: is not a state dict ({held}): give a file with a model's weights")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return _strip_data_parallel(content), sha256


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder: name the weights in it, such as {path / 'model.safetensors'}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: check the path, or download the weights first")
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise CheckpointError(f"{path}: unknown suffix: give one of .safetensors, {', '.join(TORCH_SUFFIXES)}")
    if "optim" in path.stem and ("state" in path.stem or "optimizer" in path.stem):
        # AST's recipe writes best_optim_state.pth beside best_audio_model.pth.
        raise CheckpointError(f"{path}: is the state of an optimiser, not of a model: give the model's own file")
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        raise CheckpointError(f"{path}: is empty: download or copy it again")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: is a Git LFS pointer, not the weights: run `git lfs pull` in its repository")
    if start.startswith(b"<"):
        raise CheckpointError(f"{path}: is a web page, not weights: download the file itself")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: corrupt ({_first_line(error)}): download or copy it again") from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # torch names the callable that the pickle asked for
            raise CheckpointError(
                f"{path}: holds pickled code, which is never run: have its author give the state dict alone"
            ) from error
        raise CheckpointError(f"{path}: corrupt or not a torch file: download or copy it again") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: corrupt ({_first_line(error)}): download or copy it again") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}: give a file with a model's state dict")
    return content


def _strip_data_parallel(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    if all(key.startswith(prefix) for key in state_dict):
        return {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}
    return dict(state_dict)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _listed(keys: Iterable[str], limit: int = 4) -> str:
    names = list(keys)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


# --- Formats and their names -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Format:
    """How one kind of published weights is recognised and renamed.

    Args:
        marker: a key that matches tells the format; the first of `_FORMATS` wins.
        family: the model that the weights fit; None for ours, which are of either.
        rules: (pattern, replacement), applied in order to every key.
        dropped: full matches are dropped by rule.
        head: stems of the source's classifier under our names; empty where it is never used.
    """

    marker: str
    family: type[Model] | None
    rules: tuple[tuple[str, str], ...] = ()
    dropped: str | None = None
    head: tuple[str, ...] = ()


_REL_POS_RULES = ((r"\.rel_pos_h$", ".rel_pos_freq"), (r"\.rel_pos_w$", ".rel_pos_time"))
_HF_PREFIX = "audio_spectrogram_transformer."
_FORMATS = {
    "ours": _Format(r"blocks\.\d+\.attn\.rel_pos_freq|head_norm\.weight", None),
    "mvitv2-timm": _Format(
        r"stages\.\d+\.blocks\.\d+\.attn\.rel_pos_h",
        MAST,
        rules=((r"^(blocks\.\d+)\.shortcut_proj_attn\.", r"\1.proj."), *_REL_POS_RULES),
        head=("head.fc",),
    ),
    "mvitv2-fair": _Format(
        r"blocks\.\d+\.attn\.rel_pos_h",
        MAST,
        rules=((r"^head\.projection\.", "head.fc."), *_REL_POS_RULES),
        head=("head.fc",),
    ),
    "ast-official": _Format(
        r"v\.blocks\.\d+\.attn\.qkv\.weight",
        AST,
        rules=((r"^v\.", ""), (r"^mlp_head\.0\.", "head_norm."), (r"^mlp_head\.1\.", "head.fc.")),
        dropped=r"v\.head(_dist)?\.(weight|bias)",  # DeiT's, allocated and unused in AST
        head=("head_norm", "head.fc"),
    ),
    "ast-huggingface": _Format(
        rf"({re.escape(_HF_PREFIX)})?embeddings\.(distillation_token|patch_embeddings\.projection\.weight)",
        AST,
        # Where two spellings stand, the first is on disk (transformers 4), the second in memory (transformers 5).
        rules=(
            (rf"^{re.escape(_HF_PREFIX)}", ""),
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.distillation_token$", "dist_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
            (r"\.attention\.q_proj\.", ".attn.query."),
            (r"\.attention\.k_proj\.", ".attn.key."),
            (r"\.attention\.v_proj\.", ".attn.value."),
            (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
            (r"^layernorm\.", "norm."),
            (r"^classifier\.layernorm\.", "head_norm."),
            (r"^classifier\.dense\.", "head.fc."),
        ),
        head=("head_norm", "head.fc"),
    ),
    "deit": _Format(r"blocks\.\d+\.attn\.qkv\.weight", AST, dropped=r"head(_dist)?\.(weight|bias)"),
}


def detect_format(state_dict: Mapping[str, Tensor], source: str = "state dict") -> str:
    """Name the format by its keys: one of deit, ast-official, ast-huggingface, mvitv2-fair, mvitv2-timm, ours.

    Raises:
        CheckpointError: none of them; the message shows a few keys.
    """
    for name, format_ in _FORMATS.items():
        if any(re.fullmatch(format_.marker, key) for key in state_dict):
            return name
    raise CheckpointError(
        f"{source}: unknown format with keys {_listed(state_dict)}: give DeiT, AST or MViTv2 weights, or ours"
    )


@dataclass(frozen=True)
class _Renamed:
    tensor: Tensor
    source_keys: tuple[str, ...]


def _rename(key: str, format_: _Format, model: Model) -> str:
    stage_block = re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", key)
    if stage_block and isinstance(model, MAST):
        stage, block = int(stage_block[1]), int(stage_block[2])
        depths = model.config.depths
        if stage >= len(depths) or block >= depths[stage]:
            return key  # a block that the model lacks stays a surplus key
        key = f"blocks.{sum(depths[:stage]) + block}.{key[stage_block.end() :]}"
    for pattern, replacement in format_.rules:
        key = re.sub(pattern, replacement, key)
    return key


def _rename_all(
    state_dict: Mapping[str, Tensor], format_: _Format, model: Model, source: str
) -> tuple[dict[str, _Renamed], list[str]]:
    """Tensors under our names, and the source keys dropped by rule."""
    renamed: dict[str, _Renamed] = {}
    dropped: list[str] = []
    for key, tensor in state_dict.items():
        if format_.dropped and re.fullmatch(format_.dropped, key):
            dropped.append(key)
            continue
        ours = _rename(key, format_, model)
        if ours in renamed:
            rival = renamed[ours].source_keys[0]
            raise CheckpointError(f"{source}: {rival!r} and {key!r} both stand for {ours!r}: remove one of them")
        renamed[ours] = _Renamed(tensor, (key,))
    return _join_qkv(renamed, source), dropped


def _join_qkv(renamed: dict[str, _Renamed], source: str) -> dict[str, _Renamed]:
    """Stack Hugging Face's separate query, key and value into our qkv, in this order."""
    joined: dict[str, _Renamed] = {}
    for key, value in renamed.items():
        part = re.fullmatch(r"(blocks\.\d+\.attn)\.(query|key|value)\.(weight|bias)", key)
        if not part:
            joined[key] = value
            continue
        names = [f"{part[1]}.{name}.{part[3]}" for name in ("query", "key", "value")]
        missing = [name for name in names if name not in renamed]
        if missing:
            raise CheckpointError(f"{source}: nothing stands for {_listed(missing)}: get the whole file")
        parts = [renamed[name] for name in names]
        shapes = {tuple(p.tensor.shape) for p in parts}
        if len(shapes) > 1:
            keys = _listed(p.source_keys[0] for p in parts)
            raise CheckpointError(f"{source}: {keys} differ in shape {sorted(shapes)}: get the file again")
        if key == names[0]:
            joined[f"{part[1]}.qkv.{part[3]}"] = _Renamed(
                torch.cat([p.tensor for p in parts]), tuple(p.source_keys[0] for p in parts)
            )
    return joined


# --- Adapting tensors ------------------------------------------------------------------------------------------------


def resize_position_embedding(pos_embed: Tensor, source_grid: Grid, grid: Grid) -> Tensor:
    """AST's rule: per axis, time first, cut from the centre where the target is not longer, else interpolate linearly.

    The two prefix tokens are kept. After `src/models/ast_models.py` of YuanGongND/ast.

    Args:
        pos_embed: (1, 2 + rows * columns of source_grid, C), frequency-major.
        source_grid, grid: patches along (frequency, time).

    Returns:
        (1, 2 + rows * columns of grid, C).
    """
    prefix, patches = pos_embed[:, :PREFIX_TOKENS], pos_embed[:, PREFIX_TOKENS:]
    C = patches.shape[-1]
    patches = patches.transpose(1, 2).reshape(1, C, *source_grid)
    for axis in (3, 2):
        size, target = patches.shape[axis], grid[axis - 2]
        if target <= size:
            patches = patches.narrow(axis, size // 2 - target // 2, target)
        else:
            shape = (patches.shape[2], target) if axis == 3 else (target, patches.shape[3])
            patches = F.interpolate(patches, size=shape, mode="bilinear", align_corners=False)
    return torch.cat((prefix, patches.reshape(1, C, -1).transpose(1, 2)), dim=1)


def resize_relative_positions(table: Tensor, rows: int) -> Tensor:
    """Linear interpolation of one axis' table, (source rows, D) to (rows, D), as timm's `checkpoint_filter_fn` does."""
    return F.interpolate(table.T[None], size=rows, mode="linear", align_corners=False)[0].T


def _position_grid(pos_embed: Tensor, format_name: str, model: AST, given: Grid | None, source: str) -> Grid:
    """Which (rows, columns) the patches of a position embedding stand for; the tensor itself does not say."""
    if pos_embed.ndim != 3 or pos_embed.shape[0] != 1 or pos_embed.shape[1] <= PREFIX_TOKENS:
        shape = tuple(pos_embed.shape)
        raise CheckpointError(f"{source}: 'pos_embed' is {shape}, not (1, 2 + patches, width): get the file again")
    patches, side = pos_embed.shape[1] - PREFIX_TOKENS, math.isqrt(pos_embed.shape[1] - PREFIX_TOKENS)
    rows, columns = model.config.grid
    if given is not None and given[0] * given[1] != patches:
        raise CheckpointError(
            f"{source}: 'pos_embed' has {patches} patches, unlike source_grid {given}: pass the right one"
        )
    if given is not None:
        return given
    if format_name == "deit":
        if side * side == patches:
            return side, side
    elif patches == AUDIOSET_GRID[0] * AUDIOSET_GRID[1]:
        return AUDIOSET_GRID
    elif patches == rows * columns:
        return rows, columns
    elif rows == AUDIOSET_GRID[0] and patches % rows == 0:  # another duration of the same 128 mels
        return rows, patches // rows
    raise CheckpointError(
        f"{source}: 'pos_embed' has {patches} patches of unknown layout: pass source_grid=(rows, columns) of its model"
    )


def _adapt(
    key: str, tensor: Tensor, target: Tensor, source_grid: Grid | None, grid: Grid | None
) -> tuple[Tensor, Action]:
    """The source tensor in the target's shape where a rule allows it, otherwise as it is, for the caller to refuse."""
    shape = target.shape
    if key == "pos_embed" and source_grid and grid and source_grid != grid:
        # Two grids of the same number of patches still differ.
        return resize_position_embedding(tensor.to(target.dtype), source_grid, grid), "resized"
    if tensor.ndim == 5 and tensor.shape[2] == 1:
        tensor = tensor.squeeze(2)  # a video kernel of one frame, FAIR's CHECKPOINT_SQUEEZE_TEMPORAL
    if key == "patch_embed.proj.weight" and tensor.ndim == 4 and tensor.shape[1] == 3 and shape[1] == 1:
        return tensor.to(target.dtype).sum(dim=1, keepdim=True), "summed channels"
    is_table = key.endswith((".rel_pos_freq", ".rel_pos_time")) and tensor.ndim == 2
    if is_table and len(tensor) != len(target):
        return resize_relative_positions(tensor.to(target.dtype), len(target)), "resized"
    return tensor, "matched"


# --- Loading into a model --------------------------------------------------------------------------------------------


def load_pretrained(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], *, source_grid: Grid | None = None
) -> LoadReport:
    """Load published weights, or ours, into a model built by `create_model`.

    Three-channel patch kernels are summed to one channel, position tables are resized to the model's input size, and
    the classifier is kept where heads and classes are the source's; otherwise the model keeps the whole one that it
    was built with, LayerNorm included, as in AST's own code. DeiT's two classifiers are dropped. All else must fit.

    Args:
        model: an AST or MAST; untouched if this raises.
        source: a file, see `read_state_dict`, or a state dict.
        source_grid: patches (frequency, time) that an AST position embedding stands for, where that is not known:
            DeiT's is square, published AST's 12 x 101, and our own checkpoints say.

    Raises:
        CheckpointError: unreadable file, unknown format, weights of the other model, or a missing, surplus,
            mis-shaped or non-finite tensor, which is named.
    """
    if isinstance(source, Mapping):
        return _load(model, _strip_data_parallel(source), "state dict", None, source_grid)
    state_dict, sha256 = read_state_dict(source)
    description = _read_description(Path(source))
    if description and source_grid is None and description["model_name"].startswith("ast_"):
        source_grid = ASTConfig(**description["config"]).grid
    return _load(model, state_dict, str(source), sha256, source_grid)


def _load(
    model: nn.Module, state_dict: Mapping[str, Tensor], source: str, sha256: str | None, source_grid: Grid | None
) -> LoadReport:
    if not isinstance(model, (AST, MAST)):
        raise CheckpointError(f"{source}: cannot load into a {type(model).__name__}: build the model with create_model")
    name = detect_format(state_dict, source)
    _check_family(state_dict, name, model, source)
    renamed, dropped = _rename_all(state_dict, _FORMATS[name], model, source)
    targets = model.state_dict()
    if isinstance(model, MAST) and source_grid is not None:
        raise CheckpointError(f"{source}: source_grid is for AST, MAST's tables need none: leave it out")
    initialised = _settle_head(renamed, dropped, targets, _required_head(name, state_dict, model), source)
    if isinstance(model, MAST) and model.cls_token is not None and "cls_token" not in renamed:
        initialised.append("cls_token")  # IN-1K MViTv2 has none
    _check_keys(renamed, targets, initialised, model, source)
    grid = None
    if isinstance(model, AST):
        grid = model.config.grid
        source_grid = _position_grid(renamed["pos_embed"].tensor, name, model, source_grid, source)

    entries, values = [], {key: targets[key] for key in initialised}
    for key, target in targets.items():
        if key in values:
            entries.append(KeyReport(key, (), "initialised", None, tuple(target.shape)))
            continue
        found = renamed[key]
        value, action = _adapt(key, found.tensor, target, source_grid, grid)
        _check_tensor(found, value, target, source)
        values[key] = value
        entries.append(KeyReport(key, found.source_keys, action, tuple(found.tensor.shape), tuple(target.shape)))
    entries += [KeyReport(None, (key,), "dropped by rule", tuple(state_dict[key].shape), None) for key in dropped]
    model.load_state_dict(values, strict=True)
    return LoadReport(tuple(entries), source, name, sha256)


def _check_family(state_dict: Mapping[str, Tensor], name: str, model: Model, source: str) -> None:
    family = _FORMATS[name].family
    if family is None:
        family = MAST if any(key.endswith(".rel_pos_freq") for key in state_dict) else AST
    if not isinstance(model, family):
        fits = family.__name__
        raise CheckpointError(
            f"{source}: {name} weights fit {fits}, not {type(model).__name__}: "
            f"build one of the {fits.lower()}_* models, or give other weights"
        )


def _required_head(name: str, state_dict: Mapping[str, Tensor], model: Model) -> tuple[str, ...]:
    """Stems of the classifier, under our names, that a complete file of this format has."""
    if name == "ast-huggingface" and not any(key.startswith(_HF_PREFIX) for key in state_dict):
        return ()  # the bare ASTModel: neither prefix nor classifier
    if name == "ours":
        heads = any(key.startswith("head.fc.") for key in state_dict)
        return (*(("head_norm",) if isinstance(model, AST) else ()), *(() if heads else ("head.fc",)))
    return _FORMATS[name].head


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
    stems = {key.rpartition(".")[0] for key in theirs} | set(required)
    missing = sorted({f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")} - set(theirs))
    if missing:
        raise CheckpointError(f"{source}: nothing stands for {_listed(missing)}: get the whole file")
    for stem in stems:
        weight, bias = renamed[f"{stem}.weight"], renamed[f"{stem}.bias"]
        if bias.tensor.ndim != 1 or bias.tensor.shape != weight.tensor.shape[:1]:
            shapes = f"{tuple(weight.tensor.shape)} and {tuple(bias.tensor.shape)}"
            keys = _listed(weight.source_keys + bias.source_keys)
            raise CheckpointError(f"{source}: {keys} have shapes {shapes}: get the file again")
    if set(ours) == set(theirs) and all(renamed[key].tensor.shape[0] == targets[key].shape[0] for key in ours):
        return []
    for key in theirs:
        dropped += renamed.pop(key).source_keys
    return ours


def _check_keys(
    renamed: Mapping[str, _Renamed], targets: Mapping[str, Tensor], initialised: list[str], model: Model, source: str
) -> None:
    surplus = [found.source_keys[0] for key, found in renamed.items() if key not in targets]
    missing = [key for key in targets if key not in renamed and key not in initialised]
    if surplus == ["cls_token"] and isinstance(model, MAST):
        raise CheckpointError(f"{source}: has 'cls_token', the model has none: build the model with cls_token=True")
    faults = [f"surplus {_listed(surplus)}"] if surplus else []
    faults += [f"nothing stands for {_listed(missing)}"] if missing else []
    if faults:
        raise CheckpointError(f"{source}: {'; '.join(faults)}: build the weights' depth, or get the whole file")


def _check_tensor(found: _Renamed, value: Tensor, target: Tensor, source: str) -> None:
    name = _listed(found.source_keys)
    if value.shape != target.shape:
        shapes = f"{tuple(found.tensor.shape)}, the model needs {tuple(target.shape)}"
        raise CheckpointError(f"{source}: {name} is {shapes}: build the model with the sizes of the weights")
    if not value.is_floating_point():
        raise CheckpointError(f"{source}: {name} is {value.dtype}, not floating point: give unquantised weights")
    if not value.isfinite().all():
        raise CheckpointError(f"{source}: {name} holds NaN or infinity: get the file again")


# --- Published weights by name ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedWeights:
    """A file on the Hugging Face hub, and where else to get these weights by hand."""

    repo_id: str
    url: str
    filename: str = "model.safetensors"


PUBLISHED: dict[tuple[str, type[nn.Module]], PublishedWeights] = {
    ("imagenet", AST): PublishedWeights(
        "timm/deit_base_distilled_patch16_384.fb_in1k",
        "https://dl.fbaipublicfiles.com/deit/deit_base_distilled_patch16_384-d0272ac0.pth",
    ),
    ("imagenet", MAST): PublishedWeights(
        "timm/mvitv2_base.fb_in1k", "https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_B_in1k.pyth"
    ),
    ("audioset", AST): PublishedWeights(
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        "https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593/resolve/main/model.safetensors",
    ),
}
BASE_FIELDS = {  # what must be the base preset's for the published tensors to fit
    AST: ("embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size"),
    MAST: ("embed_dim", "depths", "num_heads", "mlp_ratio"),
}


def load_by_name(model: nn.Module, name: str) -> LoadReport:
    """Load "imagenet" (DeiT-B or MViTv2-B) or "audioset" (AST alone) weights, downloaded once into the hub's cache.

    Raises:
        CheckpointError: no such weights for this model or its width, or no way to download them; and as
            `load_pretrained`.
    """
    if not isinstance(model, (AST, MAST)):
        raise CheckpointError(f"{name}: cannot load into a {type(model).__name__}: build the model with create_model")
    family = type(model)
    published = PUBLISHED.get((name, family))
    if published is None:
        known = _listed(known for known, of in PUBLISHED if of is family)
        raise CheckpointError(f"{name}: no such published weights for {family.__name__}: use {known}, or a path")
    base = ASTConfig() if isinstance(model, AST) else MASTConfig()
    for field in BASE_FIELDS[family]:
        has, needs = getattr(model.config, field), getattr(base, field)
        if has != needs:
            preset = f"{family.__name__.lower()}_base"
            raise CheckpointError(
                f"{name}: the weights have {field} {needs}, the model {has}: use {preset} or no weights"
            )
    return load_pretrained(model, download(published))


def download(published: PublishedWeights) -> Path:
    """Path of the file in the hub's cache, downloaded if it is not there yet."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(published.repo_id, published.filename))
    except OSError as error:  # the hub's own errors derive from it
        raise CheckpointError(
            f"{published.repo_id}: cannot download {published.filename} ({_first_line(error)}): "
            f"fetch {published.url} elsewhere and pass its path (--weights PATH)"
        ) from error


# --- Our own checkpoints ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model and everything needed to use it, as `save_checkpoint` was given it.

    Args:
        model: in evaluation mode, on the CPU.
        name: the preset that built it.
        config: the model's config.
        front_end: how waveforms became its input, normalisation included.
        labels: class names of every head, in the order of the logits.
        multilabel: sigmoid per class (True) or softmax over classes.
        metadata: what else was saved.
        report: what the load did.
    """

    model: Model
    name: str
    config: ASTConfig | MASTConfig
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
) -> None:
    """Write weights and description to one .safetensors file, whole or not at all.

    Args:
        path: must end in .safetensors; an existing file is replaced.
        model: an AST or MAST.
        model_name: the preset that built it, so that `create_model(model_name, **config)` rebuilds it.
        front_end: parameters of the spectrogram, normalisation included; plain JSON values.
        labels: class names for every head; a model with one unnamed head takes one entry of any name.
        multilabel: whether a clip can have several labels.
        extra: more plain JSON values to keep, such as the record's key.

    Raises:
        CheckpointError: a description that does not fit the model or is not JSON.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: our checkpoints are safetensors: end the name in .safetensors")
    if not isinstance(model, (AST, MAST)):
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
        raise CheckpointError(f"{path}: not JSON ({_first_line(error)}): describe with plain finite values") from error
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata={METADATA_KEY: text})
        os.replace(part, path)
    except SafetensorError as error:  # a full disk, too
        raise CheckpointError(f"{path}: cannot be written ({_first_line(error)}): free space") from error
    finally:
        part.unlink(missing_ok=True)


def _check_name(path: Path, model: Model, model_name: str) -> None:
    if model_name not in list_models():
        raise CheckpointError(f"{path}: unknown model {model_name!r}: give the name passed to create_model")
    if not model_name.startswith(f"{type(model).__name__.lower()}_"):
        raise CheckpointError(f"{path}: {model_name!r} builds no {type(model).__name__}: give the model's own preset")


def _check_labels(path: Path, num_classes: int | Mapping[str, int], labels: Mapping[str, list[str]]) -> None:
    if isinstance(num_classes, int):
        if len(labels) != 1:
            raise CheckpointError(f"{path}: the model has one head, labels name {len(labels)}: give one entry")
        num_classes = {next(iter(labels)): num_classes}
    if set(labels) != set(num_classes):
        raise CheckpointError(f"{path}: labels of {_listed(labels)} for heads {_listed(num_classes)}: name every head")
    for head, names in labels.items():
        if len(names) != num_classes[head]:
            raise CheckpointError(
                f"{path}: head {head!r} has {num_classes[head]} classes and {len(names)} labels: give one label a class"
            )


def _read_description(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote beside the weights, None if the file is not one of ours."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    description = json.loads(text)
    if description["format_version"] != FORMAT_VERSION:
        version = description["format_version"]
        raise CheckpointError(f"{path}: format {version}, this version reads {FORMAT_VERSION}: update the installation")
    return description


def load_checkpoint(path: str | Path, *, input_size: tuple[int, int] | None = None) -> LoadedCheckpoint:
    """Rebuild the model that `save_checkpoint` wrote, with its front end and labels.

    Args:
        path: a file of ours; published weights go through `load_pretrained`.
        input_size: another (mels, frames); positions are then resized as for pretrained weights.

    Raises:
        CheckpointError: not one of our files, or one that does not fit its own description.
    """
    path = Path(path)
    state_dict, sha256 = read_state_dict(path)
    description = _read_description(path)
    if description is None:
        raise CheckpointError(f"{path}: does not describe its model: load it as pretrained weights (--weights {path})")
    name, config = description["model_name"], description["config"]
    target = config if input_size is None else config | {"input_size": input_size}
    try:
        source_grid = ASTConfig(**config).grid if name.startswith("ast_") else None
        model = create_model(name, **target)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot build {name!r} ({_first_line(error)}): check input_size and version"
        ) from error
    assert isinstance(model, (AST, MAST))
    report = _load(model, state_dict, str(path), sha256, source_grid)
    allowed = {"matched"} if input_size is None else {"matched", "resized"}
    strays = [entry for entry in report.entries if entry.action not in allowed]
    if strays:
        keys = _listed(entry.key or entry.source_keys[0] for entry in strays)
        raise CheckpointError(f"{path}: {keys} do not fit the file's own description: it was altered, save it again")
    return LoadedCheckpoint(
        model=model.eval(),
        name=name,
        config=model.config,
        front_end=description["front_end"],
        labels=description["labels"],
        multilabel=description["multilabel"],
        metadata=description["extra"],
        report=report,
    )


def weights_sha256(model: nn.Module) -> str:
    """Hash of the weights alone (names, dtypes, shapes and bytes, in order of name), whatever the file or device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
