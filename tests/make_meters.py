"""Meters for tests: no energy, no GPU, and a stated load of other processes."""

from __future__ import annotations

from typing import Any

from reproduce.efficiency.meters import Meters


class StatedLoad:
    """Stands in for LoadWatch."""

    def __init__(self, busy: bool = False) -> None:
        self.busy = busy

    def conditions(self) -> dict[str, Any]:
        return {"other_cores": float(self.busy), "busy": self.busy}


def make_meters(kind: str = "cpu", energy: Any = None, gpu: Any = None, busy: bool = False) -> Meters:
    """Make the meters of a machine on which other processes keep one core busy, or none."""
    return Meters(kind, energy, gpu, lambda: StatedLoad(busy))  # type: ignore[arg-type, return-value]
