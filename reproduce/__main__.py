"""`python -m reproduce COMMAND`: parses the options and runs the command. Heavy imports come with the command."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import reproduce.blas  # noqa: F401  # the first, before NumPy
from reproduce.broken_pipe import until_reader_leaves
from reproduce.cli.parser import build_parser
from reproduce.errors import InputError
from reproduce.shadowing import foreign_place, require_own
from reproduce.training.signals import Stopped

EXIT_BAD_INPUT, EXIT_SIGNAL = 2, 128
EXIT_INTERRUPTED = EXIT_SIGNAL + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 2."""
    return until_reader_leaves(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        require_own(["models"], "mast-vs-ast")
        if hiding := foreign_place("reports"):
            print(f"note: {hiding} hides `python -m reports`: type `mast-vs-ast-report` here", file=sys.stderr)
        status: int = options.run_command(options)
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Stopped as error:
        print("stopped: the same command continues from the last checkpoint", file=sys.stderr)
        return EXIT_SIGNAL + error.number
    except KeyboardInterrupt:
        print("interrupted: what was recorded stays; the same command skips it", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
