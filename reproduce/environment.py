"""Choose the device of torch, and describe the conditions of a measurement for its record."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from models.layers import ClassifierHead
from models.processor import ONEDNN_FLOAT32
from reproduce.errors import InputError
from reproduce.machine import cpu_name, describe_machine
from reproduce.precision import AUTO, PRECISIONS

Model = TypeVar("Model", bound=nn.Module)


def choose_device(name: str = "auto") -> str:
    """Return the torch device `name`; "auto" selects the first GPU, or the CPU if there is none.

    Raises:
        InputError: torch cannot use the device on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name} cannot be used here ({str(error).splitlines()[0]}): try --device cpu"
        ) from None
    return name


def choose_precision(name: str, device: str) -> str:
    """Return the precision of matrix products as torch and the records call it: "float32", "bfloat16" or "float16".

    "auto" is bfloat16 on a GPU that multiplies it natively, and float32 elsewhere, on CPUs with bfloat16 instructions
    too. Measured on ESC-10 (16 epochs of the demo on folds 2 to 5; Intel Xeon with avx512_bf16, without AMX), float32
    -> bfloat16:

        mast_tiny: fold 1 71.25 -> 70.00 %, 1 of all 400 clips in another class, logits differ by at most 0.040
        ast_tiny: fold 1 56.25 -> 56.25 %, 0 of all 400 clips in another class, logits differ by at most 0.011

    and bfloat16 is not faster on every such CPU: there mast_base takes 1.5 and ast_base 1.8 times as long in it (a
    forward pass, batch 1, code of November 2026), on an AMD EPYC 0.57 and 0.65 times. `pytest bench/` measures both.

    Args:
        name: "auto", or a name of PRECISIONS.
        device: as `choose_device` returned it.

    Raises:
        InputError: the device cannot compute in this precision.
    """
    on_gpu = torch.device(device).type == "cuda"
    if name == AUTO:
        return PRECISIONS["bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"]
    if name == "fp16" and not on_gpu:
        raise InputError(f"--precision fp16 needs a GPU, and the device is {device}: use bf16 or fp32")
    return PRECISIONS[name]


def set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32, float32 with 10 bits of mantissa, in the float32 products and convolutions of a GPU.

    torch forbids it in products and allows it in convolutions.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def computing_in(precision: str, device: torch.device | str) -> Iterator[None]:
    """Compute matrix products in `precision` by autocast. Weights, norms, pooled embeddings and logits stay float32.

    On a GPU, float32 means float32: TF32 is off. The narrower precisions allow it in what autocast leaves in float32.

    Args:
        precision: "float32", "bfloat16" or "float16".
        device: of the computation.
    """
    kind, narrow = torch.device(device).type, precision != PRECISIONS["fp32"]
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if kind == "cuda":
        set_tf32(narrow)
    try:
        with torch.autocast(kind, getattr(torch, precision) if narrow else None, enabled=narrow):
            yield
    finally:
        if kind == "cuda":
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


def with_weights_in(precision: str, model: Model) -> Model:
    """The model for inference in `computing_in(precision)`: for a narrow precision a copy with narrow weights.

    Autocast casts the weights of linear layers and convolutions on every call; at batch 1 this takes an eighth of the
    time of MAST in bfloat16 on a CPU with AMX. The copy holds what autocast would make of them, so its results are
    equal bit for bit. Our heads, which compute in float32, keep their weights.

    Args:
        precision: as for `computing_in`; at "float32" the model itself is returned.
        model: any; it is not changed.
    """
    dtype = getattr(torch, precision)
    if all(part.weight.dtype == dtype for part in _products(model)):
        return model
    narrow = copy.deepcopy(model)
    for part in _products(narrow):
        part.to(dtype)
    return narrow


def _products(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The layers whose products follow the precision."""
    heads = {part for head in model.modules() if isinstance(head, ClassifierHead) for part in head.modules()}
    return [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d) and part not in heads]


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has finished its work, so that a clock includes it."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


def blas_libraries() -> list[str]:
    """Return the libraries that compute torch's matrix products on a CPU, with their versions."""
    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    named = [line for line in lines if re.match(r"Intel\(R\) (oneAPI )?(Math Kernel|MKL)|OpenBLAS|ACL", line)]
    return [re.sub(r" (for Intel|\(Git Hash).*", "", line) for line in named]


def describe_environment(device: str, precision: str = "float32") -> dict[str, Any]:
    """Return device, threads, precision, libraries, machine and commit as JSON values.

    `measurement_key` uses only "device" and "torch_threads"; other fields do not change a key.

    Args:
        device: torch device.
        precision: precision of the computation.
    """
    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "device_type": torch.device(device).type,
        "torch_threads": torch.get_num_threads(),
        "precision": precision,
        "tf32": cuda and precision != PRECISIONS["fp32"],  # see `computing_in`
        "cuda": torch.version.cuda if cuda else None,
        "blas": blas_libraries(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn_float32": ONEDNN_FLOAT32 and not cuda,
        **describe_machine(),
    }
