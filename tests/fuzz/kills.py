"""Commands that are killed at one of their file operations: a rerun completes, and gives what an undisturbed run gives.

Each kill is drawn from the operations that an undisturbed run does (see `fuzz.doomed`): first the name of an operation,
so that rare ones come as often as frequent ones, then which of them. Some kills come a moment after the operation, and
some reruns are killed again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from fuzz import doomed
from fuzz.appends import APPENDS, kill_appends
from fuzz.doomed import Doom, Task
from fuzz.killed_commands import COMMANDS, TRAIN, UNCOUNTED, Killed, Places, files
from fuzz.mutators import pick
from fuzz.outcomes import CLEAR, READ, WRONG, Outcome
from fuzz.runner import TESTS, Session
from make_audio import make_esc50_folder
from numpy.random import Generator, default_rng

from reproduce.errors import InputError
from reproduce.records.store import load_records

PATIENCE_S = 600.0  # for a command on a busy machine
IN_FOLD = 12  # clips a class
STOPPED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}  # statuses of a killed command
SIGTERM_SHARE, LATER_SHARE, AGAIN_SHARE = 0.3, 0.3, 0.25
LATER_S = 0.3  # the most that a kill comes after its operation
PRELOADED = ("torch", "fuzz.doomed", "fuzz.killed_commands", "make_runs", "reproduce.training.runner", "reports.build")


def kill_commands(
    kills: int,
    session: Session,
    names: Sequence[str] = (),
    first: int = 0,
    commands: Sequence[Killed] = COMMANDS,
) -> Iterator[Outcome]:
    """Kill the commands in turn, each from the start, until `kills` kills were tried.

    READ: the rerun gives the undisturbed result; CLEAR: the command ended before it could be killed; WRONG: a file is
    half written, the rerun fails or gives another result, or the killed command printed a traceback.

    Args:
        kills: how many.
        session: see there.
        names: of what is killed; all by default.
        first: number of the first kill; the same number and seed give the same kill.
        commands: which can be killed, besides concurrent appends of records.

    Raises:
        InputError: an unknown name.
    """
    work = session.work / "kills"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shared = _Shared(work)
    known = {killed.name: killed for killed in commands}
    chosen = list(names) or [*known, *([APPENDS] if commands is COMMANDS else [])]
    if unknown := sorted({*chosen} - {*known, APPENDS}):
        raise InputError(f"--kill {', '.join(unknown)}: choose from {', '.join((*known, APPENDS))}")
    for number in range(first, first + kills):
        name, random = chosen[number % len(chosen)], default_rng([session.seed, 9, number])
        out = work / f"{number}"
        if name == APPENDS:
            what, detail = kill_appends(out, random, processes())
        else:
            what, detail = _kill_once(known[name], out, random, shared)
        if what == WRONG:
            shutil.copytree(
                out, session.wrong / f"kill-{name.replace(' ', '-')}-{session.seed}-{number}", dirs_exist_ok=True
            )
        shutil.rmtree(out, ignore_errors=True)
        yield Outcome(kind=f"kill {name}", number=number, what=what, detail=detail)


def processes() -> multiprocessing.context.ForkServerContext:
    """Processes forked by a server that has imported what the commands need, before it has threads or state."""
    context = multiprocessing.get_context("forkserver")
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    context.set_forkserver_preload(list(PRELOADED))
    return context


@dataclass(frozen=True)
class _Undisturbed:
    """A finished command: its result, and how often it does each operation."""

    result: Mapping[str, str]
    operations: Mapping[str, int]


class _Shared:
    """What the kills share: the sounds, a finished training, the undisturbed runs."""

    def __init__(self, work: Path) -> None:
        self.work, self.data = work, make_esc50_folder(work / "data", per_fold=IN_FOLD, folds=2, seconds=0.5)
        self.known: dict[str, _Undisturbed] = {}

    def places(self, killed: Killed, out: Path) -> Places:
        """Folders of a run; the training that the command needs is done first."""
        trained = self.work / "undisturbed train"
        if killed.needs_training:
            self.undisturbed(TRAIN)
        return Places(data=self.data, trained=trained, out=out)

    def undisturbed(self, killed: Killed) -> _Undisturbed:
        """The command's undisturbed run, done once."""
        if killed.name not in self.known:
            places = self.places(killed, self.work / f"undisturbed {killed.name}")
            done = _run(killed, places, None)
            if done.status:
                raise RuntimeError(f"{killed.name}: fails without a kill: {done.text[-500:]}")
            counts = json.loads(Path(f"{places.out}.log.json").read_text())
            self.known[killed.name] = _Undisturbed(killed.result(places.out), counts)
        return self.known[killed.name]


