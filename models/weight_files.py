"""Read weight files on the CPU without running code from them."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TORCH_SUFFIXES = (".pth", ".pt", ".pyth", ".bin")
WRAPPERS = ("model", "model_state", "state_dict")  # DeiT's, FAIR's and timm's name for the weights in a training file
# What torch, its unpickler, zipfile and safetensors raise for damaged files, besides errors of their types.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    ImportError,
    struct.error,
    zipfile.BadZipFile,
)


class CheckpointError(ValueError):
    """Weights that cannot be used. The message is one line that names the file, the key and the remedy."""


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], str]:
    """Read weights from .safetensors or a torch file (.pth, .pt, .pyth, .bin).

    The state dict may be wrapped as in `WRAPPERS`. DataParallel's "module." prefix is removed.

    Returns:
        The state dict and the sha256 of the file.

    Raises:
        CheckpointError: the file is missing, empty, damaged or of another kind, has an optimiser's state, or pickled
            code.
    """
    path = Path(path)
    check_file(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if {"state", "param_groups"} <= set(content):
        raise CheckpointError(f"{path}: is the state of an optimiser, not of a model: give the file with the weights")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    foreign = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if foreign or not content:
        reason = f"{listed(foreign)} is no tensor" if foreign else "it is empty"
        raise CheckpointError(f"{path}: is not a state dict ({reason}): give a file with a model's weights")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return strip_data_parallel(content), sha256


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a .safetensors file; other files have none.

    Raises:
        CheckpointError: the file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, *DAMAGE) as error:
        raise _damaged(path, error) from error


def check_file(path: Path) -> None:
    """Raise CheckpointError for a file that cannot contain weights, by its name and its first bytes."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder: name the weights in it, such as {path / 'model.safetensors'}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: check the path, or download the weights first")
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise CheckpointError(f"{path}: unknown suffix: give one of .safetensors, {', '.join(TORCH_SUFFIXES)}")
    if "optim" in path.stem and ("state" in path.stem or "optimizer" in path.stem):
        # AST's recipe writes best_optim_state.pth beside best_audio_model.pth.
        raise CheckpointError(f"{path}: is the state of an optimiser, not of a model: give the file with the weights")
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
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
    except (SafetensorError, *DAMAGE) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd pickle protocols in damaged files
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # torch names the callable that the pickle asked for
            raise CheckpointError(
                f"{path}: contains pickled code, which is never run: have its author give the state dict alone"
            ) from error
        raise CheckpointError(f"{path}: corrupt or not a torch file: download or copy it again") from error
    except DAMAGE as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: contains a {type(content).__name__}: give a file with a model's state dict")
    return content


def strip_data_parallel(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove "module." from the keys if all have it."""
    prefix = "module."
    if all(key.startswith(prefix) for key in state_dict):
        return {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}
    return dict(state_dict)


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(f"{path}: corrupt ({first_line(error)}): download or copy it again")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def listed(keys: Iterable[str], limit: int = 4) -> str:
    """Keys in quotes, at most `limit` of them."""
    names = list(keys)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more
