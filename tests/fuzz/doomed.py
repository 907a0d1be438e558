"""A command in a process that dies when it has come so far: at one of its own file operations, never by a clock.

`run` is the process. It counts the operations on files below given folders (opening, renaming, removing, writing,
flushing), by name; a Doom names one of them. So the moment of a kill does not depend on the load of the machine, and
every stage that touches a file is met: decoding, checkpoints, records, figures.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import multiprocessing
import os
import re
import signal
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"^\.(.+)\.[^.]+\.tmp$")  # of reproduce.files.write_whole
AUDITED = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0}  # event -> which argument is the path


@dataclass(frozen=True, kw_only=True)
class Doom:
    """When and how a process ends.

    Args:
        operation: its name, see `operation_name`.
        number: which of these operations, from 1.
        signal: that the process sends itself, before the operation is done.
        delay_s: time from the operation to the signal; the process goes on meanwhile.
        cut: share of the bytes of a write that reach the file; with SIGKILL and no delay.
    """

    operation: str
    number: int
    signal: int
    delay_s: float = 0.0
    cut: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a process runs.

    Args:
        function: "MODULE:NAME" of a function that takes the arguments and returns an exit status.
        arguments: see there.
        folders: operations on files below these are counted.
        log: stdout goes to LOG.out, stderr to LOG.err; a process that is not doomed writes its counts to LOG.json.
        cache: of the user, in place of ~/.cache.
        epochs: of the debug preset's recipe.
    """

    function: str
    arguments: tuple[str, ...]
    folders: tuple[str, ...]
    log: str
    cache: str
    epochs: int = 0


def run(task: Task, doom: Doom | None) -> None:
    """Do the task and exit with its status, or die."""
    os.environ |= {"XDG_CACHE_HOME": task.cache, "OMP_NUM_THREADS": "1"}
    _redirect(task.log)
    multiprocessing.set_start_method(None, force=True)  # the command's own processes start as they do outside of here
    if task.epochs:
        from make_runs import lengthen_debug

        lengthen_debug(task.epochs)
    import torch

    torch.set_num_threads(1)
    module, _, name = task.function.partition(":")
    function = getattr(importlib.import_module(module), name)
    watch = _Watch(task.folders, doom)
    try:
        status = function(list(task.arguments))
    except SystemExit as error:
        status = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    watch.wait()
    if doom is None:
        Path(f"{task.log}.json").write_text(json.dumps(watch.counts))
    sys.exit(status)


def _redirect(log: str) -> None:
    for descriptor, suffix in ((1, "out"), (2, "err")):
        opened = os.open(f"{log}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def operation_name(operation: str, path: str) -> str:
    """The operation with the kind of the file: "os.rename .pt", "open .npz~" (a temporary file)."""
    name = os.path.basename(path)
    temporary = TEMPORARY.match(name)
    suffix = os.path.splitext(temporary[1] if temporary else name)[1] or name
    return f"{operation} {suffix}{'~' if temporary else ''}"


class _Watch:
    """Counts the operations of this process (not of those that it forks), and ends it at one of them."""

    def __init__(self, folders: Sequence[str], doom: Doom | None) -> None:
        self.folders, self.doom, self.owner = tuple(folders), doom, os.getpid()
        self.counts: Counter[str] = Counter()
        self.timer: threading.Thread | None = None
        self.true_write, self.true_fsync = os.write, os.fsync
        os.write, os.fsync = self._write, self._fsync  # this process ends with the command
        sys.addaudithook(self._audit)

    def wait(self) -> None:
        """For a signal that is on its way."""
        if self.timer is not None:
            self.timer.join()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in AUDITED and os.getpid() == self.owner and isinstance(arguments[AUDITED[event]], (str, bytes)):
            path = os.fsdecode(arguments[AUDITED[event]])
            if path.startswith(self.folders) and self._is_due(operation_name(event, path)):
                self._die()

    def _write(self, descriptor: int, data: Any) -> int:
        path = self._file(descriptor)
        if path is not None and self._is_due(operation_name("write", path)):
            assert self.doom is not None
            if not self.doom.delay_s and self.doom.signal == signal.SIGKILL:
                self.true_write(descriptor, bytes(data)[: int(len(data) * self.doom.cut)])
            self._die()
        return self.true_write(descriptor, data)

    def _fsync(self, descriptor: int) -> None:
        path = self._file(descriptor)
        if path is not None and self._is_due(operation_name("fsync", path)):
            assert self.doom is not None
            if not self.doom.delay_s and self.doom.signal == signal.SIGKILL:
                self._cut(descriptor)
            self._die()
        self.true_fsync(descriptor)

    def _file(self, descriptor: int) -> str | None:
        """The path of a regular file below the folders."""
        if os.getpid() != self.owner or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        return path if path.startswith(self.folders) else None

    def _cut(self, descriptor: int) -> None:
        """Take back a part of what was written: of the last line where lines are appended."""
        assert self.doom is not None
        size, first = os.fstat(descriptor).st_size, 0
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
            content = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            first = content[:-1].rfind(b"\n") + 1
        os.ftruncate(descriptor, first + int((size - first) * self.doom.cut))

    def _is_due(self, operation: str) -> bool:
        self.counts[operation] += 1
        doom = self.doom
        return doom is not None and operation == doom.operation and self.counts[operation] == doom.number

    def _die(self) -> None:
        assert self.doom is not None
        if not self.doom.delay_s:
            os.kill(self.owner, self.doom.signal)
            return
        self.timer = threading.Thread(target=self._die_later, daemon=True)
        self.timer.start()

    def _die_later(self) -> None:
        assert self.doom is not None
        time.sleep(self.doom.delay_s)
        os.kill(self.owner, self.doom.signal)
