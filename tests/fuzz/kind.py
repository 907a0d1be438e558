"""What a kind of input is, and how its runs call the command line."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.random import Generator

from reproduce.errors import InputError


def _nothing(seeds: Path) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of input.

    Args:
        name: in the table of counts.
        prepare: `prepare(seeds)` writes valid inputs, and what else a run needs, to an empty folder.
        mutate: `mutate(seeds, case, random)` writes one damaged input to the empty folder `case`.
        run: `run(case, seeds)` gives the input to the code under test. It returns the output, in which no NaN may be,
            and raises InputError for a message of one line; other exceptions are faults.
        warm_up: imports and loads what runs share, before memory is bounded.
    """

    name: str
    prepare: Callable[[Path], None]
    mutate: Callable[[Path, Path, Generator], None]
    run: Callable[[Path, Path], Any]
    warm_up: Callable[[Path], object] = _nothing


class BadEnd(Exception):
    """A command that ended neither well nor with one line for the user."""


def command(*arguments: str | Path) -> str:
    """What `python -m reproduce ARGUMENTS` prints.

    Raises:
        InputError: status 2 with one line on stderr that begins with "error: "; the line.
        BadEnd: another status, or status 2 without that line.
    """
    from reproduce.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    if not status:
        return out.getvalue()
    lines = [line for line in err.getvalue().split("\n") if line.startswith("error: ")]
    if status != 2 or len(lines) != 1 or not err.getvalue().endswith(f"{lines[0]}\n"):
        raise BadEnd(f"status {status}: {err.getvalue()[-300:]}")
    raise InputError(lines[0])
