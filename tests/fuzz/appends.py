"""Several processes append records to one file at once, and one of them is killed: none that was written is lost."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path

from fuzz import doomed
from fuzz.doomed import Doom, Task
from fuzz.mutators import pick
from fuzz.outcomes import CLEAR, READ, WRONG
from make_records import make_record
from numpy.random import Generator

from reproduce.errors import InputError
from reproduce.records.store import append_record, load_records

APPENDS = "append"
WRITERS, RECORDS = 3, 8
HISTORY = 400  # epochs: a line is longer than a page of the disk
OPERATIONS = ("write .jsonl", "fsync .jsonl", "open .jsonl", "open .lock")
PATIENCE_S = 120.0


def append_all(arguments: list[str]) -> int:
    """Append the records of one writer that are not there yet; note each when it is written."""
    folder, noted, writer = Path(arguments[0]), arguments[1], int(arguments[2])
    present = {run.key for run in load_records(folder, warn=lambda line: None)}
    for key in _keys(writer):
        if key not in present:
            append_record(folder, _record(key))
            with open(noted, "a") as file:
                file.write(f"{key}\n")
    return 0


def kill_appends(out: Path, random: Generator, context: ForkServerContext) -> tuple[str, str]:
    """One kill, as `kill_commands` counts it."""
    out.mkdir(parents=True)
    folder, noted = out / "records", out / "noted"
    doom = Doom(
        operation=pick(OPERATIONS, random),
        number=int(random.integers(RECORDS)) + 1,
        signal=signal.SIGKILL,
        cut=float(random.random()),
    )
    moment = f"SIGKILL at {doom.operation!r} {doom.number}"
    statuses, errors = _append(context, out, doom)
    if errors:
        return WRONG, f"{moment}: while others append: {errors[0]}"
    if statuses[1:] != [0] * (WRITERS - 1):
        return WRONG, f"{moment}: the others end with {statuses[1:]}"
    written = _loaded(folder)
    lost = sorted({*noted.read_text().split()} - {*written})
    if lost or max(written.values()) > 1:
        return WRONG, f"{moment}: lost {lost}, {written}"
    again, errors = _append(context, out, None)
    if errors or again != [0] * WRITERS:
        return WRONG, f"{moment}: the rerun ends with {again}: {errors[:1]}"
    if _loaded(folder) != Counter(key for writer in range(WRITERS) for key in _keys(writer)):
        return WRONG, f"{moment}: after the rerun: {_loaded(folder)}"
    for line in (folder / "train.jsonl").read_text().splitlines():
        if json.loads(line) != json.loads(_line(json.loads(line)["key"])):
            return WRONG, f"{moment}: a record was changed"
    return (READ if statuses[0] == -signal.SIGKILL else CLEAR), f"{moment} (status {statuses[0]})"


def _append(context: ForkServerContext, out: Path, doom: Doom | None) -> tuple[list[int | None], list[str]]:
    """Statuses of the writers, of which the first is doomed; and what a reader met meanwhile."""
    writers = []
    for number in range(WRITERS):
        task = Task(
            function="fuzz.appends:append_all",
            arguments=(str(out / "records"), str(out / "noted"), str(number)),
            folders=(f"{out / 'records'}{os.sep}",),
            log=str(out / f"log{number}"),
            cache=str(out / "cache"),
        )
        writers.append(context.Process(target=doomed.run, args=(task, None if number else doom)))
    for writer in writers:
        writer.start()
    errors = []
    while any(writer.is_alive() for writer in writers):
        try:
            load_records(out / "records", warn=lambda line: None)
        except InputError as error:
            errors.append(str(error))
        writers[0].join(0.01)
    for writer in writers:
        writer.join(PATIENCE_S)
    return [writer.exitcode for writer in writers], errors


def _loaded(folder: Path) -> Counter[str]:
    return Counter(run.key for run in load_records(folder, warn=lambda line: None))


def _keys(writer: int) -> list[str]:
    return [f"{writer}-{number}" for number in range(RECORDS)]


def _record(key: str):
    return make_record(key=key, history=tuple({"epoch": epoch, "loss": 1.0 / epoch} for epoch in range(1, HISTORY)))


def _line(key: str) -> str:
    from reproduce.records.store import to_line

    return to_line(_record(key))
