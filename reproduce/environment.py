"""Choose the device of torch, and describe the conditions of a measurement for its record."""

from __future__ import annotations

import re
from typing import Any

import torch

from reproduce.errors import InputError
from reproduce.machine import cpu_name, describe_machine


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
        "tf32": bool(cuda and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)),
        "cuda": torch.version.cuda if cuda else None,
        "blas": blas_libraries(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **describe_machine(),
    }
