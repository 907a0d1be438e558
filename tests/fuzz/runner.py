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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from fuzz.job import Job, Part
from fuzz.outcomes import CLEAR, WRONG, Outcome

TESTS = Path(__file__).resolve().parents[1]
START_S = 300.0  # for imports and seeds on a busy machine
PER_WORKER = 1000  # inputs; then a fresh process
LOOK_S = 0.2  # between looks at a worker that is silent
ENDING_S = 30.0  # for a worker that has closed its output
HANG = "hang"


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


def try_inputs(parts: Iterable[Part], session: Session) -> Iterator[Outcome]:
    """The outcomes of all inputs, in order. An input that takes too long is tried again alone before it counts."""
    left = list(parts)
    while left:
        job, left = _next_job(left, session)
        done: tuple[str, int] | None = None
        for outcome in _run_worker(job, session.limits):
            done = outcome.kind, outcome.number
            if outcome.what == WRONG and outcome.detail == HANG and _is_in_time_alone(job, outcome, session):
                outcome = replace(outcome, what=CLEAR, detail="slow once, and in time when tried again")
            if outcome.what == WRONG:
                _keep(outcome, session)
            yield outcome
        assert done is not None
        left = [*_behind(job.parts, *done), *left]


def try_saved(part: Part, folder: Path, session: Session) -> Outcome:
    """The outcome of an input of the kind of `part` that an earlier run saved."""
    job, _ = _next_job([replace(part, first=0, stop=1)], session)
    (outcome,) = _run_worker(replace(job, saved=str(folder.resolve())), session.limits)
    return outcome


def _next_job(parts: Sequence[Part], session: Session) -> tuple[Job, list[Part]]:
    """The first PER_WORKER inputs for one worker, and the parts that are left."""
    taken: list[Part] = []
    left, room = list(parts), PER_WORKER
    while left and room:
        part = left.pop(0)
        stop = min(part.stop, part.first + room)
        taken.append(replace(part, stop=stop))
        room -= stop - part.first
        if stop < part.stop:
            left.insert(0, replace(part, first=stop))
    memory_mib = session.limits.memory_mib
    return Job(parts=tuple(taken), seed=session.seed, work=str(session.work), memory_mib=memory_mib), left


def _behind(parts: Sequence[Part], name: str, number: int) -> list[Part]:
    """What is left of `parts` behind an input."""
    at = [part.name for part in parts].index(name)
    rest = replace(parts[at], first=number + 1)
    return [*([rest] if rest.first < rest.stop else []), *parts[at + 1 :]]


def _is_in_time_alone(job: Job, outcome: Outcome, session: Session) -> bool:
    (part,) = (part for part in job.parts if part.name == outcome.kind)
    alone = replace(job, parts=(replace(part, first=outcome.number, stop=outcome.number + 1),))
    (again,) = _run_worker(alone, session.limits)
    return again.what != WRONG


def _run_worker(job: Job, limits: Limits) -> Iterator[Outcome]:
    """Outcomes up to the job's end, or up to the input at which the worker ended.

    Raises:
        RuntimeError: the worker ended outside of an input: the harness is at fault.
    """
    Path(job.work).mkdir(parents=True, exist_ok=True)
    worker = subprocess.Popen(
        [sys.executable, "-m", "fuzz.worker", job.to_json()],
        stdout=subprocess.PIPE,
        env=_environment(),
        cwd=job.work,
        start_new_session=True,
    )
    assert worker.stdout is not None
    kind, current = "", None
    closed = finished = False
    try:
        for message in _messages(worker.stdout, limits):
            if message is None:
                break
            kind, finished = message.get("kind", kind), "finished" in message
            current = message.get("start")
            if "end" in message:
                yield Outcome(kind=kind, number=message["end"], what=message["what"], detail=message["detail"])
        else:
            closed = True
    finally:
        _end(worker, ENDING_S if closed else 0.0)
    if finished:
        return
    if current is None:
        said = (Path(job.work) / "log.txt").read_text(errors="replace")[-800:]
        raise RuntimeError(f"a worker ended with status {worker.returncode} outside of an input, {kind}: {said}")
    detail = f"crash: {_end_name(worker.returncode)}" if closed else HANG
    yield Outcome(kind=kind, number=current, what=WRONG, detail=detail)


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
    """The worker's messages; None when it has been silent for too long, which is longer outside of an input."""
    buffered, patience_s = b"", START_S
    deadline = time.monotonic() + patience_s
    while True:
        if select.select([stream], [], [], LOOK_S)[0]:
            read = os.read(stream.fileno(), 1 << 16)
            if not read:
                return
            *lines, buffered = (buffered + read).split(b"\n")
            for line in lines:
                message = json.loads(line)
                patience_s = limits.seconds if "start" in message else START_S
                yield message
            deadline = time.monotonic() + patience_s
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


def _keep(outcome: Outcome, session: Session) -> None:
    """Copy the input in progress, with the command that tries it again."""
    folder = session.wrong / f"{outcome.kind}-{session.seed}-{outcome.number:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    aside = session.work / outcome.kind / f"{WRONG}-{outcome.number}"
    case = aside if aside.exists() else session.work / outcome.kind / "case"  # where the worker was ended
    with suppress(OSError, shutil.Error):  # a pipe, or a name that cannot be copied: the numbers make it again
        shutil.copytree(case, folder / "input", symlinks=True)
    shutil.rmtree(aside, ignore_errors=True)
    again = f"python -m tests.fuzz --kind {outcome.kind} --seed {session.seed} --only {outcome.number}"
    saved = f"python -m tests.fuzz --kind {outcome.kind} --saved {shlex.quote(str(folder / 'input'))}"
    (folder / "command.txt").write_text(f"{outcome.detail}\n{again}\n{saved}\n")
