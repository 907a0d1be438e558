"""What a worker is to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Part:
    """Inputs of one kind.

    Args:
        target: "MODULE:NAME" of the Kind.
        name: of the kind.
        first: number of the first input.
        stop: number behind the last input.
    """

    target: str
    name: str
    first: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """Inputs of one or more kinds.

    Args:
        parts: see there.
        seed: of all draws.
        work: folder for the seeds and for the input in progress, a folder per kind.
        memory_mib: resident memory that one input may take beyond what the worker has before.
        saved: folder of a saved input, which is tried instead of new ones.
    """

    parts: tuple[Part, ...]
    seed: int
    work: str
    memory_mib: int
    saved: str = ""

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "parts": tuple(Part(**part) for part in values["parts"])})
