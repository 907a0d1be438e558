"""The conditions of a measurement, as a plain dict that every record carries. Imports torch only when asked."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

LIBRARIES = (
    "torch",
    "torchaudio",
    "timm",
    "transformers",
    "numpy",
    "safetensors",
    "soundfile",
    "soxr",
    "fvcore",
    "ptflops",
)

MOST_WORKERS = 8


def choose_device(name: str = "auto") -> str:
    """`auto` is the first GPU if there is one, else the CPU; anything else is taken as torch names it.

    Raises:
        InputError: the device is not on this machine.
    """

    from reproduce.errors import InputError

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
    """Wait until the device has finished its work, so that a clock read next includes it."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


def usable_cores() -> int:
    """Cores that this process may use; a scheduler may have given it a part of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reading_workers(processes: int = 1) -> int:
    """How many processes should read clips ahead for each of `processes` on this machine."""
    return max(1, min(MOST_WORKERS, usable_cores() // processes - 1))


def decoding_threads() -> int:
    """How many threads should decode: two a core, so that one decodes while another waits for the interpreter."""
    return 2 * usable_cores()


@lru_cache
def git_commit() -> str | None:
    """Commit of this code, with "+changes" where the tree differs from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        # Records are what runs append to: they do not make the code another.
        changed = _git(
            folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)reports/records"
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def cpu_name() -> str:
    """The processor's model name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def describe_environment(device: str, precision: str = "float32") -> dict[str, Any]:
    """Device, threads, library versions, precision and commit, JSON-ready."""

    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "device_type": torch.device(device).type,
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "precision": precision,
        "tf32": bool(cuda and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)),
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "commit": git_commit(),
    }


def available_memory_bytes() -> int | None:
    """Memory that can be had without swapping, the file cache included; None where the system does not say.

    Inside a container or a scheduler's job it is that of the job.
    """
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    sizes_kib = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(sizes_kib["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        available = min(available, max(0, int(most) - int(used.read_text())))
    return available
