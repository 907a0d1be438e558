"""Describe this computer and this code for records. No torch here."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

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
CODE = Path(__file__).resolve().parent
CPUINFO = Path("/proc/cpuinfo")
MAX_WORKERS = 8
# Instruction sets that determine the speed of matrix products, by their names in /proc/cpuinfo on x86 and ARM.
INSTRUCTION_SETS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
    "bf16",
    "i8mm",
)
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
BUSY_CORES = 0.2  # cores that other processes may use during a benchmark
MIN_WATCH_S = 0.5  # the kernel counts processor time in ticks of 10 ms


def usable_cores() -> int:
    """Count the cores that this process may use; a scheduler can restrict it to some cores of the machine."""
    return len(_usable_cpus())


def _usable_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def reading_workers(processes: int = 1) -> int:
    """Choose the number of worker processes that read clips ahead for each of `processes` on this machine."""
    return max(1, min(MAX_WORKERS, usable_cores() // processes - 1))


def decoding_threads() -> int:
    """Choose the number of decoding threads: two per core, so that one decodes while another waits for the GIL."""
    return 2 * usable_cores()


# --- the code ---


@lru_cache
def git_commit(folder: Path = CODE) -> str | None:
    """Return the commit of the checkout that contains `folder`; None outside a checkout.

    The suffix "+changes" means that tracked files other than records differ from the commit; runs append to records.
    """
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(
            folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)reports/records"
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return library -> version of the installed ones of `names`."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


# --- the processor and its memory ---


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; empty on other systems."""
    if not CPUINFO.exists():
        return {}
    first = CPUINFO.read_text().split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


_IDENTITY = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
_NUMBER = re.compile(r"\b\d\w*\d\d")  # of a model: 8370C, 9654, 7R13; not v4, 2.5+ or 13th


def cpu_name() -> str:
    """Return the processor's name, with family, model and stepping where it has no number: see `processor_name`."""
    return processor_name(processor())


def processor() -> str:
    """Return the model name from the system, followed by vendor, family, model and stepping on Linux."""
    info = _cpuinfo()
    name = info.get("model name") or _brand() or platform.processor() or platform.machine()
    parts = [info[key] if key == "vendor_id" else f"{key} {info[key]}" for key in _IDENTITY if key in info]
    return f"{name} ({', '.join(parts)})" if parts else name


def _brand() -> str:
    """The processor's name on macOS, where Python knows only "arm" or "i386"; empty elsewhere."""
    if platform.system() != "Darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def processor_name(full: str) -> str:
    """Shorten what `processor` returned: "Intel Xeon Platinum 8370C", "AMD EPYC (family 25, model 17, stepping 1)".

    Virtual machines leave the number out of the model name, and most ARM kernels tell no name: then what identifies
    the processor stays, and the clock if the name has it.
    """
    name, _, identity = full.removesuffix(")").rpartition(" (")
    if not name or not re.search(r"\b(model|part) ", identity):
        return _plain(full)
    name = _plain(name)
    if _NUMBER.search(name.partition(" @ ")[0]):
        return name.partition(" @ ")[0]
    parts = [part.removeprefix("cpu ").removeprefix("CPU ") for part in identity.split(", ")]
    kept = [part for part in parts if part.startswith(("family ", "model ", "stepping ", "implementer ", "part "))]
    return f"{name} ({', '.join(kept)})"


def _plain(name: str) -> str:
    """The name without marks and words that every processor has."""
    return re.sub(r"\((R|TM)\)|(?<=[)\w]) CPU(?= @| version)| Processor\b| \d+-Core\b", "", name)


def instruction_sets() -> list[str]:
    """Return those of INSTRUCTION_SETS that the processor has; empty where the system does not list them."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [name for name in INSTRUCTION_SETS if name in flags]


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 natively; otherwise torch converts operands and is slower."""
    return bool(set(BFLOAT16_INSTRUCTIONS) & set(instruction_sets()))


def available_memory_bytes() -> int | None:
    """Return the bytes that can be allocated without swapping, file cache included; None where unknown.

    In a container or a scheduler's job the limit of the job applies.
    """
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    sizes_kib = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(sizes_kib["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (maximum := limit.read_text().strip()) != "max":
        available = min(available, max(0, int(maximum) - int(used.read_text())))
    return available


def describe_machine() -> dict[str, Any]:
    """Return facts of the machine and the code as JSON values. Memory is in bytes, the load average in processes."""
    import psutil

    return {
        "processor": processor(),
        "instruction_sets": instruction_sets(),
        "cpu_count": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "libraries": library_versions(),
        "commit": git_commit(),
    }


# --- other processes ---


@dataclass(frozen=True)
class CpuTimes:
    """Processor time used up to one moment.

    Args:
        wall_s: seconds of a monotonic clock at that moment.
        busy_s: seconds of processor time on the usable cores, of all processes and of the hypervisor.
        process_s: seconds of processor time of this process and its finished children.
    """

    wall_s: float
    busy_s: float
    process_s: float

    def other_cores_since(self, start: CpuTimes) -> float:
        """Return the mean number of cores that other processes kept busy since `start`."""
        other_s = (self.busy_s - start.busy_s) - (self.process_s - start.process_s)
        return max(0.0, other_s / (self.wall_s - start.wall_s))


def cpu_times() -> CpuTimes:
    """Read the processor times of this moment."""
    import psutil

    used = ("user", "nice", "system", "irq", "softirq", "steal")  # "guest" is part of "user"
    usable = _usable_cpus()
    cores = [times for number, times in enumerate(psutil.cpu_times(percpu=True)) if number in usable]
    busy_s = sum(getattr(times, name, 0.0) for times in cores for name in used)
    return CpuTimes(time.monotonic(), busy_s, sum(os.times()[:4]))


class LoadWatch:
    """Watch how much processor time other processes use while a benchmark runs."""

    def __init__(self) -> None:
        self._start = cpu_times()

    def conditions(self) -> dict[str, Any]:
        """Return "other_cores" since construction and "busy", whether they exceed BUSY_CORES, for a record."""
        elapsed_s = time.monotonic() - self._start.wall_s
        if elapsed_s < MIN_WATCH_S:
            time.sleep(MIN_WATCH_S - elapsed_s)
        cores = round(cpu_times().other_cores_since(self._start), 2)
        return {"other_cores": cores, "busy": cores > BUSY_CORES}
