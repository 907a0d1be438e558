"""SIGTERM and SIGINT as requests: finish the step, write a checkpoint, then end the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(Exception):
    """A signal asked the run to stop; the same command resumes from its last checkpoint.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Record SIGTERM and SIGINT in the yielded list instead of terminating. A second signal has its default effect.

    Under torchrun only a second SIGINT has: a scheduler sends SIGTERM to every process, and torchrun sends it again.
    Does nothing outside the main thread, where Python allows no signal handlers.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before: dict[int, Any] = {}

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT or "TORCHELASTIC_RUN_ID" not in os.environ:
            signal.signal(number, before[number])

    for caught in (signal.SIGTERM, signal.SIGINT):
        before[caught] = signal.signal(caught, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
