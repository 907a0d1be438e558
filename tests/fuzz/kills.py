"""Commands that are killed at random moments: a rerun completes, and gives what an undisturbed run gives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuzz.outcomes import CLEAR, READ, WRONG, Outcome
from fuzz.runner import TESTS, Session
from make_audio import make_esc50_folder

PATIENCE_S = 300.0  # for a command on a busy machine
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
STOPPED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}  # statuses of a killed command
CLIPS = "40"
UNCOUNTED = (".tmp", ".lock", ".torn", "lock")  # leftovers that carry no result


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A command to be killed.

    Args:
        name: in the table of counts.
        arguments: of Python, given the folder of sounds and the folder of results.
        result: of a finished command, in a form that two runs share.
    """

    name: str
    arguments: Callable[[Path, Path], list[str]]
    result: Callable[[Path], Mapping[str, str]]


def _files(out: Path) -> dict[str, str]:
    """The hash of every file."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.endswith(UNCOUNTED)
    }


def _trained(out: Path) -> dict[str, str]:
    """The hash of the weights of every record, and how many records there are."""
    lines = [json.loads(line) for line in (out / "records/train.jsonl").read_text().splitlines()]
    return {"lines": str(len(lines)), **{line["key"]: str(line["weights_sha256"]) for line in lines}}


def _train(data: Path, out: Path) -> list[str]:
    places = ["--records", str(out / "records"), "--runs", str(out / "runs")]
    options = [
        "--preset",
        "debug",
        "--folds",
        "1",
        "--device",
        "cpu",
        "--workers",
        "0",
        "--checkpoint-minutes",
        "0.0001",
    ]
    return ["-m", "reproduce", "esc50", "--data", f"esc50={data}", *options, *places]


COMMANDS = (
    Killed(name="kill train", arguments=_train, result=_trained),
    Killed(
        name="kill shard",
        arguments=lambda data, out: [
            *("-m", "reproduce", "data", "shard", "esc50", str(out), "--data", f"esc50={data}"),
            *("--clips-per-shard", "4", "--workers", "1"),
        ],
        result=_files,
    ),
    Killed(
        name="kill standin",
        arguments=lambda data, out: [
            *("-m", "reproduce", "data", "standin", "vggsound", "--clips", CLIPS, "--out", str(out)),
        ],
        result=_files,
    ),
    Killed(name="kill report", arguments=lambda data, out: ["-m", "reports", "--out", str(out)], result=_files),
)


def kill_commands(kills: int, session: Session) -> Iterator[Outcome]:
    """Kill the commands in turn, each time from the start.

    READ: the rerun gives the undisturbed result; CLEAR: the command ended before it could be killed; WRONG: the rerun
    fails or gives another result, or the killed command printed a traceback.
    """
    work = session.work / "kills"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    random = np.random.default_rng([session.seed, 9])
    data = make_esc50_folder(work / "data", per_fold=4, folds=2)
    undisturbed: dict[str, tuple[float, Mapping[str, str]]] = {}
    for number in range(kills):
        killed = COMMANDS[number % len(COMMANDS)]
        if killed.name not in undisturbed:
            out = work / killed.name.replace(" ", "-") / "undisturbed"
            done = _run(killed.arguments(data, out), work)
            if done.status:
                raise RuntimeError(f"{killed.name}: fails without a kill: {done.text[-500:]}")
            undisturbed[killed.name] = done.seconds, killed.result(out)
        seconds, expected = undisturbed[killed.name]
        after_s, with_signal = random.uniform(0.2, 1.0) * seconds, SIGNALS[int(random.integers(len(SIGNALS)))]
        out = work / killed.name.replace(" ", "-") / str(number)
        what, detail = _kill_once(killed, (data, out), (after_s, with_signal), expected)
        if what == WRONG:
            shutil.copytree(out, session.wrong / f"{killed.name.replace(' ', '-')}-{number}", dirs_exist_ok=True)
        moment = f"{with_signal.name} after {after_s:.1f} of {seconds:.1f} s"
        yield Outcome(kind=killed.name, number=number, what=what, detail=f"{moment}: {detail}")


def _kill_once(
    killed: Killed, places: tuple[Path, Path], when: tuple[float, signal.Signals], expected: Mapping[str, str]
) -> tuple[str, str]:
    data, out = places
    first = _run(killed.arguments(data, out), out.parent, when)
    if "Traceback" in first.text and first.status != -signal.SIGKILL:
        return WRONG, f"traceback of the killed command: {first.text[-300:]}"
    again = _run(killed.arguments(data, out), out.parent)
    if again.status:
        return WRONG, f"the rerun ends with status {again.status}: {again.text[-300:]}"
    result = killed.result(out)
    if result != expected:
        names = sorted({*result.items()} ^ {*expected.items()})[:4]
        return WRONG, f"the rerun differs: {names}"
    if first.status not in STOPPED:
        return CLEAR, f"it had ended with status {first.status}"
    return READ, "the rerun gives the undisturbed result"


@dataclass(frozen=True)
class Done:
    """An ended command: its status, a signal's negative; all it printed; and how long it took."""

    status: int
    text: str
    seconds: float


def _run(arguments: list[str], cwd: Path, when: tuple[float, signal.Signals] | None = None) -> Done:
    """Run Python on a command, at most for PATIENCE_S; send it a signal after some seconds."""
    cwd.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join(filter(None, (str(TESTS.parent), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    log = cwd / "output.txt"
    start = time.monotonic()
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=TESTS.parent, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            if when is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(when[0])
                process.send_signal(when[1])  # nothing where it has ended
            process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return Done(process.returncode, log.read_text(errors="replace"), time.monotonic() - start)