def _kill_once(killed: Killed, out: Path, random: Generator, shared: _Shared) -> tuple[str, str]:
    places, undisturbed = shared.places(killed, out), shared.undisturbed(killed)
    moments: list[str] = []
    for _ in range(1 + int(random.random() < AGAIN_SHARE)):
        doom = _draw(undisturbed.operations, random)
        done = _run(killed, places, doom)
        later = f", {doom.delay_s:.2f} s later" if doom.delay_s else ""
        name = signal.Signals(doom.signal).name
        of = undisturbed.operations[doom.operation]
        moments.append(f"{name} at {doom.operation!r} {doom.number} of {of}{later} (status {done.status})")
        if "Traceback" in done.text and done.status != -signal.SIGKILL:
            return WRONG, f"{moments}: traceback of the killed command: {done.text[-300:]}"
        if done.status not in {*STOPPED, 0}:
            return WRONG, f"{moments}: {done.text[-300:]}"
        if half := _half_written(killed, out, undisturbed.result):
            return WRONG, f"{moments}: half written: {half}"
        if done.status == 0:
            break
    stopped = "(status 0)" not in moments[0]
    again = _run(killed, places, None)
    if again.status:
        return WRONG, f"{moments}: the rerun ends with status {again.status}: {again.text[-300:]}"
    result = killed.result(out)
    if result != undisturbed.result:
        names = sorted({name for name, _ in {*result.items()} ^ {*undisturbed.result.items()}})[:4]
        return WRONG, f"{moments}: the rerun differs: {names}"
    return (READ if stopped else CLEAR), "; ".join(moments)


def _draw(operations: Mapping[str, int], random: Generator) -> Doom:
    operation = pick(sorted(operations), random)
    return Doom(
        operation=operation,
        number=int(random.integers(operations[operation])) + 1,
        signal=signal.SIGTERM if random.random() < SIGTERM_SHARE else signal.SIGKILL,
        delay_s=float(random.uniform(0, LATER_S)) if random.random() < LATER_SHARE else 0.0,
        cut=float(random.random()),
    )


def _half_written(killed: Killed, out: Path, expected: Mapping[str, str]) -> list[str]:
    """Files of a killed command that are there under their names and are not those of a finished one."""
    half = [name for name, digest in files(out).items() if digest != expected.get(name, digest)] if out.exists() else []
    half = [name for name in half if not name.endswith(killed.growing or UNCOUNTED)]
    if (out / "records").exists():
        try:
            load_records(out / "records", warn=lambda line: None)
        except InputError as error:
            half.append(str(error))
    return half


@dataclass(frozen=True)
class _Done:
    """An ended command: its status, a signal's negative; and all it printed."""

    status: int
    text: str


def _run(killed: Killed, places: Places, doom: Doom | None) -> _Done:
    if not places.out.exists():
        places.out.mkdir(parents=True)
        killed.prepare(places)
    log, cache = f"{places.out}.log", places.out.with_name(f"{places.out.name}.cache")
    task = Task(
        function=killed.function,
        arguments=tuple(killed.arguments(places)),
        folders=(f"{places.out}{os.sep}", f"{places.data}{os.sep}", f"{cache}{os.sep}"),
        log=log,
        cache=str(cache),
        epochs=killed.epochs,
    )
    process = processes().Process(target=doomed.run, args=(task, doom))
    process.start()
    status = _wait(process)
    text = "".join(Path(f"{log}.{suffix}").read_text(errors="replace") for suffix in ("out", "err"))
    return _Done(status, text)


def _wait(process: BaseProcess) -> int:
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{process.name} did not end within {PATIENCE_S:.0f} s")
    return process.exitcode
