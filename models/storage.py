"""How a checkpoint file stores numbers: as they are, in 16 bits, or in 8 bits with a scale per row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.weight_files import CheckpointError

STORAGES = ("float32", "float16", "int8")
SCALE = ".scale"  # suffix of the key of a matrix' scales
LARGEST = 127.0


def stored(tensors: Mapping[str, Tensor], storage: str) -> dict[str, Tensor]:
    """Return the tensors as the file holds them.

    Args:
        tensors: float32 weights, and the whole numbers that batch normalisation counts, which stay as they are.
        storage: "float32" (unchanged), "float16", or "int8": matrices and filters in 8 bits with a float16 scale for
            each element of their first dimension, under the key + ".scale"; all other tensors in float16.

    Raises:
        CheckpointError: another name of a storage.
    """
    if storage not in STORAGES:
        raise CheckpointError(f"there is no storage {storage!r}: choose one of {', '.join(STORAGES)}")
    if storage == "float32":
        return dict(tensors)
    files: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            files[key] = tensor
        elif storage == "int8" and tensor.ndim > 1 and len(tensor) > 1:
            rows = tensor.flatten(1)
            scale = (rows.abs().amax(dim=1) / LARGEST).clamp(min=torch.finfo(torch.float16).tiny).half()
            files[key] = (rows / scale.float().unsqueeze(1)).round().clamp(-LARGEST, LARGEST).char().view(tensor.shape)
            files[key + SCALE] = scale
        else:
            files[key] = tensor.half()
    return files


def restored(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the weights that `stored` was given, up to rounding: 8-bit ones in float32, others as they are.

    Args:
        tensors: contents of a file.
        name: of the file, for messages.

    Raises:
        CheckpointError: 8-bit numbers without the scales of their rows.
    """
    weights = {}
    for key, tensor in tensors.items():
        if key.endswith(SCALE) and key.removesuffix(SCALE) in tensors:
            continue
        if tensor.dtype == torch.int8:
            scale = tensors.get(key + SCALE)
            if scale is None or not tensor.ndim or scale.shape != tensor.shape[:1] or not scale.is_floating_point():
                raise CheckpointError(f"{name}: {key!r} has no scale for each row: get the whole file")
            tensor = (tensor.flatten(1).float() * scale.float().unsqueeze(1)).view(tensor.shape)
        weights[key] = tensor
    return weights
