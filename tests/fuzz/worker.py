"""A process that makes inputs and tries them one after another, within bounds of memory.

Run by `fuzz.runner`, which ends it when an input takes too long. It reports by JSON lines on its standard output; what
the code under test prints goes to the log file.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from fuzz.finite import NotFinite, check_finite
from fuzz.job import Job
from fuzz.kind import Kind
from fuzz.outcomes import CLEAR, READ, WRONG

from reproduce.errors import InputError

LONGEST_MESSAGE = 3000  # characters: a line that a person can read
HEADROOM = 2  # the address space is bounded by this multiple of the limit of resident memory


def kind_of(name: str) -> Kind:
    """The Kind that "MODULE:NAME" names."""
    module, _, attribute = name.partition(":")
    kind: Kind = getattr(importlib.import_module(module), attribute)
    return kind


def main() -> None:
    """Do the job that the first argument describes."""
    job = Job.from_json(sys.argv[1])
    warnings.simplefilter("ignore")
    report = _take_over_output(Path(job.work) / "log.txt")
    for part in job.parts:
        _bound_address_space(None)  # what the next kind imports may need much
        kind, folder = kind_of(part.target), Path(job.work) / part.name
        seeds, case = folder / "seeds", folder / "case"
        _prepare(kind, seeds)
        _bound_address_space(HEADROOM * job.memory_mib << 20)
        for number in range(part.first, part.stop):
            if not job.saved:
                _remove(case)
                case.mkdir()
                kind.mutate(seeds, case, np.random.default_rng([job.seed, crc32(part.name.encode()), number]))
            report({"kind": part.name, "start": number})
            outcome = _try(kind, Path(job.saved) if job.saved else case, seeds, job.memory_mib)
            if outcome["what"] == WRONG and not job.saved:
                case.rename(folder / f"{WRONG}-{number}")  # out of the way of the next input, for `runner` to keep
            report({"end": number, "detail": "", **outcome})
    report({"finished": True})


def _prepare(kind: Kind, seeds: Path) -> None:
    """Write the seeds where no earlier worker did, and load what the runs share."""
    if not (seeds / "complete").exists():
        shutil.rmtree(seeds, ignore_errors=True)
        seeds.mkdir(parents=True)
        kind.prepare(seeds)
        (seeds / "complete").touch()
    kind.warm_up(seeds)


def _take_over_output(log: Path) -> Callable[[Mapping[str, Any]], None]:
    """Send all output to a log, also that of C libraries; returns what writes a line to the true output."""
    out = os.fdopen(os.dup(1), "w")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)

    def report(values: Mapping[str, Any]) -> None:
        out.write(json.dumps(values) + "\n")
        out.flush()

    return report


def _remove(folder: Path) -> None:
    if folder.exists():
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


def _try(kind: Kind, case: Path, seeds: Path, memory_mib: int) -> dict[str, str]:
    before = _start_of_peak()
    try:
        check_finite(kind.run(case, seeds))
        outcome = {"what": READ}
    except InputError as error:
        outcome = _judge_message(str(error))
    except BaseException as error:  # whatever else comes out of the code under test is what this harness looks for
        outcome = {"what": WRONG, "detail": describe(error)}
    grown_mib = (_status_kib("VmHWM") - before) / 1024
    if grown_mib > memory_mib:
        return {"what": WRONG, "detail": f"memory: {grown_mib:.0f} MiB"}
    return outcome


def _judge_message(message: str) -> dict[str, str]:
    if not message.strip() or not message.isprintable() or len(message) > LONGEST_MESSAGE:
        return {"what": WRONG, "detail": f"message: {message[:300]!r}"}
    return {"what": CLEAR, "detail": message}


def describe(error: BaseException) -> str:
    """An exception in one line, with the last line of ours that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/reproduce/" in f.filename or "/models/" in f.filename or "/reports/" in f.filename]
    at = f" at {'/'.join(Path(ours[-1].filename).parts[-2:])}:{ours[-1].lineno}" if ours else ""
    if isinstance(error, NotFinite):
        return f"NaN: {error}"
    return f"traceback: {type(error).__name__}: {str(error)[:300]!r}{at}"


def _bound_address_space(further_bytes: int | None) -> None:
    """Bound the memory that can be asked for to what is in use and `further_bytes`; None lifts the bound."""
    unlimited = resource.RLIM_INFINITY
    bound = unlimited if further_bytes is None else _status_kib("VmSize") * 1024 + further_bytes
    resource.setrlimit(resource.RLIMIT_AS, (bound, unlimited))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _start_of_peak() -> int:
    """Forget the peak of resident memory so far; returns what is resident, in KiB."""
    with suppress(OSError):  # then the peak is that of all inputs so far
        Path("/proc/self/clear_refs").write_text("5")
    return _status_kib("VmRSS")


def _status_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


if __name__ == "__main__":
    main()
