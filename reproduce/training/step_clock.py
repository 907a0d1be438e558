"""Times the parts of training steps: on a GPU by events on its stream, so that the host does not wait for it."""

from __future__ import annotations

import time

import torch

Mark = float | torch.cuda.Event


class StepClock:
    """A clock whose marks can be compared later.

    Args:
        device: whose time is measured. A CPU computes at once; a GPU's marks are events on its current stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"

    def mark(self) -> Mark:
        """Now: in host time on a CPU, in the order of the stream on a GPU."""
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self, mark: Mark) -> None:
        """Block until the device has passed `mark`."""
        if isinstance(mark, torch.cuda.Event):
            mark.synchronize()

    def seconds(self, start: Mark, end: Mark) -> float:
        """Time between two marks that the device has passed."""
        if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            return start.elapsed_time(end) / 1000  # from milliseconds
        assert isinstance(start, float) and isinstance(end, float)
        return end - start
