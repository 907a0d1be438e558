"""Runs workers over all inputs of a kind; ends one that hangs, goes on behind one that crashed, keeps wrong inputs."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from fuzz.outcomes import WRONG, Outcome
from fuzz.worker import Job

TESTS = Path(__file__).resolve().parents[1]
START_S = 300.0  # for imports and seeds on a busy machine
PER_WORKER = 1000  # inputs; then a fresh process
LOOK_S = 0.2  # between looks at a worker that is silent
ENDING_S = 30.0  # for a worker that has closed its output
DONE = -1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one input.

    Args:
        seconds: of wall time.
        memory_mib: of resident memory beyond what the worker has before.
    """

    seconds: float = 10.0
    memory_mib: int = 1024


@dataclass(frozen=True, kw_only=True)
class Session:
    """One run of the fuzzer.

    Args:
        seed: of all draws: the same seed and numbers give the same inputs.
        work: folder for seeds and inputs in progress.
        wrong: folder that keeps wrong inputs.
        limits: see there.
    """

    seed: int
    work: Path
    wrong: Path
    limits: Limits = Limits()


def try_inputs(kind: str, name: str, first: int, stop: int, session: Session) -> Iterator[Outcome]:
    """The outcomes of inputs `first` to `stop` of a kind, in order.

    Args:
        kind: "MODULE:NAME" of the Kind.
        name: of the kind, for the outcomes.
        first: number of the first input.
        stop: number behind the last.
        session: see there.
    """
    while first < stop:
        job = Job(
            kind=kind,
            seed=session.seed,
            first=first,
            stop=min(stop, first + PER_WORKER),
            work=str(session.work / name),
            memory_mib=session.limits.memory_mib,
        )
        for outcome in _run_worker(job, name, session.limits):
            if outcome.what == WRONG and outcome.detail == "hang" and _was_busy(job, outcome, session):
                outcome = replace(outcome, what="clear", detail="slow once, and in time when tried again")
            if outcome.what == WRONG:
                _keep(kind, outcome, session)
            first = outcome.number + 1
            yield outcome


def try_saved(kind: str, name: str, folder: Path, session: Session) -> Outcome:
    """The outcome of an input that was saved by an earlier run."""
    job = Job(
        kind=kind,
        seed=session.seed,
        first=0,
        stop=1,
        work=str(session.work / name),
        memory_mib=session.limits.memory_mib,
        saved=str(folder.resolve()),
    )
    (outcome,) = _run_worker(job, name, session.limits)
    return outcome


def _was_busy(job: Job, outcome: Outcome, session: Session) -> bool:
    """Whether an input that took too long is in time when it is tried alone."""
    alone = replace(job, first=outcome.number, stop=outcome.number + 1)
    (again,) = _run_worker(alone, outcome.kind, session.limits)
    return again.what != WRONG


def _run_worker(job: Job, name: str, limits: Limits) -> Iterator[Outcome]:
    """Outcomes up to the job's end, or up to the input at which the worker ended; one that the worker fails to start
    raises RuntimeError."""
    Path(job.work).mkdir(parents=True, exist_ok=True)
    worker = subprocess.Popen(
        [sys.executable, "-m", "fuzz.worker", job.to_json()],
        stdout=subprocess.PIPE,
        env=_environment(),
        cwd=job.work,
        start_new_session=True,
    )
    assert worker.stdout is not None
    current: int | None = None
    ended = False
    try:
        for message in _messages(worker.stdout, limits):
            if message is None:
                if current is None:
                    raise RuntimeError(f"the worker of {name} did not start in time, see {job.work}/log.txt")
                yield Outcome(kind=name, number=current, what=WRONG, detail="hang")
                return
            if "start" in message:
                current = message["start"]
            elif "end" in message:
                yield Outcome(kind=name, number=message["end"], what=message["what"], detail=message.get("detail", ""))
                current = None if message["end"] + 1 < job.stop else DONE
        ended = True
    finally:
        _end(worker, ENDING_S if ended else 0.0)
    if current == DONE:
        return
    if current is None:
        raise RuntimeError(f"the worker of {name} ended with status {worker.returncode}, see {job.work}/log.txt")
    yield Outcome(kind=name, number=current, what=WRONG, detail=f"crash: {_end_name(worker.returncode)}")


def _end(worker: subprocess.Popen[bytes], patience_s: float) -> None:
    """Wait for a worker that ends by itself; end it, with what it started, where it does not."""
    with suppress(subprocess.TimeoutExpired):
        worker.wait(patience_s)
    if worker.returncode is None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def _end_name(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _messages(stream: IO[bytes], limits: Limits) -> Iterator[dict[str, Any] | None]:
    """The worker's messages; None when it has been silent for too long."""
    buffered, ready = b"", False
    deadline = time.monotonic() + START_S
    while True:
        if select.select([stream], [], [], LOOK_S)[0]:
            read = os.read(stream.fileno(), 1 << 16)
            if not read:
                return
            *lines, buffered = (buffered + read).split(b"\n")
            ready = ready or bool(lines)
            yield from map(json.loads, lines)
            deadline = time.monotonic() + (limits.seconds if ready else START_S)
        elif time.monotonic() > deadline:
            yield None
            return


def _environment() -> dict[str, str]:
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # an arena per thread would take address space
        "MALLOC_MMAP_THRESHOLD_": "1000000",
        "PYTHONFAULTHANDLER": "1",
    }


def _keep(kind: str, outcome: Outcome, session: Session) -> None:
    """Copy the input in progress, with the command that tries it again."""
    folder = session.wrong / f"{outcome.kind}-{session.seed}-{outcome.number:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    case = session.work / outcome.kind / "case"
    with suppress(OSError, shutil.Error):  # a pipe, or a name that cannot be copied: the numbers make it again
        shutil.copytree(case, folder / "input", symlinks=True)
    again = f"python -m tests.fuzz --kind {outcome.kind} --seed {session.seed} --only {outcome.number}"
    saved = f"python -m tests.fuzz --kind {outcome.kind} --saved {shlex.quote(str(folder / 'input'))}"
    (folder / "command.txt").write_text(f"{outcome.detail}\n{again}\n{saved}\n")
