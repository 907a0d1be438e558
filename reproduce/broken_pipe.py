"""End a command silently when the reader of its output has left, as in `predict ... | head -1`. No torch here."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import TextIO


def until_reader_leaves(command: Callable[[], int]) -> int:
    """Run a command and flush what it printed.

    Returns:
        The command's status; 0 where the reader of stdout or stderr closed the pipe, since it has what it wanted.

    Raises:
        BrokenPipeError: of another pipe, such as one to a worker process.
    """
    try:
        try:
            return command()
        finally:  # also after argparse's SystemExit; the flush at exit could no longer be caught
            sys.stdout.flush()
    except BrokenPipeError:
        if not any(map(_has_no_reader, (sys.stdout, sys.stderr))):
            raise
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # progress bars close on stderr; buffered text goes nowhere
            os.dup2(silent, stream.fileno())
        return 0


def _has_no_reader(stream: TextIO) -> bool:
    """Whether a stream writes to a pipe whose other end is closed."""
    polled = select.poll()
    polled.register(stream.fileno(), 0)  # errors and hang-ups are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in polled.poll(0))
