"""Peak memory of a call, and calls that run out of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from reproduce.machine import available_memory_bytes

OUT_OF_MEMORY = "out of memory"
_LINUX = sys.platform == "linux"
_CPU_ALLOCATOR = "DefaultCPUAllocator"  # torch raises a plain RuntimeError that names it


def added_memory(call: Callable[[], object], device: str) -> int | None:
    """Measure the bytes that one call adds, at its peak, to what was allocated before it.

    CUDA: the peak of torch's allocator. CPU on Linux: the peak of resident memory, which a process can reset. Freed
    memory is returned to the system first; otherwise the call would reuse it and appear to need less.

    Returns:
        Bytes; None on systems that do not report a process's peak memory.
    """
    kind = torch.device(device).type
    free_memory(device)
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if kind == "cpu" and _LINUX and _reset_peak_resident():
        before = _status_bytes("VmRSS")
        call()
        return max(0, _status_bytes("VmHWM") - before)
    call()
    return None


def free_memory(device: str) -> None:
    """Collect garbage and return freed memory to the system or to the device."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    elif _LINUX:
        with contextlib.suppress(AttributeError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


def _reset_peak_resident() -> bool:
    """Set VmHWM back to VmRSS (proc(5), clear_refs); return False where the kernel forbids it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(f"/proc/self/status has no {name}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _CPU_ALLOCATOR in str(error)


@contextlib.contextmanager
def bounded_memory(device: str, available_bytes: int | None = None) -> Iterator[None]:
    """Make allocations beyond the free memory fail; otherwise Linux grants them and later kills the process.

    Args:
        device: only a CPU is bounded; GPUs refuse such allocations themselves.
        available_bytes: memory that may be added; the free memory of this moment unless given.
    """
    available = available_memory_bytes() if available_bytes is None else available_bytes
    if torch.device(device).type != "cpu" or not _LINUX or available is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceilings = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([_status_bytes("VmData") + available, *ceilings]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
