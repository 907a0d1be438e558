"""Bad code, to show that the harness finds what it looks for."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.kind import Kind
from numpy.random import Generator

from reproduce.errors import InputError

FAULT, ODD = 0, 1


def _mutate(seeds: Path, case: Path, random: Generator) -> None:
    (case / "number").write_text(str(random.integers(4)))


def _planted(name: str, fault: Callable[[], Any]) -> Kind:
    """A quarter of the inputs meets the fault, a quarter is refused, and the others are read."""

    def run(case: Path, seeds: Path) -> Any:
        number = int((case / "number").read_text())
        if number == FAULT:
            return fault()
        if number == ODD:
            raise InputError(f"{case}: 1: give another number")
        return number

    return Kind(name=name, prepare=lambda seeds: None, mutate=_mutate, run=run)


def _raise() -> None:
    raise KeyError("planted")


def _hang() -> None:
    while True:
        time.sleep(1)


def _crash() -> None:
    ctypes.string_at(0)


def _take_memory() -> int:
    return int(np.ones(60 << 20, np.uint8).sum())


def _many_lines() -> None:
    raise InputError("")


TRACEBACK = _planted("traceback", _raise)
HANG = _planted("hang", _hang)
CRASH = _planted("crash", _crash)
MEMORY = _planted("memory", _take_memory)
NAN = _planted("nan", lambda: {"score": [float("nan")]})
NAN_JSON = _planted("nan-json", lambda: '{"score": NaN}')
SILENT = _planted("silent", _many_lines)


def write_in_halves(arguments: list[str]) -> int:
    """A bad command to kill: it leaves half a file under its name, and takes that for a whole one."""
    path = Path(arguments[0]) / "result.json"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        for half in (b'{"a": ', b"1}"):
            os.write(descriptor, half)
        os.close(descriptor)
    return 0
