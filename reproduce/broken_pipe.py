"""End a command when its output cannot be written: silently where the reader has left, as in `predict ... | head -1`.

No torch here.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO


def until_reader_leaves(command: Callable[[], int]) -> int:
    """Run a command and flush what it printed.

    Returns:
        The command's status; 0 where the reader of stdout or stderr closed the pipe, since it has what it wanted; 2
        and a line on stderr where the disk is full.

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
        _silence(sys.stdout, sys.stderr)  # progress bars close on stderr; buffered text goes nowhere
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        with suppress(OSError):  # stderr may lie on the same disk
            place = error.filename or "the output"
            print(f"error: {place}: {error.strerror}: free some and run it again", file=sys.stderr)
        _silence(sys.stdout, sys.stderr)
        return 2


def _silence(*streams: TextIO) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(silent, stream.fileno())


def _has_no_reader(stream: TextIO) -> bool:
    """Whether a stream writes to a pipe whose other end is closed."""
    polled = select.poll()
    polled.register(stream.fileno(), 0)  # errors and hang-ups are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in polled.poll(0))
