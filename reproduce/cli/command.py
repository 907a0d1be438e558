"""Define a subcommand, and the groups of subcommands in the help. No torch here."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reproduce.collector import freeze_modules

PROGRAM = "python -m reproduce"
# Group -> title, and the command whose example the help shows.
GROUPS = {
    "start": ("start here", "table5"),
    "paper": ("the paper's tables and figures", "all"),
    "sounds": ("your own sounds", "train"),
    "folds": ("studies on a folder in ESC-50's layout", "equal_macs"),
    "data": ("data sets", "data audit"),
    "records": ("costs, speed and stored runs", "compare"),
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand.

    Args:
        name: name on the command line.
        group: key of GROUPS.
        help: one line for the list of commands.
        example: a complete command line.
        add_options: function that adds the options to a parser.
        run: "module:function", imported when the command runs; it takes the parsed options and returns the exit status.
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
        """Import and run the command; return the exit status."""
        module, _, function = self.run.partition(":")
        run = getattr(importlib.import_module(module), function)
        freeze_modules()
        status: int = run(options)
        return status
