"""What a subcommand is, and the groups in which the help lists them. No torch here."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PROGRAM = "python -m reproduce"
# Group -> its title, and the command whose example the help shows.
GROUPS = {
    "start": ("start here", "table5"),
    "paper": ("the paper's tables and figures", "all"),
    "own": ("your own sounds", "train"),
    "data": ("data sets", "data audit"),
    "records": ("costs, speed and stored runs", "compare"),
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand.

    Args:
        name: what the user types.
        group: key of GROUPS under which the help lists it.
        help: one line for the list of commands.
        example: a complete command line.
        add_options: declares its options on a parser.
        run: "module:function" that takes the parsed options and returns the exit status; imported when it runs.
        defaults: further values of the parsed options.
    """

    name: str
    group: str
    help: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: str
    defaults: dict[str, Any] = field(default_factory=dict)

    def __call__(self, options: argparse.Namespace) -> int:
        module, _, function = self.run.partition(":")
        status: int = getattr(importlib.import_module(module), function)(options)
        return status
